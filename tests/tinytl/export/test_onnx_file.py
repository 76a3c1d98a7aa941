"""What an exported network computes, for every method, norm and backbone; needs onnx."""

import warnings
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from tests.support.cases import small
from tests.support.exports import save_run
from tinytl.errors import ConfigError
from tinytl.export.onnx_file import (
    PACKAGES,
    DeviceNetwork,
    check_packages,
    device_network,
    largest_difference,
    onnx_bytes,
)
from tinytl.runs.trained import TrainedNetwork, load_trained

EXACT = 1e-3
KINDS: dict[str, dict[str, Any]] = {
    "bilinear, odd maps": {"method": "TinyTL-L+B", "resolution": 72, "kernel_size": 5, "expand": 2.0},
    "global pooling": {"method": "TinyTL-L", "norm": "batch_norm", "downsample_ratio": None},
    "bicubic, group norm": {
        "method": "TinyTL-L+B", "norm": "group_norm", "backbone": "proxylessnas_mobile",
        "upsample_type": "bicubic", "resolution": 64, "act_func": "h_swish",
    },
    "weight standardisation": {
        "method": "FT-Full", "norm": "group_norm", "backbone": "efficientnet_lite0",
        "weight_standardization": True, "resolution": 64,
    },
    "batch norm, reference kernels": {
        "method": "TinyTL-L", "norm": "batch_norm", "backbone": "efficientnet_lite0", "resolution": 50,
        "kernel_clipping": "reference", "upsample_type": "nearest", "act_func": "h_sigmoid",
    },
    "frozen weights in 8 bits": {
        "method": "TinyTL-L+B", "backbone": "efficientnet_lite0", "resolution": 50, "frozen_weights": "int8",
    },
    "frozen weights in 16 bits": {
        "method": "Last-3", "norm": "group_norm", "resolution": 64, "frozen_weights": "bfloat16",
    },
    "checkpoints": {"method": "Last-3", "backbone": "proxylessnas_mobile", "checkpoint": "depthwise"},
}  # fmt: skip


def trained(folder: Path, **fields: Any) -> TrainedNetwork:
    return load_trained(save_run(folder, small(**fields)), device="cpu")


def images(resolution: int) -> torch.Tensor:
    return torch.randint(
        0, 256, (5, 3, resolution, resolution), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainedNetwork, bytes]:
    network = trained(tmp_path_factory.mktemp("plain"), method="TinyTL-B")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return network, onnx_bytes(device_network(network), 32, {})


def check_graph(model: bytes) -> None:
    graph = onnx.load_model_from_string(model)
    assert [(item.domain, item.version) for item in graph.opset_import] == [("", 18)]
    assert len(graph.functions) == 0
    operators = {node.op_type for node in graph.graph.node}
    assert operators <= {
        "Add", "AveragePool", "Clip", "Concat", "Conv", "Div", "Gemm", "GlobalAveragePool", "HardSigmoid",
        "HardSwish", "InstanceNormalization", "Mul", "Pad", "Relu", "Reshape", "Resize", "Shape", "Sub",
    }, operators  # fmt: skip
    (given,) = graph.graph.input
    dims = [dim.dim_param or dim.dim_value for dim in given.type.tensor_type.shape.dim]
    assert given.name == "images" and dims[0] == "batch" and dims[1] == 3


@pytest.mark.slow  # test_folder.py compares an exported run
def test_it_computes_the_same_in_batches_of_any_size(plain: tuple[TrainedNetwork, bytes]) -> None:
    network, model = plain
    check_graph(model)
    assert largest_difference(network, model, images(32), [1, 3, 1]) < EXACT


@pytest.mark.slow
def test_another_network_differs(plain: tuple[TrainedNetwork, bytes], tmp_path: Path) -> None:
    network, model = plain
    other = trained(tmp_path, method="FT-Last")
    with torch.no_grad():
        other.net.get_submodule("classifier")[1].bias[2] += 0.25
    assert largest_difference(other, model, images(32), [5]) > 1e-3
    network.normalize.mean += 20.0  # an input that is normalised otherwise
    assert largest_difference(network, model, images(32), [5]) > 1e-3
    network.normalize.mean -= 20.0
    assert largest_difference(network, model, images(32), [5]) < EXACT
    with torch.no_grad():
        other.net.get_submodule("classifier")[1].bias[2] = float("nan")
    assert not largest_difference(other, model, images(32), [5]) <= 1e3


@pytest.mark.parametrize("kind", KINDS)
def test_plain_modules_compute_what_was_trained(kind: str, tmp_path: Path) -> None:
    network = trained(tmp_path, **KINDS[kind])
    device = device_network(network)
    assert isinstance(device, DeviceNetwork) and not device.training
    lean = {type(module).__name__ for module in network.net.modules()}
    assert {type(module).__name__ for module in device.net.modules()} != lean
    batch = images(network.config.resolution)
    with torch.no_grad():
        expected = network.net(network.normalize(batch))
        assert expected.std(0).min() > 0.01, "the picture does not matter"
        difference = (device(batch.float() / 255) - expected).abs().max()
        assert difference / expected.abs().max() < EXACT


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_network(kind: str, tmp_path: Path) -> None:
    network = trained(tmp_path, **KINDS[kind])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = onnx_bytes(device_network(network), network.config.resolution, {})
    check_graph(model)
    assert largest_difference(network, model, images(network.config.resolution), [1, 3, 1]) < EXACT


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    check_packages()
    monkeypatch.setattr("tinytl.export.onnx_file.PACKAGES", (*PACKAGES, "no_such_package"))
    with pytest.raises(
        ConfigError,
        match=r"^an export needs the package no_such_package: pip install 'tinytl-tuner\[export\]'$",
    ):
        check_packages()
