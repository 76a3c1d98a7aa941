from collections.abc import Callable

import pytest
import torch
from torch import nn

from tests.support.cases import small
from tests.support.sampled import sampled
from tinytl.build import build_model
from tinytl.config.names import BACKBONES, METHODS
from tinytl.memory.predict import predict_memory
from tinytl.plots.network_shapes import Block, describe_layer, network_shapes, trained_part

MIB_IN_KIB = 1024


def _by_name(blocks: list[Block]) -> dict[str, Block]:
    return {block.name: block for block in blocks}


@pytest.mark.parametrize("backbone", sampled(BACKBONES, 3))
def test_shapes_are_those_of_the_network(backbone: str) -> None:
    config = small(backbone=backbone, resolution=64, method="FT-Full", engine="stock")
    net = build_model(config).net.eval()
    seen: dict[str, tuple[int, ...]] = {}

    def note(name: str) -> Callable[..., None]:
        return lambda module, args, out: seen.update({name: tuple(out.shape[1:])})

    for name, module in net.named_modules():
        module.register_forward_hook(note(name))
    with torch.no_grad():
        net(torch.rand(1, 3, 64, 64))
    blocks = network_shapes(config)
    assert [block.name for block in blocks] == [
        *(f"features.{i}" for i in range(len(net.get_submodule("features")._modules))),
        "classifier",
    ]
    for block in blocks:
        assert block.out_shape == seen[block.name]
        assert [layer.out_shape for layer in block.main] == [
            seen[f"{block.name}.{layer.name}"] for layer in block.main
        ]
    n_parameters = sum(layer.n_parameters for block in blocks for layer in block.main)
    assert n_parameters == sum(p.numel() for p in net.parameters())


def test_a_lite_residual_block() -> None:
    block = _by_name(network_shapes(small(resolution=96, method="TinyTL-L+B", n_groups=4)))["features.3"]
    assert (block.in_shape, block.out_shape) == ((24, 24, 24), (24, 24, 24))
    assert (block.kernel_size, block.stride, block.expansion, block.shortcut) == (3, 1, 6.0, True)
    assert [(layer.text, layer.out_shape, layer.trained) for layer in block.lite] == [
        ("average pool 2x2", (24, 12, 12), "no parameters"),
        ("conv 3x3, 4 groups", (24, 12, 12), "all"),
        ("group norm, 8 channels a group", (24, 12, 12), "all"),
        ("ReLU", (24, 12, 12), "no parameters"),
        ("conv 1x1", (24, 12, 12), "all"),
        ("group norm, 8 channels a group", (24, 12, 12), "some"),
        ("upsample, bilinear", (24, 24, 24), "no parameters"),
    ]
    assert [layer.text for layer in block.main if layer.n_parameters] == [
        "conv 1x1",
        "frozen batch norm",
        "conv 3x3, depthwise",
        "frozen batch norm",
        "conv 1x1",
        "frozen batch norm",
    ]
    assert block.main_trained == "biases"


def test_global_pooling_adds_one_pixel_to_all() -> None:
    block = _by_name(network_shapes(small(method="TinyTL-L", downsample_ratio=None)))["features.3"]
    assert block.lite[0].text == "global average pool"
    assert block.lite[-1].text == "upsample, one pixel to all"
    assert block.lite[-1].out_shape == block.out_shape
    assert (block.main_trained, block.lite_trained) == ("nothing", "all")


@pytest.mark.parametrize("method", sampled(METHODS, 5))
def test_what_is_kept_adds_up_to_the_prediction(method: str) -> None:
    norm = "group_norm" if method == "Scratch" else "frozen_bn"
    config = small(method=method, norm=norm, resolution=64, engine="stock", batch_size=4)
    kept = sum(block.saved_kib for block in network_shapes(config)) * config.batch_size / MIB_IN_KIB
    parts = predict_memory(config).parts_mib
    # At its peak the prediction may stand within backward, where the first of it is gone.
    assert kept >= 0.95 * parts["saved_for_backward"]
    if method == "TinyTL-B":
        assert kept == pytest.approx(parts["saved_for_backward"], rel=0.01)


def test_the_lean_engine_keeps_less() -> None:
    lean, stock = (
        sum(
            block.saved_kib
            for block in network_shapes(small(method="TinyTL-B", resolution=96, engine=engine))
        )
        for engine in ("lean", "stock")
    )
    assert 0 < lean < stock / 4
    last = network_shapes(small(method="FT-Last"))
    assert [block.name for block in last if block.saved_kib > 0] == ["classifier"]


def test_the_batch_is_not_counted() -> None:
    """The stem's convolution reads it where its weights train, and nothing more."""
    full, norms = (
        network_shapes(small(method=method, engine="stock"))[0].saved_kib
        for method in ("FT-Full", "FT-Norm+Last")
    )
    assert full == norms > 0


def test_any_plan_can_be_drawn() -> None:
    assert network_shapes(small(plan="budget", budget_mib=1.0))[-1].out_shape == (3,)


@pytest.mark.parametrize(
    ("trained", "expected"),
    [
        (["0.weight", "0.bias", "1.weight", "1.bias"], "all"),
        (["1.weight", "1.bias"], "norms"),
        (["0.bias", "1.bias"], "biases"),
        (["0.weight"], "some"),
        ([], "nothing"),
    ],
)
def test_what_trains(trained: list[str], expected: str) -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8))
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name in trained)
    assert trained_part(list(net.named_parameters()), ["1"]) == expected
    assert trained_part([], []) == "no parameters"


def test_layers_in_words() -> None:
    assert describe_layer(nn.Conv2d(8, 8, 3, 2, groups=8)) == "conv 3x3, stride 2, depthwise"
    assert describe_layer(nn.Conv2d(8, 8, 5, groups=2)) == "conv 5x5, 2 groups"
    assert describe_layer(nn.BatchNorm2d(8)) == "batch norm"
    assert describe_layer(nn.GroupNorm(2, 8)) == "group norm, 4 channels a group"
    assert describe_layer(nn.Hardswish()) == "Hardswish"
    assert describe_layer(type("SamePadConv2d", (nn.Conv2d,), {})(3, 8, 3)) == "SamePad conv 3x3"
