"""What a training step computes, as sums over its operations: calls, bytes and multiplications by kind.

Of two kinds of the same size one may need ten times the other's time, as a depthwise convolution and a
matrix product do; within a kind, time is nearly linear in these three.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tinytl.memory_efficient.ops.walk import WALK

_CONVOLUTION = torch.ops.aten.convolution.default
_CONVOLUTION_BACKWARD = torch.ops.aten.convolution_backward.default
_PRODUCTS = ("mm", "addmm", "_linear_pointwise")
_VIEWS = frozenset(
    (
        "view permute t transpose unsqueeze squeeze select slice expand detach alias as_strided _unsafe_view "
        "split unbind"
    ).split()
)
_CONSTANTS = frozenset(("arange", "pow", "ones"))
"""Fake tensors make these again and again, real ones once."""


class Cost(NamedTuple):
    """What one operation costs."""

    kind: str
    n_bytes: int = 0
    """Read and written."""
    n_products: int = 0
    """Multiplications of a convolution or a product of matrices."""


LEAN = "lean "
"""Begins the kind of what a lean function calls: it finds other caches than what stock calls."""


def cost_of(func: Any, args: tuple[Any, ...], out: Any) -> Cost | None:
    """Returns the cost of `out = func(*args)`, None if it has none."""
    cost = _plain_cost(func, args, out)
    return cost._replace(kind=LEAN + cost.kind) if cost is not None and WALK.lean else cost


def _plain_cost(func: Any, args: tuple[Any, ...], out: Any) -> Cost | None:
    name = _name(func)
    if name in _VIEWS:
        return _VIEW
    if name in _CONSTANTS:
        return None
    n_bytes = _bytes(args) + _bytes(out)
    if func is _CONVOLUTION:
        return _convolution(args[0], args[1], out, transposed=args[6], groups=args[8], n_bytes=n_bytes)
    if func is _CONVOLUTION_BACKWARD:
        return _convolution_backward(args[0], args[2], groups=args[9], wanted=args[10], n_bytes=n_bytes)
    if name in _PRODUCTS:
        first = args[1] if name == "addmm" else args[0]
        return Cost(name, n_bytes, out.numel() * first.shape[-1])
    return Cost(name, n_bytes)


@dataclass
class Work:
    """The operations of a step."""

    sums: dict[str, list[float]] = field(default_factory=dict)
    """By kind: calls, bytes, multiplications."""
    n_lean: float = 0
    """Convolutions and products that lean functions call, each with some Python around it."""

    def add(self, cost: Cost | None, times: int = 1) -> None:
        """Counts an operation, so many times."""
        if cost is None:
            return
        sums = self.sums.get(cost.kind)
        if sums is None:
            sums = self.sums[cost.kind] = [0, 0, 0]
        sums[0] += times
        sums[1] += times * cost.n_bytes
        sums[2] += times * cost.n_products
        if cost.n_products and cost.kind.startswith(LEAN):
            self.n_lean += times

    def of_passes(self, n_passes: float, optimizer: "Work") -> "Work":
        """Returns the work of a step of so many passes, each like this one, and one of the optimiser."""
        sums = {kind: [n_passes * value for value in of_kind] for kind, of_kind in self.sums.items()}
        for kind, of_kind in optimizer.sums.items():
            sums[kind] = [a + b for a, b in zip(sums.get(kind, [0, 0, 0]), of_kind, strict=True)]
        return Work(sums, n_passes * self.n_lean + optimizer.n_lean)


_VIEW = Cost("view")


@cache
def _name(func: Any) -> str:
    return str(func.name()).partition("::")[2].partition(".")[0]


def _bytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    return sum(map(_bytes, value)) if isinstance(value, tuple | list) else 0


def _convolution(
    x: Tensor, weight: Tensor, out: Tensor, *, transposed: bool, groups: int, n_bytes: int
) -> Cost:
    smaller = x if transposed else out
    n_products = weight.numel() * (smaller.numel() // smaller.shape[1])
    way = "transposed" if transposed else "forward"
    return Cost(f"{_shape(weight, groups)} {way}", n_bytes + _weight_again(weight, groups, x), n_products)


def _convolution_backward(
    grad: Tensor, weight: Tensor, *, groups: int, wanted: list[bool], n_bytes: int
) -> Cost:
    parts = " and ".join(part for part, want in zip(("input", "weight"), wanted, strict=False) if want)
    n_products = weight.numel() * (grad.numel() // grad.shape[1])
    kind = f"{_shape(weight, groups)} backward of {parts}"
    return Cost(kind, n_bytes + _weight_again(weight, groups, grad), n_products)


def _weight_again(weight: Tensor, groups: int, batch: Tensor) -> int:
    """Returns the bytes of a weight that is read anew for each sample, as it is by torch's convolution by
    columns: on small maps, most of what is read.
    """
    return (len(batch) - 1) * weight.numel() * weight.element_size() if groups == 1 else 0


def _shape(weight: Tensor, groups: int) -> str:
    if groups == 1:
        return "pointwise" if weight.shape[2:] == (1, 1) else "dense"
    kernel = "x".join(map(str, weight.shape[2:]))  # kernels of oneDNN are made for 3x3
    return f"depthwise_{kernel}" if weight.shape[1] == 1 else "grouped"


def like_kind(kind: str, known: Mapping[str, Any]) -> str | None:
    """Returns a known kind whose operations need about as much time as those of `kind`."""
    plain = kind.removeprefix(LEAN)
    for same in (kind, plain, LEAN + plain):
        if same in known:
            return same
    shape, _, way = plain.partition(" ")
    if way:  # a convolution: another one of its way, or of its shape
        other = next((k for k in known if k.endswith(f" {way}")), None)
        return other or next((k for k in known if f"{shape} " in k), None)
    return next((k for k in ("mul", LEAN + "mul") if k in known), None)
