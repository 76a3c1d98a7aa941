"""Batch norm in evaluation mode: one scale and one shift per channel, folded into the convolution before it.

With s = gamma / sqrt(var + eps), the convolution's weight becomes W s and its bias beta + (b - mean) s.
The parameters stay where they are. Folding happens in every forward and backward, so nothing is stale. The
shift's gradient is that of beta; the others follow from the folded weight's.
"""

from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from tinytl.memory_efficient.ops.channel_sum import channel_sum
from tinytl.memory_efficient.ops.first_derivative import first_derivative
from tinytl.memory_efficient.ops.precision import cast_to, gradient_wanted


class FrozenNorm(NamedTuple):
    """Statistics and affine parameters `(C,)` of a batch norm in evaluation mode; None: not affine."""

    mean: Tensor
    var: Tensor
    gamma: Tensor | None
    beta: Tensor | None
    eps: float

    def scale(self) -> Tensor:
        """Returns gamma / sqrt(var + eps), `(C,)`."""
        inverse = (self.var + self.eps).rsqrt_()
        return inverse if self.gamma is None else inverse.mul_(self.gamma)

    def shift(self, scale: Tensor, bias: Tensor | None) -> Tensor:
        """Returns beta + (bias - mean) scale, `(C,)`, for the bias of the convolution before."""
        centre = self.mean if bias is None else self.mean - bias
        if self.beta is None:
            return (centre * scale).neg_()
        return torch.addcmul(self.beta, centre, scale, value=-1)


class FoldedGrads(NamedTuple):
    """Gradients of what was folded; None if not asked for or not there."""

    weight: Tensor | None
    bias: Tensor | None
    gamma: Tensor | None
    beta: Tensor | None


def fold_weight(weight: Tensor, scale: Tensor) -> Tensor:
    """Returns the weight `(C, ...)` of the convolution that does both, in new memory."""
    return weight * scale.view(-1, *(1,) * (weight.dim() - 1))


def unfold_grads(
    grad_weight: Tensor | None,
    grad_shift: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    norm: FrozenNorm,
    needs: tuple[bool, bool, bool, bool],
    rows: Tensor | None = None,
) -> FoldedGrads:
    """Returns gradients of (weight, bias, gamma, beta) from those of the folded weight and bias.

    Edits `grad_weight`, which the caller must own. `needs` says which to compute: weight and gamma need
    `grad_weight`, gamma, bias and beta need `grad_shift`. `rows`: the output channels that `grad_weight` has,
    if these are not all.
    """
    needs_weight, needs_bias, needs_gamma, needs_beta = needs
    gamma = None
    if needs_gamma:
        assert grad_weight is not None and grad_shift is not None
        centre = norm.mean if bias is None else norm.mean - bias
        along = (grad_weight * weight).sum(tuple(range(1, weight.dim())))
        gamma = along.addcmul_(grad_shift, centre, value=-1).mul_(torch.rsqrt(norm.var + norm.eps))
    scale = norm.scale() if needs_weight or needs_bias else None
    if needs_weight:
        assert grad_weight is not None and scale is not None
        of_rows = scale if rows is None else scale.index_select(0, rows)
        grad_weight.mul_(of_rows.view(-1, *(1,) * (weight.dim() - 1)))
    return FoldedGrads(
        grad_weight if needs_weight else None,
        grad_shift * scale if needs_bias and grad_shift is not None and scale is not None else None,
        gamma,
        grad_shift if needs_beta else None,
    )


def scale_and_shift(x: Tensor, norm: FrozenNorm) -> Tensor:
    """Returns the norm of `(N, C, H, W)`, in new memory; types of 16 bits are scaled in 32."""
    if x.dtype.itemsize < 4:
        return F.batch_norm(x, norm.mean, norm.var, norm.gamma, norm.beta, False, 0.0, norm.eps)
    scale = norm.scale()
    shift = norm.shift(scale, None).to(x.dtype).view(-1, 1, 1)
    return torch.addcmul(shift, x, scale.to(x.dtype).view(-1, 1, 1))


def gamma_grad(grad: Tensor, total: Tensor, x: Tensor, norm: FrozenNorm) -> Tensor:
    """Returns the gradient of gamma from that of the norm's output, its sum `total`, and the norm's input."""
    along = channel_sum(grad * x)
    along = along.addcmul_(total, cast_to(norm.mean, along.dtype), value=-1)
    return along * torch.rsqrt(norm.var + norm.eps)


def lean_frozen_norm(x: Tensor, norm: FrozenNorm) -> Tensor:
    """Applies the norm to `(N, C, H, W)` under autograd, keeping `x` only if gamma trains."""
    if not gradient_wanted(x, norm.gamma, norm.beta):
        return scale_and_shift(x, norm)
    return cast(Tensor, FrozenNormFunction.apply(x, *norm))


class FrozenNormFunction(torch.autograd.Function):
    """Batch norm in evaluation mode without a convolution before it; use `lean_frozen_norm`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *parts: Any) -> Tensor:
        """Keeps the parameters, and the input if gamma trains."""
        norm = FrozenNorm(*parts)
        ctx.eps = norm.eps
        ctx.save_for_backward(x if ctx.needs_input_grad[3] else None, *norm[:4])
        return scale_and_shift(x, norm)

    @staticmethod
    @first_derivative
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the gradients of x, gamma and beta that are needed."""
        x, mean, var, gamma, beta = ctx.saved_tensors
        norm = FrozenNorm(mean, var, gamma, beta, ctx.eps)
        needs_x, _, _, needs_gamma, needs_beta, _ = ctx.needs_input_grad
        of_x = grad * norm.scale().to(grad.dtype).view(-1, 1, 1) if needs_x else None
        total = channel_sum(grad) if needs_gamma or needs_beta else None
        of_gamma = gamma_grad(grad, total, x, norm) if needs_gamma and total is not None else None
        return of_x, None, None, of_gamma, total if needs_beta else None, None
