"""What method Sparse trains: which convolutions, which of their input channels, biases of which blocks.

Source: MCUNetV3, "On-Device Training Under 256KB Memory", Lin et al. 2022, section 3.2: sparse layers, sparse
tensors (some input channels of a layer), and biases of the last layers.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tinytl.config.names import LAYER_KINDS, SPARSE_BLOCKS
from tinytl.config.train_config import TrainConfig
from tinytl.errors import ConfigError
from tinytl.networks.backbones import backbone_of
from tinytl.networks.backbones.inverted_residual import is_gate, is_inverted_residual
from tinytl.networks.lite_residual import LiteResidualModule
from tinytl.networks.stored_weights import train_channels_

PARTS = 8
"""Into so many parts the channels of a layer are divided, of which one after the other may be chosen."""
FLOAT_BYTES = 4
_BIAS = "bias"


class Layer(NamedTuple):
    """A convolution of an inverted residual whose weight may train."""

    block: int
    """Index in the network's `features`."""
    kind: str
    """One of `LAYER_KINDS`."""
    channels: int
    """Input channels."""
    weights_per_channel: int
    """Numbers of the weight that read one input channel."""
    pixels: int
    """Of the map that it reads."""

    @property
    def name(self) -> str:
        """Such as `12.pw1`."""
        return f"{self.block}.{self.kind}"

    def bytes_of(self, n_channels: int, config: TrainConfig) -> int:
        """Returns what it takes to train so many channels: their map of one sample, which backward reads, and
        their gradients and moments.
        """
        if config.optimizer == "sgd":
            moments = FLOAT_BYTES if config.momentum > 0 else 0
        else:
            moments = 2 * (FLOAT_BYTES if config.moments == "float32" else 1)
        of_weight = self.weights_per_channel * (FLOAT_BYTES + moments)
        return n_channels * (FLOAT_BYTES * self.pixels + of_weight)


class Part(NamedTuple):
    """Some input channels of a layer, which are chosen together."""

    layer: Layer
    channels: tuple[int, ...]


@dataclass(frozen=True)
class UpdateScheme:
    """What trains besides the head."""

    channels: Mapping[str, tuple[int, ...]]
    """By a layer's name, in the order of the network: the input channels that train, in order."""
    bias_from: int | None
    """The first feature block whose biases train, and those of all after it; None: no biases."""

    def text(self, layers: Sequence[Layer]) -> str:
        """Returns it as `update_scheme` holds it; `layers` are all that the network has."""
        words = []
        for layer in layers:
            found = self.channels.get(layer.name)
            if found is not None:
                whole = len(found) == layer.channels
                words.append(layer.name if whole else f"{layer.name}:{_mask(found, layer.channels)}")
        if self.bias_from is not None:
            words.append(f"{_BIAS}:{self.bias_from}")
        return " ".join(words)

    def describe(self, layers: Sequence[Layer]) -> str:
        """Returns it in words: `pw1 of blocks 12-17 (50% of 3072 channels), biases from block 12 on`."""
        words = []
        for kind in LAYER_KINDS:
            of_kind = [layer for layer in layers if layer.kind == kind and layer.name in self.channels]
            if of_kind:
                n_trained = sum(len(self.channels[layer.name]) for layer in of_kind)
                n_channels = sum(layer.channels for layer in of_kind)
                share = f"{n_trained / n_channels:.0%}" if n_trained > 0.01 * n_channels else f"{n_trained}"
                part = "" if n_trained == n_channels else f" ({share} of {n_channels} channels)"
                blocks = [layer.block for layer in of_kind]
                words.append(f"{kind} of block{'s' if len(blocks) > 1 else ''} {_ranges(blocks)}{part}")
        biases = "no biases" if self.bias_from is None else f"biases from block {self.bias_from} on"
        return ", ".join([*words, biases])


def layers_of(config: TrainConfig) -> tuple[Layer, ...]:
    """Returns every convolution of the blocks of the backbone of `config`, in order."""
    return _layers_of(config.backbone, config.resolution)


def scheme_of(config: TrainConfig) -> UpdateScheme:
    """Returns what `config`, of method Sparse, trains.

    Raises:
        ConfigError: if its `select` reads images, and nobody has chosen yet, or for a bad `update_scheme`.
    """
    if config.update_scheme is not None:
        return parse_scheme(config.update_scheme, config)
    if config.select != "last":
        raise ConfigError(
            f"select={config.select} reads your images, which nothing has done yet: `tinytl train` and a "
            "search do it; select last needs none"
        )
    return last_scheme(config)


