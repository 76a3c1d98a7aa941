"""The step of every method as an ONNX graph has the gradients of PyTorch's own modules in 64 bits."""

import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.cases import small
from tests.support.onnx_graphs import run, traced
from tests.support.sampled import sampled
from tinytl.build import build_model
from tinytl.config.plan import lean_plan
from tinytl.config.train_config import TrainConfig
from tinytl.export.training.traced_step import lean_network, traced_prediction, traced_step
from tinytl.export.training.translation import translated
from tinytl.networks.dropout import RowwiseDropout
from tinytl.training.step import InputNormalizer

CASES: dict[str, dict[str, Any]] = {
    "biases, one picture": {"method": "TinyTL-B", "batch_size": 1},
    "group norm, standardised": {
        "method": "TinyTL-B", "norm": "group_norm", "backbone": "efficientnet_lite0",
        "weight_standardization": True,
    },
    "part of the channels": {"method": "Sparse", "channel_ratio": 0.5, "update_layers": "pw1+dw+pw2"},
    "lite, bicubic": {"method": "TinyTL-L+B", "upsample_type": "bicubic", "act_func": "h_swish"},
    "lite, global, group norm": {
        "method": "TinyTL-L", "norm": "group_norm", "downsample_ratio": None, "act_func": "tanh",
    },
    "last blocks": {"method": "Last-3", "backbone": "efficientnet_lite0"},
    "head": {"method": "FT-Last"},
    "norms": {"method": "FT-Norm+Last", "backbone": "proxylessnas_mobile"},
    "lite, nearest, group norm": {
        "method": "TinyTL-L+B", "norm": "group_norm", "upsample_type": "nearest", "act_func": "sigmoid",
        "backbone": "proxylessnas_mobile",
    },
    "biases": {"method": "TinyTL-B"},
    "recomputed, 8 bits": {"method": "TinyTL-L+B", "checkpoint": "all", "frozen_weights": "int8"},
    "recomputed": {"method": "FT-Full", "checkpoint": "depthwise"},
    "16 bits": {"method": "TinyTL-B", "frozen_weights": "bfloat16"},
    "SiLU, gates": {"method": "TinyTL-B", "backbone": "torchvision/efficientnet_b0", "batch_size": 1},
    "layer norm, GELU": {"method": "TinyTL-B", "backbone": "timm/test_convnext"},
    "edits of views": {"method": "TinyTL-B", "backbone": "timm/ghostnet_100"},
    "strided products": {"method": "Last-3", "backbone": "torchvision/regnet_y_400mf"},
    "lite, odd maps": {"method": "TinyTL-L+B", "resolution": 72, "kernel_size": 5, "act_func": "h_sigmoid"},
}  # fmt: skip


def config_of(case: str) -> TrainConfig:
    fields = {"norm": "frozen_bn", "resolution": 64, "batch_size": 2, "num_classes": 5, "dropout": 0.2}
    return lean_plan(small(**fields | CASES[case]))


def stock_network(config: TrainConfig) -> nn.Module:
    """With statistics and biases of which each affects the gradients."""
    torch.manual_seed(0)
    net = build_model(dataclasses.replace(config, engine="stock", checkpoint="none")).net
    for name, buffer in net.named_buffers():
        if "running_mean" in name:
            buffer.normal_(0, 0.1)
        if "running_var" in name:
            buffer.uniform_(0.5, 1.5)
    for parameter in net.parameters():
        if parameter.dim() == 1:
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    return net


def batch_of(config: TrainConfig, features: int) -> dict[str, Tensor]:
    n, side = config.batch_size, config.resolution
    return {
        "images": torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8),
        "labels": torch.randint(0, 5, (n,)),
        "weights": torch.rand(n) + 0.5,
        "keep": (torch.rand(n, features) > 0.2) / 0.8,
    }


