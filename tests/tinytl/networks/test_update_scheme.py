import dataclasses
import itertools

import pytest
import torch
import torch.nn.functional as F

from tests.support.cases import small
from tests.support.sampled import sampled
from tinytl.build import build_model
from tinytl.config.names import BACKBONES, BLOCKS, LAYER_KINDS
from tinytl.config.train_config import TrainConfig
from tinytl.errors import ConfigError
from tinytl.networks.backbones.inverted_residual import is_inverted_residual
from tinytl.networks.update_scheme import (
    PARTS,
    Part,
    bytes_of,
    candidates,
    convolution,
    last_parts,
    last_scheme,
    layers_of,
    parse_scheme,
    parts_of,
    parts_of_scheme,
    scheme_of,
    scheme_of_parts,
    whole,
)


def sparse(**changes: object) -> TrainConfig:
    return small(method="Sparse", resolution=64, dropout=0.0, **changes)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_layers_are_the_convolutions_of_every_block(backbone: str) -> None:
    config = sparse(backbone=backbone)
    net = build_model(dataclasses.replace(config, engine="stock")).net.eval()  # lean blocks call no module
    features = list(net.get_submodule("features").children())
    blocks = [index for index, block in enumerate(features) if is_inverted_residual(block)]
    assert len(blocks) == BLOCKS[backbone]
    sizes: dict[str, torch.Size] = {}
    for layer in layers_of(config):
        conv = convolution(net, layer.name)
        conv.register_forward_pre_hook(lambda _, x, name=layer.name: sizes.update({name: x[0].shape}))
        assert layer.channels == conv.in_channels
        assert layer.channels * layer.weights_per_channel == conv.weight.numel()
        assert (conv.groups > 1) == (layer.kind == "dw")
    net(torch.zeros(1, 3, 64, 64))
    for layer in layers_of(config):
        assert layer.pixels == sizes[layer.name][2] * sizes[layer.name][3]
    by_block = {
        block: [layer.kind for layer in layers_of(config) if layer.block == block] for block in blocks
    }
    assert next(iter(by_block.values())) == ["dw", "pw2"]  # the first block does not widen
    assert all(kinds == list(LAYER_KINDS) for kinds in list(by_block.values())[1:])


def test_the_published_choice_is_the_last_blocks() -> None:
    scheme = scheme_of(sparse())
    assert scheme == last_scheme(sparse()) and list(scheme.channels) == [f"{n}.pw1" for n in range(12, 18)]
    assert scheme.bias_from == 12
    half = scheme_of(sparse(channel_ratio=0.5, update_blocks=1, update_layers="pw1+dw"))
    assert {name: len(channels) for name, channels in half.channels.items()} == {"17.pw1": 80, "17.dw": 480}
    assert half.channels["17.pw1"] == tuple(range(80))
    few = scheme_of(sparse(channel_ratio=1e-9, update_blocks=1))
    assert few.channels == {"17.pw1": (0,)}


@pytest.mark.parametrize(
    ("bias_blocks", "expected"), [("same", 12), ("all", 0), ("none", None), (0, None), (3, 15), (17, 1)]
)
def test_biases_train_from_a_block_on(bias_blocks: int | str, expected: int | None) -> None:
    config = sparse(bias_blocks=bias_blocks)
    assert scheme_of(config).bias_from == expected
    trained = {n for n, p in build_model(config).net.named_parameters() if p.requires_grad}
    biases = {n for n in trained if n.startswith("features.") and n.endswith(".bias")}
    blocks = {int(n.split(".")[1]) for n in biases}
    assert blocks == (set() if expected is None else set(range(expected, 19)))
    weights = {n for n in trained if n.startswith("features.") and n.endswith(".weight")}
    assert weights == {f"features.{block}.conv.0.0.weight" for block in range(12, 18)}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"channel_ratio": 0.3, "update_layers": "pw1+dw+pw2", "update_blocks": 17, "bias_blocks": "all"},
        {"channel_ratio": 0.01, "bias_blocks": "none"},
    ],
)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_text_says_all(backbone: str, changes: dict[str, object]) -> None:
    config = sparse(backbone=backbone, **changes | {"update_blocks": min(BLOCKS[backbone], 16)})
    scheme = scheme_of(config)
    text = scheme.text(layers_of(config))
    assert parse_scheme(text, config) == scheme
    assert scheme_of(sparse(backbone=backbone, update_scheme=text)) == scheme