def last_scheme(config: TrainConfig) -> UpdateScheme:
    """Returns the published choice: convolutions of the last blocks, the first channels of each."""
    ratio = config.channel_ratio or 1.0
    wanted = set(_last_blocks(config, config.update_blocks or SPARSE_BLOCKS, "update_blocks"))
    parts = [
        Part(layer, tuple(range(math.ceil(ratio * layer.channels))))
        for layer in candidates(config)
        if layer.block in wanted
    ]
    return scheme_of_parts(parts, config)


def candidates(config: TrainConfig) -> list[Layer]:
    """Returns the convolutions that may train, of the kinds of `update_layers`, in order."""
    kinds = config.update_layers.split("+")
    return [layer for layer in layers_of(config) if layer.kind in kinds]


def scheme_of_parts(parts: Iterable[Part], config: TrainConfig) -> UpdateScheme:
    """Returns the scheme that trains these parts, and the biases that `bias_blocks` says."""
    chosen: dict[Layer, set[int]] = {}
    for layer, channels in parts:
        chosen.setdefault(layer, set()).update(channels)
    order = [layer for layer in layers_of(config) if chosen.get(layer)]
    trained = {layer.name: tuple(sorted(chosen[layer])) for layer in order}
    return UpdateScheme(trained, _bias_from(config, order))


def whole(layer: Layer) -> Part:
    """Returns all channels of a layer."""
    return Part(layer, tuple(range(layer.channels)))


def parts_of_scheme(scheme: UpdateScheme, config: TrainConfig) -> list[Part]:
    """Returns the channels of each convolution that trains, in the order of the network."""
    return [
        Part(layer, scheme.channels[layer.name])
        for layer in layers_of(config)
        if layer.name in scheme.channels
    ]


def last_parts(config: TrainConfig) -> list[Part]:
    """Returns all parts in the order in which `select` `last` takes them: from the last layer on."""
    return [part for layer in reversed(candidates(config)) for part in parts_of(layer, range(layer.channels))]


