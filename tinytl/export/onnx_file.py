"""A trained network as ONNX, and its output compared with PyTorch's. Imports onnx's packages when used."""

import dataclasses
import importlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tinytl.build import build_model
from tinytl.errors import needs_extra
from tinytl.export.metadata import INPUT, OUTPUT, set_metadata_
from tinytl.networks.backbones.inverted_residual import SamePadConv2d
from tinytl.networks.stored_weights import whole_weights_
from tinytl.networks.surgery import set_class_
from tinytl.networks.weight_standardization import (
    WeightStandardizedConv2d,
    WeightStandardizedSamePadConv2d,
    standardized,
)
from tinytl.runs.trained import TrainedNetwork

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
OPSET = 18
"""The oldest opset that torch's exporter writes, which most devices read."""


class DeviceNetwork(nn.Module):
    """`(N, 3, R, R)` RGB in [0, 1] to logits `(N, classes)`: normalises the input, then runs `net`."""

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Returns the logits."""
        return self.net((images - self.mean) / self.std)


def check_packages() -> None:
    """Raises ConfigError if a package is missing that the export needs."""
    with needs_extra("an export", "export"):
        for package in PACKAGES:
            importlib.import_module(package)


def device_network(trained: TrainedNetwork) -> DeviceNetwork:
    """Returns a copy of plain PyTorch modules, which ONNX has operators for, on the CPU for evaluation."""
    config = trained.config
    assert config.input_mean is not None and config.input_std is not None
    stock = dataclasses.replace(
        config, engine="stock", checkpoint="none", weights="none", lite_weights=None, device="cpu"
    )
    net = build_model(stock).net
    net.load_state_dict(trained.net.state_dict())
    whole_weights_(net)
    for module in net.modules():
        if isinstance(module, WeightStandardizedConv2d):  # once, not in every forward
            module.weight.data = standardized(module.weight.data)
            same_pad = isinstance(module, WeightStandardizedSamePadConv2d)
            set_class_(module, SamePadConv2d if same_pad else nn.Conv2d)
    return DeviceNetwork(net, config.input_mean, config.input_std).eval()


def onnx_bytes(net: DeviceNetwork, resolution: int, metadata: Mapping[str, str]) -> bytes:
    """Returns `net` as an ONNX file with `images` `(batch, 3, R, R)`, any batch, and `logits`.

    `metadata`: what the file says of itself (`tinytl.export.metadata`).
    """
    import onnx

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's, of its own calls
        exported = torch.onnx.export(
            net,
            (torch.rand(2, 3, resolution, resolution),),  # two: the exporter treats a batch of one as fixed
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes={INPUT: {0: torch.export.Dim("batch")}},
            opset_version=OPSET,
            custom_translation_table=_translations(),
            verbose=False,
        )
    assert exported is not None
    model = exported.model_proto
    set_metadata_(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Returns operators to export in our own way: torch would split a pooled map pixel by pixel."""
    from onnxscript import FLOAT, opset18

    def global_average(x: FLOAT, output_size: Sequence[int]) -> FLOAT:
        assert list(output_size) == [1, 1]  # no network here pools to another size
        return opset18.GlobalAveragePool(x)

    return {torch.ops.aten.adaptive_avg_pool2d.default: global_average}


def largest_difference(
    trained: TrainedNetwork, model: bytes, images: Tensor, batches: Sequence[int]
) -> float:
    """Returns the largest difference of a logit between onnxruntime and PyTorch; NaN if one is NaN.

    In units of the largest logit, if that is above 1.

    Args:
        trained: the network as trained, its engine included, on the CPU.
        model: an ONNX file of it.
        images: `(N, 3, R, R)` uint8.
        batches: numbers of images at a time, N in all.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    differences = []
    for batch in images.split(list(batches)):
        with torch.no_grad():
            expected = trained.net(trained.normalize(batch))
        (logits,) = session.run([OUTPUT], {INPUT: (batch.float() / 255).contiguous().numpy()})
        difference = (torch.from_numpy(logits) - expected).abs().max()
        differences.append(difference / expected.abs().max().clamp(min=1))
    return float(torch.stack(differences).max())
