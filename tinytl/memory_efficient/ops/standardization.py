"""Weight standardisation whose backward needs the weight alone, and no tensor beside it."""

import math
from typing import Any, cast

import torch
from torch import Tensor

from tinytl.memory_efficient.ops.first_derivative import first_derivative
from tinytl.memory_efficient.ops.precision import gradient_wanted
from tinytl.networks.weight_standardization import FILTER, WS_EPS, standardized


def standardized_grad(grad: Tensor, weight: Tensor) -> Tensor:
    """Returns the gradient of a weight from that of the standardised weight, in new memory."""
    centred = weight - weight.mean(FILTER, keepdim=True)
    n = weight[0].numel()
    std = torch.linalg.vector_norm(centred, dim=FILTER, keepdim=True) / math.sqrt(n - 1)
    along = (grad * centred).sum(FILTER, keepdim=True) / ((n - 1) * std * (std + WS_EPS))
    along = along.masked_fill_(std == 0, 0.0)  # a filter of one value throughout
    made = grad - grad.mean(FILTER, keepdim=True)
    return made.addcmul_(centred, along, value=-1).div_(std + WS_EPS)


def lean_standardized(weight: Tensor) -> Tensor:
    """Returns `standardized(weight)` under autograd, keeping only the weight, which exists anyway."""
    if not gradient_wanted(weight):
        return standardized(weight)
    return cast(Tensor, StandardizeFunction.apply(weight))


class StandardizeFunction(torch.autograd.Function):
    """Weight standardisation under autograd; use `lean_standardized`."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        """Keeps the weight."""
        ctx.save_for_backward(weight)
        return standardized(weight)

    @staticmethod
    @first_derivative
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the weight's gradient."""
        (weight,) = ctx.saved_tensors
        return (standardized_grad(grad, weight),)
