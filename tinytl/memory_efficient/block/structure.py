"""Which modules are a block that runs as one function: found by structure, named by path.

A path names a child's place below the block (`conv.0.1`). The module at that place is read in every forward,
so copies, loaded states and replaced children stay right.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias, cast

from torch import nn

from tinytl.memory_efficient.block.stock import base_class, keeps_forward
from tinytl.networks.backbones.inverted_residual import InvertedResidual, full_name
from tinytl.networks.backbones.sequence import BATCH_NORM_ACT
from tinytl.networks.lite_residual import ExactHardsigmoid, LiteResidualModule
from tinytl.networks.upsample import Mode

NORMS = (nn.BatchNorm2d, nn.GroupNorm)
ACTIVATION_NAMES: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.Hardswish: "hardswish",
    nn.Hardsigmoid: "hardsigmoid",
    nn.SiLU: "silu",
    ExactHardsigmoid: "exact_hardsigmoid",
    nn.Sigmoid: "sigmoid",
    nn.Tanh: "tanh",
}


def activation_name(cls: type[nn.Module]) -> str:
    """Returns the name of the activation that `cls` is, or inherits from."""
    return next(ACTIVATION_NAMES[base] for base in cls.__mro__ if base in ACTIVATION_NAMES)


@dataclass(frozen=True)
class UnitPaths:
    """Paths of a unit's modules; None if it has none."""

    conv: str
    norm: str | None = None
    activation: str | None = None


@dataclass(frozen=True)
class BranchPaths:
    """Paths of a chain of units, and of the pooling before it."""

    units: tuple[UnitPaths, ...]
    pool: str | None = None
    resize: Mode | None = None


@dataclass(frozen=True)
class BlockPaths:
    """Paths of the summed branches, whether the input is added, and the path of the activation after."""

    branches: tuple[BranchPaths, ...]
    shortcut: bool = False
    activation: str | None = None

    def modules(self) -> Iterator[str]:
        """Yields every path."""
        for branch in self.branches:
            if branch.pool is not None:
                yield branch.pool
            for unit in branch.units:
                yield from (p for p in (unit.conv, unit.norm, unit.activation) if p is not None)
        if self.activation is not None:
            yield self.activation


Describe: TypeAlias = Callable[[nn.Module, str], BlockPaths | None]
"""Maps a module of a known class, and the prefix of its paths, to its block."""


def describe_block(module: nn.Module) -> BlockPaths | None:
    """Returns the block that `module` is, None if it is not a known block."""
    return _describe(module, "")


def register_block(cls: type[nn.Module], describe: Describe) -> None:
    """Registers a class of blocks; `describe(module, prefix)` puts `prefix` before each path.

    Raises:
        ValueError: for a class that is registered already.
    """
    if _describer(cls) is not None:
        raise ValueError(f"{cls.__name__} is registered already")
    _KNOWN[cls] = describe


def _describe(module: nn.Module, prefix: str) -> BlockPaths | None:
    describe = _describer(base_class(module))
    if describe is None or "forward" in vars(module):
        return None
    return describe(module, prefix)


def _sequence(module: nn.Module, prefix: str) -> BlockPaths | None:
    """A sequence, nested or not, of convolutions that norms and activations follow."""
    units = _units(_leaves(module._modules.items(), prefix))
    return BlockPaths((BranchPaths(units),)) if units else None


def _units(leaves: Iterable[tuple[str, nn.Module]]) -> tuple[UnitPaths, ...]:
    """Returns the units that `leaves` form, none if they are something else."""
    units: list[UnitPaths] = []
    open_norm = open_activation = False
    for path, leaf in leaves:
        if keeps_forward(leaf, nn.Conv2d):
            units.append(UnitPaths(path))
            open_norm = open_activation = True
        elif open_norm and any(keeps_forward(leaf, norm) for norm in NORMS):
            units[-1] = replace(units[-1], norm=path)
            open_norm = False
        elif open_norm and is_norm_with_activation(leaf):
            inside = base_class(leaf.get_submodule("act"))
            if base_class(leaf.get_submodule("drop")) is not nn.Identity or inside not in (
                nn.Identity,
                *ACTIVATION_NAMES,
            ):
                return ()
            activation = None if inside is nn.Identity else f"{path}.act"
            units[-1] = replace(units[-1], norm=path, activation=activation)
            open_norm = open_activation = False
        elif open_activation and base_class(leaf) in ACTIVATION_NAMES:
            units[-1] = replace(units[-1], activation=path)
            open_norm = open_activation = False
        elif base_class(leaf) is not nn.Identity:
            return ()
    return tuple(units)


def is_norm_with_activation(module: nn.Module) -> bool:
    """Whether `module` is timm's batch norm that drops and activates what it normalised."""
    return full_name(base_class(module)) == BATCH_NORM_ACT and "forward" not in vars(module)


def _leaves(children: Iterable[tuple[str, nn.Module | None]], prefix: str) -> Iterator[tuple[str, nn.Module]]:
    for name, child in children:  # a module that is used twice counts twice
        if child is None:
            continue
        path = f"{prefix}{name}"
        if _describer(base_class(child)) is _sequence and "forward" not in vars(child):
            yield from _leaves(child._modules.items(), f"{path}.")
        else:
            yield path, child


