"""A network for diagrams: layers with their real shapes, what trains, what is kept for backward.

The network of a configuration is built and run on fake tensors: nothing is computed, no weight is read.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from tinytl.config.train_config import TrainConfig
from tinytl.memory.fake_network import CPU, build_on_meta, to_fake_
from tinytl.networks.frozen_batch_norm import FrozenBatchNorm1d, FrozenBatchNorm2d
from tinytl.networks.lite_residual import LiteResidualModule
from tinytl.networks.update_methods import is_norm

Trained = Literal["all", "norms", "biases", "some", "nothing", "no parameters"]
KIB = 2**10


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer without layers inside."""

    name: str
    """Within its block, such as `conv.0.1`."""
    text: str
    """Its kind and settings: `conv 3x3, stride 2, depthwise`."""
    out_shape: tuple[int, ...]
    """`(C, H, W)`, or `(C,)` behind the global mean."""
    n_parameters: int
    trained: Trained


@dataclass(frozen=True, kw_only=True)
class Block:
    """One module of the backbone's `features`, or its classifier."""

    name: str
    kind: Literal["convolution", "inverted residual", "classifier"]
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    kernel_size: int
    stride: int
    expansion: float
    """Widest map relative to the input's channels; 1 if nothing expands."""
    shortcut: bool
    main: tuple[Layer, ...]
    lite: tuple[Layer, ...]
    """Of the lite residual; empty without."""
    main_trained: Trained
    lite_trained: Trained
    saved_kib: float
    """KiB per sample kept from forward for backward, with the configuration's engine."""


def network_shapes(config: TrainConfig) -> list[Block]:
    """Returns the blocks of the network of `config` (`num_classes` set), in order, the classifier last.

    Raises:
        ConfigError: if the network cannot be built.
    """
    if config.plan != "fast":  # memory is drawn for the configuration as it is, independent of its plan
        config = dataclasses.replace(config, plan="fast", budget_mib=None)
    config = dataclasses.replace(config, weights="none")
    plain_config = dataclasses.replace(config, engine="stock", checkpoint="none", frozen_weights="float32")
    plain = build_on_meta(plain_config).eval()
    net = build_on_meta(config)
    with FakeTensorMode():
        shapes = _trace(to_fake_(plain, CPU), torch.empty(1, 3, config.resolution, config.resolution))
        saved = _saved_bytes(to_fake_(net, CPU), config)
    features = plain.get_submodule("features")
    named = [(f"features.{name}", block) for name, block in features.named_children()]
    named.append(("classifier", plain.get_submodule("classifier")))
    return [
        _block(name, block, shapes, saved[name] / config.samples_in_memory / KIB) for name, block in named
    ]


def _saved_bytes(net: nn.Module, config: TrainConfig) -> dict[str, int]:
    """Returns the bytes that forward keeps for backward in each of `features.N` and in `classifier`.

    A tensor that two blocks keep counts in the first.
    """
    known = {t.untyped_storage()._cdata for t in [*net.parameters(), *net.buffers()]}
    alive: list[Tensor] = []  # a freed storage would give its address to the next
    saved: dict[str, int] = {}

    def count(name: str) -> Callable[[Tensor], Tensor]:
        saved[name] = 0

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in known:
                known.add(storage._cdata)
                alive.append(tensor)
                saved[name] += storage.nbytes()
            return tensor

        return pack

    x = torch.empty(config.samples_in_memory, 3, config.resolution, config.resolution)
    x = x.contiguous(memory_format=torch.channels_last)
    # The batch exists with or without backward.
    known.add(x.untyped_storage()._cdata)
    alive.append(x)
    for name, block in net.get_submodule("features").named_children():
        with torch.autograd.graph.saved_tensors_hooks(count(f"features.{name}"), _as_it_is):
            x = block(x)
    with torch.autograd.graph.saved_tensors_hooks(count("classifier"), _as_it_is):
        net.get_submodule("classifier")(x.mean((2, 3)) if x.dim() == 4 else x)
    return saved


def trained_part(parameters: Sequence[tuple[str, nn.Parameter]], norms: Sequence[str]) -> Trained:
    """Returns which of `parameters` (name and parameter) train; `norms` are the names of normalisations."""
    if not parameters:
        return "no parameters"
    trained = [name for name, parameter in parameters if parameter.requires_grad]
    if not trained:
        return "nothing"
    if len(trained) == len(parameters):
        return "all"
    if all(name.rpartition(".")[2] == "bias" for name in trained):
        return "biases"
    if all(name.rpartition(".")[0] in norms for name in trained):
        return "norms"
    return "some"