@pytest.mark.parametrize("case", sampled(CASES, 3))
def test_a_step_has_the_gradients_of_stock_in_64_bits(case: str) -> None:
    config = config_of(case)
    stock = stock_network(config)
    net = lean_network(config, stock.state_dict())
    (dropout,) = (module for module in stock.modules() if isinstance(module, RowwiseDropout))
    step = traced_step(net, config)
    models = translated(step, "step"), translated(traced_prediction(net, config), "predict")
    own = {name: p for name, p in stock.named_parameters() if p.requires_grad}
    arrays = {name: p.detach().numpy().copy() for name, p in own.items()}
    assert step.outputs == ("loss", "hits", *(f"grad:{name}" for name in own))
    stock.double()
    normalize, worst = InputNormalizer(config, torch.device("cpu")), []
    for seed in range(5):  # in 32 bits an activation may lie on the other side of a kink
        torch.manual_seed(seed)
        batch = batch_of(config, dropout.features)
        loss, hits, *grads = run(models[0], arrays | {name: one.numpy() for name, one in batch.items()})
        (logits,) = run(models[1], arrays | {"images": batch["images"].numpy()})

        stock.train().zero_grad()
        dropout.drawn = batch["keep"].double() * 0.8
        images = normalize(batch["images"]).double()
        expected = stock(images)
        smoothing = config.label_smoothing
        losses = F.cross_entropy(expected, batch["labels"], reduction="none", label_smoothing=smoothing)
        total = (losses * batch["weights"].double()).sum()
        total.backward()
        assert float(loss) == pytest.approx(total.item(), rel=1e-4)
        assert int(hits) == int((expected.argmax(1) == batch["labels"]).sum())
        with torch.no_grad():
            predicted = stock.eval()(images)
        torch.testing.assert_close(torch.from_numpy(logits).double(), predicted, rtol=1e-3, atol=1e-3)
        worst.append(max(_off(grad, p) for grad, p in zip(grads, own.values(), strict=True)))
        if worst[-1] < 1e-4:
            break
    assert min(worst) < 1e-4, worst


def _off(found: Any, parameter: Tensor) -> float:
    """By how much a gradient is off, relative to its norm."""
    assert parameter.grad is not None
    return float((torch.from_numpy(found).double() - parameter.grad).norm() / parameter.grad.norm())


def test_a_picture_without_weight_adds_nothing() -> None:
    config = config_of("head")
    net = lean_network(config, stock_network(config).state_dict())
    own = {name: p.detach().numpy() for name, p in net.named_parameters() if p.requires_grad}
    model = translated(traced_step(net, config), "step")
    batch = batch_of(config, 1280)
    batch["weights"] = torch.tensor([1.0, 0.0])
    one = run(model, own | {name: tensor.numpy() for name, tensor in batch.items()})
    batch["images"][1], batch["labels"][1] = 255, (batch["labels"][1] + 1) % 5
    for found, expected in zip(run(model, own | {k: v.numpy() for k, v in batch.items()}), one, strict=True):
        assert (found == expected).all()


@pytest.mark.parametrize("form", ["float32", "int8"])
def test_frozen_weights_are_in_a_graph_once(form: str) -> None:
    config = dataclasses.replace(config_of("biases, one picture"), frozen_weights=form)
    net = lean_network(config, stock_network(config).state_dict())
    n_numbers = sum(p.numel() for p in net.parameters()) + sum(b.numel() for b in net.buffers())
    model = translated(traced_step(net, config), "step")
    assert model.ByteSize() < 1.2 * n_numbers * {"float32": 4, "int8": 1}[form]


def test_what_has_no_translation_is_named() -> None:
    def function(x: Tensor) -> tuple[Tensor]:
        return (torch.linalg.inv(x),)

    with pytest.raises(NotImplementedError, match=r"linalg_inv.* has no translation"):
        translated(traced(function, torch.eye(2, dtype=torch.float64)), "inverse")


def test_random_numbers_are_refused() -> None:
    def function(x: Tensor) -> tuple[Tensor]:
        return (x.bernoulli(0.5),)

    with pytest.raises(NotImplementedError, match=r"bernoulli.* the same in every step"):
        translated(traced(function, torch.ones(2, 2, dtype=torch.float64)), "random")


def test_memory_that_was_edited_through_another_view_is_not_read() -> None:
    def function(x: Tensor) -> tuple[Tensor]:
        y = x * 2
        view = y.view(-1)
        y.mul_(3)
        return (view + 1,)

    with pytest.raises(NotImplementedError, match="read after its memory was edited"):
        translated(traced(function, torch.ones(2, 2, dtype=torch.float64)), "views")


def test_memory_that_nobody_wrote_is_not_read() -> None:
    def function(x: Tensor) -> tuple[Tensor]:
        return (torch.empty(2, 2) + x,)

    with pytest.raises(NotImplementedError, match="nothing was written"):
        translated(traced(function, torch.ones(2, 2, dtype=torch.float64)), "empty")
