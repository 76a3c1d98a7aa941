"""Reads from a block's modules, at each forward, what the block computes and with which tensors."""

from operator import itemgetter
from typing import Any, NamedTuple

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from tinytl.memory_efficient.block.spec import Block, BlockSpec, BranchSpec
from tinytl.memory_efficient.block.stock import (
    base_class,
    fits_window,
    pads_by_size,
    reason_unfit,
    standardizes_weight,
)
from tinytl.memory_efficient.block.structure import ACTIVATION_NAMES, BlockPaths, UnitPaths, describe_block
from tinytl.memory_efficient.block.unit import NormKind, UnitSpec, UnitTensors
from tinytl.memory_efficient.ops.any_convolution import AnyConvSpec
from tinytl.memory_efficient.ops.convolution import ConvSpec
from tinytl.memory_efficient.ops.pooling import PoolSpec
from tinytl.networks.stored_weights import StoredWeight, stored_form, trained_part

Size = tuple[int, int]
_UnitAttributes = tuple[dict[str, Any], dict[str, Any] | None]
"""`vars()` of a unit's convolution and norm."""
_ATTRIBUTES = (
    "stride", "padding", "dilation", "groups", "padding_mode", "eps", "num_groups", "kernel_size",
    "ceil_mode", "momentum", "track_running_stats",
)  # fmt: skip


class Extent(NamedTuple):
    """What a block makes of a sample."""

    largest: int
    """Elements of the largest intermediate."""
    output: tuple[int, ...]
    """The output's shape `(C, H, W)`."""


class BlockReader:
    """Reads a block's modules at each forward, and works out what they compute if they have changed."""

    def __init__(self, paths: BlockPaths) -> None:
        self.paths = paths
        self.extents: dict[tuple[int, ...], Extent] = {}
        """By the sample's shape; only a hint."""
        self._seen: list[_Seen] = []
        """The last two, as training and evaluation take turns."""

    def __reduce__(self) -> Any:
        """Copies and pickles without its cache, which holds modules of one block in one process."""
        return BlockReader, (self.paths,)

    def read(self, module: nn.Module) -> Block | None:
        """Returns what the block computes and its tensors, None if it must run as its own class does.

        The block runs as its own class while one of its modules has a hook, and if one of its modules does
        something unknown here.
        """
        seen = next((seen for seen in self._seen if seen.is_of(module)), None)
        if seen is None:
            seen = _Seen(module, self.paths)
            self._seen = [seen, *self._seen[:1]]
        elif seen is not self._seen[0]:
            self._seen.reverse()
        if seen.spec is None or seen.is_watched():
            return None
        tensors: list[list[UnitTensors]] = []
        for branch in seen.units:
            units = [_tensors(unit) for unit in branch]
            known = [unit for unit in units if unit is not None]
            if len(known) < len(units):
                return None
            tensors.append(known)
        return Block(seen.spec, tensors)

    def count_batch(self) -> None:
        """Adds one to what the norms of the block last read have seen, as their own class does."""
        for norm in self._seen[0].norms:
            if norm["training"] and norm["track_running_stats"]:
                tracked = norm["_buffers"].get("num_batches_tracked")
                if tracked is not None:
                    tracked.add_(1)


class _Seen:
    """A block as it was when it was last worked out."""

    def __init__(self, module: nn.Module, paths: BlockPaths) -> None:
        self.members = [_Member(member) for member in module.modules()]
        self.spec = _work_out(module, paths)
        self.units: list[list[_UnitAttributes]] = []
        if self.spec is not None:
            self.units = [[_attributes(module, unit) for unit in b.units] for b in paths.branches]
        self.norms = [vars(member) for member in module.modules() if isinstance(member, nn.BatchNorm2d)]
        """`vars()` of the batch norms."""
        self.training = [norm["training"] for norm in self.norms]

    def is_of(self, module: nn.Module) -> bool:
        """Whether this is the same block (replicas of a block share its reader), unchanged."""
        if self.members[0].inside is not vars(module):
            return False
        if [norm["training"] for norm in self.norms] != self.training:
            return False
        try:
            for member in self.members:  # runs often: no calls, no `getattr`
                inside = member.inside
                if tuple(inside["_modules"].values()) != member.children:
                    return False
                if member.read is not None and member.read(inside) != member.attributes:
                    return False
        except KeyError:  # an attribute was deleted
            return False
        return True

    def is_watched(self) -> bool:
        """Whether a module below the block has hooks, or a forward of its own."""
        for member in self.members[1:]:
            inside = member.inside
            if (
                inside["_forward_hooks"]
                or inside["_forward_pre_hooks"]
                or inside["_backward_hooks"]
                or inside["_backward_pre_hooks"]
                or "forward" in inside
            ):
                return True
        return False


class _Member:
    """A module of a block, and those of its attributes that decide what the block computes."""

    __slots__ = ("attributes", "children", "inside", "read")

    def __init__(self, module: nn.Module) -> None:
        self.inside = vars(module)
        self.children = tuple(self.inside["_modules"].values())
        names = [name for name in _ATTRIBUTES if name in self.inside]
        self.read = itemgetter(*names) if names else None
        self.attributes = None if self.read is None else self.read(self.inside)


def conv_spec(conv: nn.Conv2d) -> ConvSpec:
    """Returns a convolution's settings besides its weight; the caller has checked `reason_unfit`."""
    padding = conv.padding
    if padding == "valid":
        padding = (0, 0)
    elif isinstance(padding, str):
        padding = (
            conv.dilation[0] * (conv.kernel_size[0] - 1) // 2,
            conv.dilation[1] * (conv.kernel_size[1] - 1) // 2,
        )
    return ConvSpec(
        stride=_pair(conv.stride),
        padding=_pair(padding),
        dilation=_pair(conv.dilation),
        groups=conv.groups,
        same_pad=pads_by_size(conv),
    )