def describe_layer(layer: nn.Module) -> str:
    """Returns a layer's kind and settings in words."""
    if isinstance(layer, nn.Conv2d):
        kind = type(layer).__name__.removesuffix("Conv2d")
        text = f"{kind} conv" if kind else "conv"
        text += f" {layer.kernel_size[0]}x{layer.kernel_size[1]}"
        if layer.stride[0] > 1:
            text += f", stride {layer.stride[0]}"
        if layer.groups == layer.in_channels > 1:
            return f"{text}, depthwise"
        return f"{text}, {layer.groups} groups" if layer.groups > 1 else text
    if isinstance(layer, nn.GroupNorm):
        return f"group norm, {layer.num_channels // layer.num_groups} channels a group"
    if isinstance(layer, FrozenBatchNorm1d | FrozenBatchNorm2d):
        return "frozen batch norm"
    if is_norm(layer):
        return "batch norm"
    if isinstance(layer, nn.AvgPool2d):
        return f"average pool {layer.kernel_size}x{layer.kernel_size}"
    if isinstance(layer, nn.AdaptiveAvgPool2d):
        return "global average pool"
    if isinstance(layer, nn.Linear):
        return "linear"
    return type(layer).__name__


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


def _trace(net: nn.Module, x: Tensor) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Returns input and output shape of every module by name, in the order in which their forwards ended."""
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, args: Any, out: Any) -> None:
            shapes[name] = (tuple(args[0].shape[1:]), tuple(out.shape[1:]))

        return hook

    for name, module in net.named_modules():
        module.register_forward_hook(note(name))
    with torch.no_grad():
        net(x)
    return shapes


def _block(name: str, block: nn.Module, shapes: dict[str, Any], saved_kib: float) -> Block:
    is_lite = isinstance(block, LiteResidualModule)
    main_prefix = f"{name}.main_branch" if is_lite else name
    main = block.main_branch if isinstance(block, LiteResidualModule) else block
    main_layers = _layers(main, main_prefix, shapes)
    lite_layers: tuple[Layer, ...] = ()
    lite_trained: Trained = "no parameters"
    if isinstance(block, LiteResidualModule):
        lite_layers = _layers(block.lite_residual, f"{name}.lite_residual", shapes)
        ends = block.upsample_type if block.downsample_ratio is not None else "one pixel to all"
        lite_layers += (
            Layer(
                name="upsample",
                text=f"upsample, {ends}",
                out_shape=shapes[name][1],
                n_parameters=0,
                trained="no parameters",
            ),
        )
        lite_trained = _trained(block.lite_residual)
    convolutions = [layer for layer in main.modules() if isinstance(layer, nn.Conv2d)]
    in_shape, out_shape = shapes[name]
    inverted = hasattr(main, "use_res_connect")
    kind: Any = "inverted residual" if inverted else "convolution" if convolutions else "classifier"
    widest = max((conv.out_channels for conv in convolutions[:-1]), default=in_shape[0])
    return Block(
        name=name,
        kind=kind,
        in_shape=in_shape,
        out_shape=out_shape,
        kernel_size=max((conv.kernel_size[0] for conv in convolutions), default=1),
        stride=max((conv.stride[0] for conv in convolutions), default=1),
        expansion=widest / in_shape[0] if inverted else 1.0,
        shortcut=bool(getattr(main, "use_res_connect", False)),
        main=main_layers,
        lite=lite_layers,
        main_trained=_trained(main),
        lite_trained=lite_trained,
        saved_kib=saved_kib,
    )


def _layers(module: nn.Module, prefix: str, shapes: dict[str, Any]) -> tuple[Layer, ...]:
    inner = {
        f"{prefix}.{name}": layer for name, layer in module.named_modules() if not list(layer.children())
    }
    return tuple(
        Layer(
            name=name.removeprefix(f"{prefix}."),
            text=describe_layer(inner[name]),
            out_shape=shapes[name][1],
            n_parameters=sum(p.numel() for p in inner[name].parameters()),
            trained=trained_part(list(inner[name].named_parameters()), norms=()),
        )
        for name in shapes
        if name in inner
    )


def _trained(module: nn.Module) -> Trained:
    norms = [name for name, inner in module.named_modules() if is_norm(inner)]
    return trained_part(list(module.named_parameters()), norms)