def parts_of(layer: Layer, order: Sequence[int]) -> Iterator[Part]:
    """Divides a layer's channels, which come in this order, into `PARTS` of nearly the same size."""
    n_parts = min(PARTS, layer.channels)
    for index in range(n_parts):
        ends = [layer.channels * end // n_parts for end in (index, index + 1)]
        yield Part(layer, tuple(order[slice(*ends)]))


def bytes_of(parts: Iterable[Part], config: TrainConfig) -> int:
    """Returns what it takes to train these parts, see `Layer.bytes_of`."""
    return sum(layer.bytes_of(len(channels), config) for layer, channels in parts)


def parse_scheme(text: str, config: TrainConfig) -> UpdateScheme:
    """Reads what `UpdateScheme.text` returns.

    Raises:
        ConfigError: naming the word that is none, or that the backbone has not.
    """
    layers = {layer.name: layer for layer in layers_of(config)}
    last_block = max(_blocks(layers.values()))
    channels: dict[str, tuple[int, ...]] = {}
    bias_from = None
    words = text.split()
    names = [word.partition(":")[0] for word in words]
    for name, word in zip(names, words, strict=True):
        mask = word.partition(":")[2]
        if names.count(name) > 1:
            raise ConfigError(f"update_scheme={text!r} has {name} {names.count(name)} times: give each once")
        if name == _BIAS and mask.isdecimal() and int(mask) <= last_block:
            bias_from = int(mask)
        elif name in layers:
            channels[name] = _channels(mask, layers[name], word)
        else:
            raise ConfigError(f"update_scheme: {config.backbone} has no {word}: such as 12.pw1 or bias:12")
    if config.weight_standardization and any(
        len(channels[name]) < layers[name].channels for name in channels
    ):
        raise ConfigError(
            "update_scheme: with weight_standardization a convolution trains as a whole: each of its values "
            "depends on all of its filter"
        )
    if not channels:
        raise ConfigError(f"update_scheme={text!r} names no convolution: for biases alone use TinyTL-B")
    return UpdateScheme({name: channels[name] for name in layers if name in channels}, bias_from)


def apply_scheme_(net: nn.Module, scheme: UpdateScheme) -> None:
    """Lets the convolutions, channels and biases of `scheme` train, of a network in which nothing trains."""
    if scheme.bias_from is not None:
        for name, parameter in net.named_parameters():
            if name.startswith("features.") and name.endswith(".bias"):
                parameter.requires_grad_(int(name.split(".")[1]) >= scheme.bias_from)
    for name, channels in scheme.channels.items():
        conv = convolution(net, name)
        if len(channels) == conv.in_channels:
            conv.weight.requires_grad_(True)
        else:
            train_channels_(conv, channels)


def convolution(net: nn.Module, name: str) -> nn.Conv2d:
    """Returns the convolution of a layer's name, such as `12.pw1`."""
    block, kind = name.split(".")
    return _convolutions(net.get_submodule("features").get_submodule(block))[kind]


def _convolutions(block: nn.Module) -> dict[str, nn.Conv2d]:
    """Returns the convolutions of an inverted residual by kind; none of another block."""
    main = block.main_branch if isinstance(block, LiteResidualModule) else block
    assert isinstance(main, nn.Module)
    gates = {inner for module in main.modules() if is_gate(module) for inner in module.modules()}
    convs = [module for module in main.modules() if isinstance(module, nn.Conv2d) and module not in gates]
    depthwise = [1 < conv.groups == conv.in_channels for conv in convs]
    if depthwise not in ([True, False], [False, True, False]):
        return {}
    return dict(zip(LAYER_KINDS[-len(convs) :], convs, strict=True))


@lru_cache
def _layers_of(backbone: str, resolution: int) -> tuple[Layer, ...]:
    known = backbone_of(backbone)
    known.check_resolution(resolution)
    with torch.device("meta"):
        net = known.build(2).eval()
    layers: list[Layer] = []
    for index, block in enumerate(net.get_submodule("features").children()):
        if is_inverted_residual(block):
            for kind, conv in _convolutions(block).items():
                conv.register_forward_pre_hook(_describes(layers, index, kind))
    with torch.no_grad():
        net(torch.empty(1, 3, resolution, resolution, device="meta"))
    if not layers:
        raise ConfigError(
            f"method Sparse trains convolutions of inverted residuals, of which {backbone} has none: choose "
            "another method or backbone"
        )
    return tuple(layers)


def _describes(layers: list[Layer], block: int, kind: str) -> Any:
    def hook(conv: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(conv, nn.Conv2d)
        channels = conv.in_channels
        pixels = inputs[0].shape[2] * inputs[0].shape[3]
        layers.append(Layer(block, kind, channels, conv.weight.numel() // channels, pixels))

    return hook


def _ranges(numbers: Sequence[int]) -> str:
    """Returns rising numbers in words: `3, 12-17`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)


def _blocks(layers: Iterable[Layer]) -> list[int]:
    return sorted({layer.block for layer in layers})


def _bias_from(config: TrainConfig, trained: Sequence[Layer]) -> int | None:
    how = config.bias_blocks
    if how == "all":
        return 0
    if how == "same":
        return min((layer.block for layer in trained), default=None)
    if how == "none" or not how:
        return None
    return _last_blocks(config, int(how), "bias_blocks")[0]


def _last_blocks(config: TrainConfig, wanted: int, field: str) -> list[int]:
    """Returns the last blocks.

    Raises:
        ConfigError: if there are fewer, and somebody asked for so many.
    """
    blocks = _blocks(layers_of(config))
    if wanted > len(blocks) and getattr(config, field) is not None:
        raise ConfigError(f"{field}={wanted} is above the {len(blocks)} blocks of {config.backbone}")
    return blocks[-wanted:]


def _mask(channels: Sequence[int], n_channels: int) -> str:
    digits = -(-n_channels // 4)
    bits = sum(1 << (4 * digits - 1 - channel) for channel in channels)
    return f"{bits:0{digits}x}"


def _channels(mask: str, layer: Layer, word: str) -> tuple[int, ...]:
    if not mask:
        return tuple(range(layer.channels))
    digits = -(-layer.channels // 4)
    try:
        bits = int(mask, 16)
    except ValueError:
        bits = 0
    found = tuple(c for c in range(layer.channels) if bits >> (4 * digits - 1 - c) & 1)
    if len(mask) != digits or not found or bits >= 1 << 4 * digits or bits.bit_count() != len(found):
        raise ConfigError(
            f"update_scheme: {word}: the mask of {layer.channels} channels has {digits} hexadecimal digits, "
            "and a bit for one of them at least"
        )
    return found
