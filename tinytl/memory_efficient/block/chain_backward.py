"""Backward of a chain of units on one slice of a batch.

Gradients made on the way are edited in place. The incoming gradient and kept tensors never are.
"""

import torch
from torch import Tensor

from tinytl.memory_efficient.block.chain import Chain, ChainGrads, Kept, Size
from tinytl.memory_efficient.block.unit import Keep
from tinytl.memory_efficient.ops.activation import PASSES_BETWEEN, activate_, activation_grad
from tinytl.memory_efficient.ops.batch_norm import BatchStats, normalise_batch_grads, some_at_a_time
from tinytl.memory_efficient.ops.bit_mask import apply_bits, pack_interior
from tinytl.memory_efficient.ops.channel_sum import channel_sum
from tinytl.memory_efficient.ops.convolution import conv_weight_grad
from tinytl.memory_efficient.ops.frozen_norm import gamma_grad
from tinytl.memory_efficient.ops.group_norm import GroupStats, normalise_grads
from tinytl.memory_efficient.ops.layout import channels_last
from tinytl.memory_efficient.ops.precision import cast_to
from tinytl.memory_efficient.ops.stored_convolution import part_grad


def chain_backward(
    chain: Chain,
    grad: Tensor,
    x: Tensor | None,
    size: Size,
    kept: list[Kept],
    grads: ChainGrads,
    owned: bool = False,
) -> Tensor | None:
    """Returns the gradient of the chain's input (of `size`), in new memory, None if not asked for.

    Adds the parameters' gradients to `grads`. `grad` is in channels_last, and edited if it is `owned`; `x` is
    the chain's input if the plan keeps it.
    """
    return _Walk(chain, x, size, kept, grads).run(grad, owned)


