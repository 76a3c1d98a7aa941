"""A unit is convolution, norm, activation; a plan says what each unit of a chain must keep for backward."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from tinytl.memory_efficient.ops.activation import PASSES_BETWEEN
from tinytl.memory_efficient.ops.convolution import ConvSpec
from tinytl.memory_efficient.ops.frozen_norm import FrozenNorm
from tinytl.networks.stored_weights import StoredForm

NormKind = Literal["none", "frozen", "group", "batch"]
Recompute = Literal["none", "depthwise", "block"]
"""What backward recomputes: element-wise operations, depthwise convolutions too, or a whole block."""


@dataclass(frozen=True, kw_only=True)
class UnitSpec:
    """Convolution, then norm, then activation."""

    conv: ConvSpec
    norm: NormKind
    """`frozen`: batch norm in evaluation mode, folded into the convolution; `batch`: in training mode."""
    activation: str
    eps: float = 1e-5
    n_groups: int = 1
    """Groups of the group norm."""
    momentum: float = 0.0
    """Of the running statistics of a batch norm in training mode."""
    depthwise: bool = False
    standardized: bool = False
    """The convolution standardises its weight before it is used."""
    in_part: bool = False
    """If the weight trains, only some of its channels do (`networks.stored_weights`)."""

    @property
    def norm_reads_input(self) -> bool:
        """Whether the norm's backward reads its input, on which its statistics depend."""
        return self.norm in ("group", "batch")


class UnitTensors(NamedTuple):
    """Parameters and statistics of one unit; None if it has none."""

    weight: Tensor
    """The parameter. Of a stored weight: the part that trains, or if none does, what is stored."""
    bias: Tensor | None
    gamma: Tensor | None
    beta: Tensor | None
    mean: Tensor | None
    var: Tensor | None
    stored: StoredForm | None = None
    """What the weight is made of, if it is not used as it is. No argument of an autograd function."""

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weight that is used."""
        return self.weight.dtype if self.stored is None else self.stored.dtype

    @property
    def out_channels(self) -> int:
        """Channels of the convolution's output."""
        return self.weight.shape[0] if self.stored is None else self.stored.shape[0]

    def row(self) -> "tuple[Tensor | None, ...]":
        """Returns the tensors, which are arguments of an autograd function."""
        return self[:6]

    def frozen_norm(self, eps: float) -> FrozenNorm:
        """Returns the batch norm of a unit that has one."""
        assert self.mean is not None and self.var is not None
        return FrozenNorm(self.mean, self.var, self.gamma, self.beta, eps)


class Needs(NamedTuple):
    """Which of a unit's parameters need a gradient."""

    weight: bool
    bias: bool
    gamma: bool
    beta: bool


_NO_NEEDS = Needs(False, False, False, False)


class Keep(Enum):
    """What is kept of one unit for backward."""

    NOTHING = "nothing"
    BITS = "one bit an element of the activation"
    OUTPUT = "the activation's output"
    INPUT = "the input of the norm (group norm, batch norm) or of the activation"


_IN_FULL = (Keep.OUTPUT, Keep.INPUT)
"""From these the output of a unit can be had."""


@dataclass(frozen=True, kw_only=True)
class UnitPlan:
    """How one unit takes part in backward."""

    keep: Keep = Keep.NOTHING
    again: bool = False
    """The kept tensor is dropped, and this unit's convolution recomputes it in backward."""
    needs: Needs = _NO_NEEDS
    weight_grad: bool = False
    """The weight's gradient is computed, so the unit's input must be available."""
    keeps_source: bool = False
    """The trained channels of the unit's input are kept, as the unit before does not keep all of it."""
    input_grad: bool = False
    norm_apart: bool = False
    """A frozen norm is not folded: gamma trains and not all of the weight does, so the norm's input is worth
    keeping, and a gradient of the folded weight is not worth computing."""
    grad_at_norm: bool = False
    """A gradient is taken back through a norm that is not folded."""


@dataclass(frozen=True)
class ChainPlan:
    """How a chain of units takes part in backward; units before `first` have no part in it."""

    units: tuple[UnitPlan, ...]
    first: int
    needs_x: bool
    keeps_x: bool


def plan_chain(
    specs: Sequence[UnitSpec], needs: Sequence[Needs], needs_x: bool, recompute: Recompute
) -> ChainPlan | None:
    """Returns the least that backward needs, None if nothing needs a gradient."""
    first = 0 if needs_x else next((i for i, need in enumerate(needs) if any(need)), None)
    if first is None:
        return None
    plans: list[UnitPlan] = []
    output_read = False
    for index in reversed(range(len(specs))):
        spec, need = specs[index], needs[index]
        input_grad = index > first or (index == first and needs_x)
        all_trains = need.weight and not spec.in_part
        norm_apart = spec.norm == "frozen" and need.gamma and not all_trains
        grad_at_norm = (norm_apart or spec.norm_reads_input) and (input_grad or need.weight or need.bias)
        keep = Keep.NOTHING
        if index >= first:
            norm_input_read = grad_at_norm or norm_apart or (spec.norm_reads_input and need.gamma)
            keep = _keep(spec, output_read, norm_input_read)
        elif output_read:
            keep = Keep.OUTPUT
        plan = UnitPlan(
            keep=keep,
            needs=need,
            weight_grad=need.weight,
            input_grad=input_grad,
            norm_apart=norm_apart,
            grad_at_norm=grad_at_norm,
        )
        plans.append(plan)
        output_read = all_trains
    plans.reverse()
    _keep_sources(plans, specs)
    if recompute == "depthwise":
        _recompute_depthwise(plans, specs, first)
    keeps_x = first == 0 and plans[0].weight_grad and not plans[0].keeps_source
    return ChainPlan(tuple(plans), first, needs_x, keeps_x)


def _keep(spec: UnitSpec, output_read: bool, norm_input_read: bool) -> Keep:
    if norm_input_read or spec.activation not in (*PASSES_BETWEEN, "none"):
        return Keep.INPUT
    if output_read:
        return Keep.OUTPUT
    return Keep.NOTHING if spec.activation == "none" else Keep.BITS


def _keep_sources(plans: list[UnitPlan], specs: Sequence[UnitSpec]) -> None:
    for index, plan in enumerate(plans):
        at_hand = index > 0 and plans[index - 1].keep in _IN_FULL
        if plan.weight_grad and specs[index].in_part and not at_hand:
            plans[index] = replace(plan, keeps_source=True)


def _recompute_depthwise(plans: list[UnitPlan], specs: Sequence[UnitSpec], first: int) -> None:
    for index in range(first, len(plans)):
        plan = plans[index]
        if not specs[index].depthwise or plan.keep not in _IN_FULL:
            continue
        if index > first:
            before = plans[index - 1]
            at_hand = before.keep in _IN_FULL and not before.again
        else:
            at_hand = plan.weight_grad and not plan.keeps_source
        if at_hand:
            plans[index] = replace(plan, again=True)