def any_conv_spec(conv: _ConvNd) -> AnyConvSpec:
    """As `conv_spec`, of any number of dimensions, transposed or not."""
    padding = conv.padding
    if padding == "valid":
        padding = (0,) * len(conv.stride)
    elif isinstance(padding, str):
        padding = tuple(d * (k - 1) // 2 for d, k in zip(conv.dilation, conv.kernel_size, strict=True))
    return AnyConvSpec(
        stride=conv.stride,
        padding=padding,
        dilation=conv.dilation,
        groups=conv.groups,
        output_padding=conv.output_padding if conv.transposed else None,
    )


def average_pool_spec(pool: nn.AvgPool2d) -> PoolSpec:
    """Returns the window of an average pooling."""
    return PoolSpec(
        kernel=_pair(pool.kernel_size),
        stride=_pair(pool.stride),
        padding=_pair(pool.padding),
        ceil_mode=pool.ceil_mode,
        count_include_pad=pool.count_include_pad,
        divisor_override=pool.divisor_override,
        within_map=fits_window(pool),
    )


def max_pool_spec(pool: nn.MaxPool2d) -> PoolSpec:
    """Returns the window of a max pooling."""
    return PoolSpec(
        kernel=_pair(pool.kernel_size),
        stride=_pair(pool.stride),
        padding=_pair(pool.padding),
        dilation=_pair(pool.dilation),
        ceil_mode=pool.ceil_mode,
    )


def uses_batch_statistics(norm: _BatchNorm) -> bool:
    """Whether the next forward normalises by the batch, so that samples depend on each other."""
    return norm.training or (norm.running_mean is None and norm.running_var is None)


def _attributes(module: nn.Module, unit: UnitPaths) -> _UnitAttributes:
    conv = vars(module.get_submodule(unit.conv))
    return conv, None if unit.norm is None else vars(module.get_submodule(unit.norm))


def _tensors(unit: _UnitAttributes) -> UnitTensors | None:
    """Returns a unit's tensors, None if it has none of its own."""
    conv, norm = unit
    parameters = conv["_parameters"]
    weight, stored = parameters.get("weight"), None
    if weight is None:
        if "_is_replica" in conv or "frozen_weight" not in conv["_buffers"]:  # a replica of DataParallel
            return None
        stored = stored_form(conv)
        weight = parameters.get("weight_part", stored.frozen)
    if norm is None:
        return UnitTensors(weight, parameters["bias"], None, None, None, None, stored)
    affine, buffers = norm["_parameters"], norm["_buffers"]
    mean, var = buffers.get("running_mean"), buffers.get("running_var")
    if norm["training"] and not norm.get("track_running_stats", True):
        mean = var = None
    if (mean is None) != (var is None):  # stock says what is wrong
        return None
    return UnitTensors(weight, parameters["bias"], affine["weight"], affine["bias"], mean, var, stored)


def _work_out(module: nn.Module, paths: BlockPaths) -> BlockSpec | None:
    members = map(module.get_submodule, paths.modules())
    if describe_block(module) != paths or any(reason_unfit(member) for member in members):
        return None
    for unit in (unit for branch in paths.branches for unit in branch.units):
        norm = None if unit.norm is None else module.get_submodule(unit.norm)
        if isinstance(norm, nn.BatchNorm2d) and norm.training and norm.momentum is None:
            return None  # a cumulative average: its factor changes with every batch
    branches = []
    for branch in paths.branches:
        units = tuple(_unit(module, unit) for unit in branch.units)
        pool = None if branch.pool is None else module.get_submodule(branch.pool)
        if isinstance(pool, nn.AvgPool2d):
            branches.append(BranchSpec(units=units, pool=average_pool_spec(pool), resize=branch.resize))
        else:
            branches.append(BranchSpec(units=units, global_pool=pool is not None, resize=branch.resize))
    activation = _activation(module, paths.activation)
    return BlockSpec(branches=tuple(branches), shortcut=paths.shortcut, activation=activation)


def _unit(module: nn.Module, paths: UnitPaths) -> UnitSpec:
    conv = module.get_submodule(paths.conv)
    assert isinstance(conv, nn.Conv2d)
    norm = None if paths.norm is None else module.get_submodule(paths.norm)
    kind: NormKind = "none"
    eps, n_groups, momentum = 0.0, 1, 0.0
    if isinstance(norm, nn.GroupNorm):
        kind, eps, n_groups = "group", norm.eps, norm.num_groups
    elif isinstance(norm, nn.BatchNorm2d) and uses_batch_statistics(norm):
        kind, eps, momentum = "batch", norm.eps, norm.momentum or 0.0
    elif isinstance(norm, nn.BatchNorm2d):
        kind, eps = "frozen", norm.eps
    return UnitSpec(
        conv=conv_spec(conv),
        norm=kind,
        activation=_activation(module, paths.activation),
        eps=eps,
        n_groups=n_groups,
        momentum=momentum,
        standardized=standardizes_weight(conv),
        depthwise=conv.groups == conv.in_channels > 1,
        in_part=isinstance(conv, StoredWeight) and trained_part(conv) is not None,
    )


def _activation(module: nn.Module, path: str | None) -> str:
    return "none" if path is None else ACTIVATION_NAMES[base_class(module.get_submodule(path))]


def _pair(value: int | tuple[int, ...]) -> Size:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])