def test_a_mask_has_its_first_channel_first() -> None:
    found = parse_scheme("17.pw1:8" + 38 * "0" + "1", sparse())
    assert found.channels == {"17.pw1": (0, 159)} and found.bias_from is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("17.pw3", "has no 17.pw3"),
        ("1.pw1", "has no 1.pw1"),
        ("18.pw1 bias:12", "has no 18.pw1"),
        ("17.pw1:ff", "the mask of 160 channels has 40 hexadecimal digits"),
        ("17.pw1:" + 40 * "0", "a bit for one of them at least"),
        ("17.pw1:" + 40 * "g", "40 hexadecimal digits"),
        ("bias:3", "names no convolution"),
        ("17.pw1 bias:x", "has no bias:x"),
        ("17.pw1 bias:99", "has no bias:99"),
        ("", "names no convolution"),
    ],
)
def test_a_scheme_that_is_none(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_scheme(text, sparse())


def test_a_standardised_weight_trains_as_a_whole() -> None:
    config = sparse(norm="group_norm", weight_standardization=True)
    assert scheme_of(config).bias_from == 12
    part = dataclasses.replace(config, update_scheme="17.pw1:8" + 39 * "0")
    with pytest.raises(ConfigError, match="with weight_standardization a convolution trains as a whole"):
        scheme_of(part)


def test_a_word_given_twice_is_refused() -> None:
    for text, name in (("12.pw1 13.pw1 12.pw1", "12.pw1"), ("12.pw1 bias:3 bias:9", "bias")):
        config = sparse(update_scheme=text)
        with pytest.raises(ConfigError, match=f"has {name} 2 times: give each once$"):
            scheme_of(config)


def test_in_words() -> None:
    config = sparse(update_scheme="3.pw1 12.pw1:ff0000000000000000000000 13.pw1 17.dw bias:3")
    words = scheme_of(config).describe(layers_of(config))
    assert words == "pw1 of blocks 3, 12-13 (59% of 216 channels), dw of block 17, biases from block 3 on"
    assert scheme_of(sparse(bias_blocks="none")).describe(layers_of(sparse())) == (
        "pw1 of blocks 12-17, no biases"
    )
    few = sparse(update_layers="dw", update_blocks=1, channel_ratio=0.001)
    assert scheme_of(few).describe(layers_of(few)).startswith("dw of block 17 (1 of 960 channels), ")


def test_what_images_have_to_choose_is_said_to_be_so() -> None:
    with pytest.raises(ConfigError, match="select=fisher reads your images"):
        build_model(sparse(select="fisher"))


def test_parts_are_all_channels_each_once_in_order() -> None:
    config = sparse(update_layers="pw1+dw+pw2")
    layer = candidates(config)[-1]
    order = list(reversed(range(layer.channels)))
    parts = list(parts_of(layer, order))
    assert len(parts) == PARTS and [c for part in parts for c in part.channels] == order
    assert scheme_of_parts(last_parts(config), config).channels == {
        one.name: tuple(range(one.channels)) for one in layers_of(config)
    }
    first = last_parts(config)[:PARTS]
    assert {part.layer.name for part in first} == {"17.pw2"}


def test_bytes_are_a_sample_s_map_gradients_and_moments() -> None:
    layer = next(layer for layer in layers_of(sparse()) if layer.name == "17.pw1")
    assert layer.pixels == 4 and layer.weights_per_channel == 960
    for optimizer, numbers in (("adam", 3), ("adamw", 3), ("sgd", 2)):
        config = sparse(optimizer=optimizer)
        assert layer.bytes_of(10, config) == 10 * 4 * (4 + 960 * numbers)
        assert bytes_of([Part(layer, tuple(range(10))), whole(layer)], config) == layer.bytes_of(170, config)
    assert layer.bytes_of(1, sparse(optimizer="sgd", momentum=0.0)) == 4 * (4 + 960)
    assert layer.bytes_of(1, sparse(moments="int8")) == 4 * (4 + 960) + 2 * 960
    assert parts_of_scheme(last_scheme(sparse(update_blocks=1)), sparse()) == [whole(layer)]


@pytest.mark.parametrize(
    ("norm", "engine"),
    sampled(itertools.product(("frozen_bn", "group_norm", "batch_norm"), ("lean", "stock")), 5),
)
def test_part_s_gradients_are_those_of_the_whole_weight(norm: str, engine: str) -> None:
    config = sparse(
        norm=norm, engine=engine, channel_ratio=0.4, update_layers="pw1+dw+pw2", update_blocks=4,
        stock_below_kib=0.0,
    )  # fmt: skip
    found = _gradients(config)
    expected = _gradients(dataclasses.replace(config, channel_ratio=1.0, engine="stock"))
    most = max(float(grad.abs().max()) for grad in expected.values())
    scheme = scheme_of(config)
    for layer, channels in parts_of_scheme(scheme, config):
        name = next(n for n in expected if n.startswith(f"features.{layer.block}.") and _is(n, layer.kind))
        axis = 0 if layer.kind == "dw" else 1
        part = expected[name].index_select(axis, torch.tensor(channels))
        assert float((found[f"{name}_part"] - part).abs().max()) <= 1e-10 * most, layer.name
    for name in found.keys() & expected.keys():
        assert float((found[name] - expected[name]).abs().max()) <= 1e-10 * most, name
    assert any(name.endswith(".bias") for name in found.keys() & expected.keys())


def _is(name: str, kind: str) -> bool:
    return name.endswith({"pw1": ".conv.0.0.weight", "dw": ".conv.1.0.weight", "pw2": ".conv.2.weight"}[kind])


def _gradients(config: TrainConfig) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    net = build_model(config).net.double()
    torch.manual_seed(1)
    images = torch.rand(config.batch_size, 3, 64, 64, dtype=torch.float64)
    F.cross_entropy(net(images), torch.arange(config.batch_size) % 3).backward()
    return {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
