"""A chain of units on one slice of a batch: its forward, and its convolutions with their norms folded in.

The chain makes its intermediates itself, so it edits them in place; its input is never edited.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tinytl.memory_efficient.block.unit import ChainPlan, Keep, UnitPlan, UnitSpec, UnitTensors
from tinytl.memory_efficient.ops.activation import PASSES_BETWEEN, activate_
from tinytl.memory_efficient.ops.batch_norm import (
    BatchStats,
    Running,
    normalise_batch,
    normalise_batch_again,
)
from tinytl.memory_efficient.ops.bit_mask import pack_interior
from tinytl.memory_efficient.ops.convolution import conv_forward, conv_input_grad
from tinytl.memory_efficient.ops.frozen_norm import fold_weight, scale_and_shift, unfold_grads
from tinytl.memory_efficient.ops.group_norm import GroupStats, normalise, normalise_again
from tinytl.memory_efficient.ops.layout import channels_last
from tinytl.memory_efficient.ops.pointwise import pick_channels
from tinytl.memory_efficient.ops.precision import cast_to
from tinytl.memory_efficient.ops.standardization import standardized_grad
from tinytl.networks.stored_weights import StoredForm, per_filter
from tinytl.networks.weight_standardization import standardized

Size = tuple[int, int]


class Kept(NamedTuple):
    """What one unit keeps of one slice, see `Keep`; statistics for a norm that made them."""

    values: Tensor | None = None
    mean: Tensor | None = None
    rstd: Tensor | None = None
    source: Tensor | None = None
    """The trained channels of the unit's input, see `UnitPlan.keeps_source`."""


class ChainGrads:
    """Sums over slices of the gradients of each unit's weight, bias, gamma and beta.

    For a folded unit the first two belong to the folded weight and bias; the last two stay empty.
    """

    WEIGHT, BIAS, GAMMA, BETA = range(4)

    def __init__(self, n_units: int) -> None:
        self.sums: list[list[Tensor | None]] = [[None] * 4 for _ in range(n_units)]

    def add(self, unit: int, which: int, grad: Tensor | None) -> None:
        """Adds a gradient; the caller made it and must not use it afterwards."""
        if grad is not None:
            total = self.sums[unit][which]
            self.sums[unit][which] = grad if total is None else total.add_(grad)