class _Walk:
    """One backward pass through a chain, with what it recomputes."""

    def __init__(
        self, chain: Chain, x: Tensor | None, size: Size, kept: list[Kept], grads: ChainGrads
    ) -> None:
        assert chain.plan is not None
        self.chain, self.plan, self.x, self.kept, self.grads = chain, chain.plan, x, list(kept), grads
        self.sizes = chain.sizes(size)
        self.norm_apart = [
            spec.norm != "none" and not folded for spec, folded in zip(chain.specs, chain.folded, strict=True)
        ]
        self.outputs: dict[int, Tensor] = {}
        self.masks: dict[int, Tensor] = {}

    def run(self, grad: Tensor, owned: bool) -> Tensor | None:
        for index in reversed(range(self.plan.first, len(self.chain.specs))):
            self._make_again(index)
            if self.chain.specs[index].activation != "none":
                grad, owned = self._at_activation(index, grad, grad if owned else None), True
            grad = self._at_norm(index, grad, owned)
            plan = self.plan.units[index]
            chosen = self.kept[index].source
            self.kept[index] = Kept()
            if plan.weight_grad and self.chain.specs[index].in_part:
                self._add_grad_of_part(index, grad, chosen)
            elif plan.weight_grad:
                weight, source = self.chain.tensors[index].weight, self._output(index - 1)
                spec = self.chain.specs[index].conv
                made = conv_weight_grad(grad, source, cast_to(weight, grad.dtype), spec)
                self.grads.add(index, ChainGrads.WEIGHT, cast_to(made, weight.dtype))
                del source
            del chosen
            if not plan.input_grad:
                return None
            grad, owned = self.chain.convolve_back(index, grad, self.sizes[index]), True
        return grad

    def _add_grad_of_part(self, index: int, grad: Tensor, chosen: Tensor | None) -> None:
        """Adds the gradient of the trained part of a weight; `chosen`: the trained channels of its input."""
        if chosen is None:
            chosen = self.chain.chosen(index, self._output(index - 1))
        stored = self.chain.stored[index]
        assert stored is not None
        part, spec = self.chain.tensors[index].weight, self.chain.specs[index].conv
        self.grads.add(index, ChainGrads.WEIGHT, part_grad(grad, chosen, part, stored, spec))

    def _at_activation(self, index: int, grad: Tensor, out: Tensor | None) -> Tensor:
        name = self.chain.specs[index].activation
        values = self.kept[index].values
        assert values is not None
        if self.plan.units[index].keep is Keep.BITS:
            return apply_bits(grad, values, torch.empty_like(grad) if out is None else out)
        if index in self.masks:
            return apply_bits(grad, self.masks.pop(index), torch.empty_like(grad) if out is None else out)
        if self.plan.units[index].keep is Keep.INPUT and self.chain.specs[index].norm == "batch":
            return self._a_few_at_a_time(index, grad, torch.empty_like(grad) if out is None else out)
        if self.plan.units[index].keep is Keep.INPUT and self.norm_apart[index]:
            again = self.outputs.pop(index, None)
            values = self.chain.normalised(index, self.kept[index]) if again is None else again
            out = values if out is None else out
        return activation_grad(grad, values, name, out)

    def _a_few_at_a_time(self, index: int, grad: Tensor, out: Tensor) -> Tensor:
        """Takes the gradient back through an activation, from the norm's input, for some samples at a time.

        A block with batch norm is one slice, so its maps are large.
        """
        kept = self.kept[index]
        assert kept.values is not None
        for rows in some_at_a_time(kept.values):
            values = self.chain.normalised(index, kept._replace(values=kept.values[rows]))
            part = out[rows]
            made = activation_grad(grad[rows], values, self.chain.specs[index].activation, part)
            if made is not part:
                part.copy_(made)
        return out

    def _at_norm(self, index: int, grad: Tensor, owned: bool) -> Tensor:
        """Adds the gradients of bias, gamma and beta; returns that of the convolution's output."""
        spec, needs = self.chain.specs[index], self.plan.units[index].needs
        if not self.norm_apart[index]:
            if needs.bias or (spec.norm == "frozen" and (needs.gamma or needs.beta)):
                self.grads.add(index, ChainGrads.BIAS, channel_sum(grad))
            return grad
        if spec.norm_reads_input:
            grad = self._at_live_norm(index, grad, owned)
        else:
            grad = self._at_frozen_norm(index, grad, owned)
        if needs.bias:
            self.grads.add(index, ChainGrads.BIAS, channel_sum(grad))
        return grad

    def _at_live_norm(self, index: int, grad: Tensor, owned: bool) -> Tensor:
        """Takes the gradient back through a norm with statistics of its input: group norm, batch norm."""
        plan, (u, mean, rstd, _) = self.plan.units[index], self.kept[index]
        if not (plan.grad_at_norm or plan.needs.gamma):
            self.grads.add(index, ChainGrads.BETA, channel_sum(grad))
            return grad
        assert u is not None and mean is not None and rstd is not None
        asked = (plan.grad_at_norm, plan.needs.gamma, plan.needs.beta)
        gamma = self.chain.tensors[index].gamma
        if self.chain.specs[index].norm == "group":
            made = normalise_grads(grad, u, gamma, GroupStats(mean, rstd), asked)
        else:
            out = grad if owned else None
            made = normalise_batch_grads(grad, u, gamma, BatchStats(mean, rstd), asked, out)
        self.grads.add(index, ChainGrads.GAMMA, made.gamma)
        self.grads.add(index, ChainGrads.BETA, made.beta)
        return grad if made.x is None else channels_last(made.x)

    def _at_frozen_norm(self, index: int, grad: Tensor, owned: bool) -> Tensor:
        norm = self.chain.tensors[index].frozen_norm(self.chain.specs[index].eps)
        plan, u = self.plan.units[index], self.kept[index].values
        assert u is not None
        total = channel_sum(grad)
        self.grads.add(index, ChainGrads.GAMMA, gamma_grad(grad, total, u, norm))
        if plan.needs.beta:
            self.grads.add(index, ChainGrads.BETA, total)
        if not plan.grad_at_norm:
            return grad
        scale = cast_to(norm.scale(), grad.dtype).view(-1, 1, 1)
        return grad.mul_(scale) if owned else grad * scale

    def _make_again(self, index: int) -> None:
        kept = self.kept[index]
        if not self.plan.units[index].again or kept.values is not None:
            return
        u = self.chain.convolve(index, self._output(index - 1))
        if self.plan.units[index].keep is Keep.OUTPUT:
            u = activate_(u, self.chain.specs[index].activation)
        self.kept[index] = kept._replace(values=u)

    def _output(self, index: int) -> Tensor:
        """Returns the output of unit `index`, from what it keeps."""
        if index < 0:
            assert self.x is not None
            return self.x
        self._make_again(index)
        values, name = self.kept[index].values, self.chain.specs[index].activation
        assert values is not None
        if self.plan.units[index].keep is Keep.OUTPUT:
            return values
        if not self.norm_apart[index]:
            return values if name == "none" else activate_(values.clone(), name)
        output = activate_(self.chain.normalised(index, self.kept[index]), name)
        # Its mask equals that of its input, and is needed next.
        if name in PASSES_BETWEEN and self.chain.specs[index].norm == "batch":
            self.masks[index] = pack_interior(output, *PASSES_BETWEEN[name])
        elif name in PASSES_BETWEEN:
            self.outputs[index] = output
        return output