def _inverted_residual(body: str) -> Describe:
    """Returns the description of a class whose child `body` is the whole block, except `use_res_connect`."""

    def describe(module: nn.Module, prefix: str) -> BlockPaths | None:
        inner = _describe(module.get_submodule(body), f"{prefix}{body}.")
        if inner is None or not module.use_res_connect:
            return inner
        if inner.shortcut or inner.activation is not None:
            return None
        return replace(inner, shortcut=True)

    return describe


def _lite_residual(module: nn.Module, prefix: str) -> BlockPaths | None:
    """The main branch's own branches, and the lite one: pooling first, then units, resized after."""
    main = _describe(module.get_submodule("main_branch"), f"{prefix}main_branch.")
    lite = {n: m for n, m in module.get_submodule("lite_residual")._modules.items() if m is not None}
    pooling = lite.pop("pooling", None)
    units = _units((f"{prefix}lite_residual.{name}", child) for name, child in lite.items())
    if main is None or main.activation is not None or not units or pooling is None:
        return None
    whole = base_class(pooling) is nn.AdaptiveAvgPool2d and pooling.output_size == 1
    if not whole and not (keeps_forward(pooling, nn.AvgPool2d) and _plain_window(pooling)):
        return None
    mode = None if module.downsample_ratio is None else cast(Mode, module.upsample_type)
    if whole and mode is not None:
        return None
    side = BranchPaths(units, pool=f"{prefix}lite_residual.pooling", resize=mode)
    return replace(main, branches=(*main.branches, side))


def _plain_window(pool: nn.Module) -> bool:
    return not pool.ceil_mode and pool.padding in (0, (0, 0))


def _residual(*convs: str) -> Describe:
    """Returns the description of ResNet's blocks: `conv1`, `bn1`, `relu`, ..., plus `downsample`, `relu`."""

    def describe(module: nn.Module, prefix: str) -> BlockPaths | None:
        units = [
            UnitPaths(f"{prefix}conv{n}", f"{prefix}bn{n}", None if n == convs[-1] else f"{prefix}relu")
            for n in convs
        ]
        main = BranchPaths(tuple(units))
        known = all(
            keeps_forward(module.get_submodule(f"conv{n}"), nn.Conv2d)
            and any(keeps_forward(module.get_submodule(f"bn{n}"), norm) for norm in NORMS)
            for n in convs
        )
        if not known or base_class(module.get_submodule("relu")) is not nn.ReLU:
            return None
        if module.downsample is None:
            return BlockPaths((main,), shortcut=True, activation=f"{prefix}relu")
        side = _describe(module.get_submodule("downsample"), f"{prefix}downsample.")
        if side is None:
            return None
        return BlockPaths((main, *side.branches), activation=f"{prefix}relu")

    return describe


def _of_timm(*names: str) -> Describe:
    """Returns the description of timm's residual blocks: children one after the other, if they are there."""

    def describe(module: nn.Module, prefix: str) -> BlockPaths | None:
        if getattr(module, "conv_s2d", None) is not None:
            return None
        units = _units(_leaves(((name, module._modules.get(name)) for name in names), prefix))
        return BlockPaths((BranchPaths(units),), shortcut=bool(module.has_skip)) if units else None

    return describe


_KNOWN: dict[type[nn.Module], Describe] = {
    nn.Sequential: _sequence,
    InvertedResidual: _inverted_residual("conv"),
    LiteResidualModule: _lite_residual,
}
_BY_NAME: dict[str, Describe] = {
    "torchvision.ops.misc.Conv2dNormActivation": _sequence,
    "torchvision.models.mobilenetv2.InvertedResidual": _inverted_residual("conv"),
    "torchvision.models.mobilenetv3.InvertedResidual": _inverted_residual("block"),
    "torchvision.models.resnet.BasicBlock": _residual("1", "2"),
    "torchvision.models.resnet.Bottleneck": _residual("1", "2", "3"),
    "timm.layers.conv_bn_act.ConvNormAct": _sequence,
    "timm.models._efficientnet_blocks.ConvBnAct": _of_timm("conv", "bn1", "aa", "drop_path"),
    "timm.models._efficientnet_blocks.DepthwiseSeparableConv": _of_timm(
        "conv_dw", "bn1", "aa", "se", "conv_pw", "bn2", "drop_path"
    ),
    "timm.models._efficientnet_blocks.InvertedResidual": _of_timm(
        "conv_pw", "bn1", "conv_dw", "bn2", "aa", "se", "conv_pwl", "bn3", "drop_path"
    ),
    "timm.models._efficientnet_blocks.EdgeResidual": _of_timm(
        "conv_exp", "bn1", "aa", "se", "conv_pwl", "bn2", "drop_path"
    ),
    "timm.models._efficientnet_blocks.UniversalInvertedResidual": _of_timm(
        "dw_start", "pw_exp", "dw_mid", "se", "pw_proj", "dw_end", "layer_scale", "drop_path"
    ),
}
"""Known by name, as neither torchvision nor timm is imported unless one of its networks is asked for."""


def _describer(cls: type[nn.Module]) -> Describe | None:
    return _KNOWN.get(cls) or _BY_NAME.get(full_name(cls))