class Chain:
    """The units of one branch, their tensors, the type of computation, and what backward needs of them."""

    def __init__(
        self,
        specs: Sequence[UnitSpec],
        tensors: Sequence[UnitTensors],
        dtype: torch.dtype,
        plan: ChainPlan | None,
    ) -> None:
        self.specs, self.dtype, self.plan = specs, dtype, plan
        self.take(tensors)
        self.stored = [unit.stored for unit in tensors]
        """What each unit's weight is made of; stays in a pause, as these are buffers of the network."""
        self.keeps_made = True
        folded = [spec.norm == "frozen" for spec in specs]
        if plan is not None:
            folded = [f and not unit.norm_apart for f, unit in zip(folded, plan.units, strict=True)]
        self.folded = folded
        """Whether each unit's norm is folded into its convolution."""
        self._sizes: dict[Size, list[Size]] = {}
        # Made on first use: backward does not need all of them.
        self._raws: list[Tensor | None] = [None] * len(specs)
        self._weights: list[Tensor | None] = [None] * len(specs)
        self._biases: list[Tensor | None] = [None] * len(specs)
        self._scales: list[Tensor | None] = [None] * len(specs)
        self._factors: list[Tensor | None] = [None] * len(specs)

    def take(self, tensors: Sequence[UnitTensors]) -> None:
        """Sets the units' tensors."""
        self.tensors = tensors

    def let_go(self) -> None:
        """Drops tensors and what was made of them, but numbers per channel, for a pause before backward."""
        self.tensors = ()
        self._raws = [None] * len(self.specs)
        self._weights = [None] * len(self.specs)
        self._biases = [None] * len(self.specs)

    def forward(self, x: Tensor, keeps: bool) -> tuple[Tensor, list[Kept]]:
        """Returns the output `(N, C', H', W')`, in new memory, and what each unit keeps of it, if it `keeps`.

        `x` is `(N, C, H, W)` in channels_last.
        """
        kept: list[Kept] = []
        for index in range(len(self.specs)):
            x, of_unit = self._unit_forward(index, x, keeps)
            kept.append(of_unit)
        return x, kept

    def replay(self, x: Tensor) -> list[Kept]:
        """Runs forward only to fill what is kept, up to the last unit that keeps anything."""
        kept = [Kept()] * len(self.specs)
        assert self.plan is not None
        units = self.plan.units
        n_run = max((i + 1 for i, unit in enumerate(units) if unit.keep is not Keep.NOTHING), default=0)
        n_read = max((i + 1 for i, unit in enumerate(units) if unit.keeps_source), default=0)
        for index in range(max(n_run, n_read - 1)):
            x, kept[index] = self._unit_forward(index, x, True)
        if n_read > max(n_run, n_read - 1):
            kept[n_read - 1] = Kept(source=self.chosen(n_read - 1, x))
        return kept

    def sizes(self, size: Size) -> list[Size]:
        """Returns the map size of each unit's input, and of the output, for an input of `size`."""
        if size in self._sizes:
            return self._sizes[size]
        sizes = self._sizes[size] = [size]
        for spec, unit in zip(self.specs, self.tensors, strict=True):
            sizes.append(spec.conv.output_size(sizes[-1], (unit.weight.shape[2], unit.weight.shape[3])))
        return sizes

    def largest_output(self, size: Size) -> int:
        """Returns the elements per sample of the largest output of a unit, for an input map of `size`."""
        sizes = self.sizes(size)[1:]
        return max(unit.out_channels * h * w for unit, (h, w) in zip(self.tensors, sizes, strict=True))

    def convolve(self, index: int, x: Tensor) -> Tensor:
        """Returns unit `index`'s convolution of `x`, with its norm if that is folded."""
        spec, bias = self.specs[index], self._bias(index)
        if self._scales_maps(index, x.numel() // x.shape[1]):
            y = channels_last(conv_forward(x, cast_to(self._raw(index), self.dtype), None, spec.conv))
            if bias is None:
                return y.mul_(self._map_factor(index))
            return torch.addcmul(bias.view(-1, 1, 1), y, self._map_factor(index))
        return channels_last(conv_forward(x, self._weight(index), bias, spec.conv))

    def convolve_back(self, index: int, grad: Tensor, size: Size) -> Tensor:
        """Returns the gradient (of `size`) of unit `index`'s input, in new memory."""
        if self._scales_maps(index, grad.numel() // grad.shape[1]):
            grad = grad * self._map_factor(index)
            weight = cast_to(self._raw(index), self.dtype)
        else:
            weight = self._weight(index)
        return channels_last(conv_input_grad(grad, weight, self.specs[index].conv, size))

    def chosen(self, index: int, x: Tensor) -> Tensor:
        """Returns the channels of a unit's input that its weight trains."""
        stored = self.stored[index]
        assert stored is not None and stored.trained is not None
        return pick_channels(x, stored.trained.chosen)

    def normalised(self, index: int, kept: Kept) -> Tensor:
        """Returns the output of a norm that is not folded, from its input and statistics, in new memory."""
        spec, unit = self.specs[index], self.tensors[index]
        assert kept.values is not None
        if spec.norm == "frozen":
            return scale_and_shift(kept.values, unit.frozen_norm(spec.eps))
        assert kept.mean is not None and kept.rstd is not None
        if spec.norm == "batch":
            return normalise_batch_again(kept.values, unit.gamma, unit.beta, BatchStats(kept.mean, kept.rstd))
        return normalise_again(kept.values, unit.gamma, unit.beta, GroupStats(kept.mean, kept.rstd), spec.eps)

    def parameter_grads(self, grads: ChainGrads) -> list[Tensor | None]:
        """Returns gradients of weight, bias, gamma, beta of each unit, unfolded; edits the sums."""
        result: list[Tensor | None] = []
        assert self.plan is not None
        for index, (planned, sums) in enumerate(zip(self.plan.units, grads.sums, strict=True)):
            spec, unit = self.specs[index], self.tensors[index]
            if self.folded[index]:
                norm = unit.frozen_norm(spec.eps)
                stored = self.stored[index]
                # The weight itself is read for gamma's gradient, which a stored weight's norm has apart.
                plain = unit.weight if stored is not None else self._plain(index)
                trained = None if stored is None else stored.trained
                rows = trained.chosen if trained is not None and trained.dim == 0 else None
                made = list(unfold_grads(sums[0], sums[1], plain, unit.bias, norm, planned.needs, rows))
            else:
                made = [g if need else None for g, need in zip(sums, planned.needs, strict=True)]
            if spec.standardized and made[0] is not None:
                made[0] = standardized_grad(made[0], unit.weight)
            result += made
        return result

    def _unit_forward(self, index: int, x: Tensor, keeps: bool) -> tuple[Tensor, Kept]:
        spec, unit = self.specs[index], self.tensors[index]
        plan = _NOTHING if self.plan is None or not keeps else self.plan.units[index]
        source = self.chosen(index, x) if plan.keeps_source else None
        u = self.convolve(index, x)
        mean = rstd = None
        if spec.norm == "group":
            z, (mean, rstd) = normalise(u, unit.gamma, unit.beta, spec.n_groups, spec.eps)
        elif spec.norm == "batch":
            running = Running(unit.mean, unit.var, spec.momentum)
            z, (mean, rstd) = normalise_batch(u, unit.gamma, unit.beta, running, spec.eps)
        elif spec.norm == "frozen" and not self.folded[index]:
            z = scale_and_shift(u, unit.frozen_norm(spec.eps))
        elif plan.keep is Keep.INPUT and spec.activation != "none":
            z = u.clone()
        else:
            z = u
        y = activate_(z, spec.activation)
        if plan.keep is Keep.INPUT:
            return y, Kept(None if plan.again else u, mean, rstd, source)
        if plan.again or plan.keep is Keep.NOTHING:
            return y, Kept(source=source)
        values = y if plan.keep is Keep.OUTPUT else pack_interior(y, *PASSES_BETWEEN[spec.activation])
        return y, Kept(values, source=source)

    def _scales_maps(self, index: int, positions: int) -> bool:
        """Whether the factor of each output channel scales the map and not the weight: true if the map has
        fewer elements.
        """
        if not self._has_factor(index) or self._weights[index] is not None:
            return False
        stored = self.stored[index]
        shape = self.tensors[index].weight.shape if stored is None else stored.shape
        return math.prod(shape[1:]) > positions

    def _has_factor(self, index: int) -> bool:
        stored = self.stored[index]
        return self.folded[index] or (stored is not None and stored.scale_is_apart)

    def _plain(self, index: int) -> Tensor:
        """Returns a parameter as it is used, without the norm."""
        weight = self.tensors[index].weight
        return standardized(weight) if self.specs[index].standardized else weight

    def _raw(self, index: int) -> Tensor:
        """Returns the weight without the factor of each output channel: norm, and scale of 8 bits."""
        stored = self.stored[index]
        if stored is None:
            return self._plain(index)
        raw = self._raws[index]
        if raw is None:
            raw = self._make_raw(index, stored)
            if self.keeps_made:
                self._raws[index] = raw
        return raw

    def _make_raw(self, index: int, stored: StoredForm) -> Tensor:
        return stored.unscaled() if stored.trained is None else stored.whole(self.tensors[index].weight)

    def _weight(self, index: int) -> Tensor:
        weight = self._weights[index]
        if weight is None:
            stored = self.stored[index]
            if stored is not None:
                return self._stored_weight(index, stored)
            weight = self._plain(index)
            if self.folded[index]:
                weight = fold_weight(weight, self._scale(index))
            weight = self._weights[index] = cast_to(weight, self.dtype)
        return weight

    def _stored_weight(self, index: int, stored: StoredForm) -> Tensor:
        """Returns the weight with its factor, made of what is stored: kept only if another slice needs it."""
        known = self._raws[index]
        weight = self._make_raw(index, stored) if known is None else known
        if self._has_factor(index):
            factor = self._factor(index)
            is_mine = known is None and weight is not stored.frozen
            weight = weight.mul_(per_filter(factor, weight)) if is_mine else fold_weight(weight, factor)
        weight = cast_to(weight, self.dtype)
        if self.keeps_made:
            self._weights[index], self._raws[index] = weight, None
        return weight

    def _bias(self, index: int) -> Tensor | None:
        bias = self._biases[index]
        if bias is None:
            spec, unit = self.specs[index], self.tensors[index]
            bias = unit.bias
            if self.folded[index]:
                bias = unit.frozen_norm(spec.eps).shift(self._scale(index), bias)
            if bias is not None:
                bias = self._biases[index] = cast_to(bias, self.dtype)
        return bias

    def _scale(self, index: int) -> Tensor:
        scale = self._scales[index]
        if scale is None:
            scale = self._scales[index] = self.tensors[index].frozen_norm(self.specs[index].eps).scale()
        return scale

    def _factor(self, index: int) -> Tensor:
        """Returns the factor of each output channel of `_raw`."""
        stored = self.stored[index]
        if stored is None or stored.scale is None or not stored.scale_is_apart:
            return self._scale(index)
        if not self.folded[index]:
            return stored.scale
        factor = self._factors[index]
        if factor is None:
            factor = self._factors[index] = self._scale(index) * stored.scale
        return factor

    def _map_factor(self, index: int) -> Tensor:
        return cast_to(self._factor(index), self.dtype).view(-1, 1, 1)


_NOTHING = UnitPlan()
