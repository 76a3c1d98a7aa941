"""Group norm in place of batch norm."""

import logging
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.torch_version import TorchVersion

from tinytl.networks.frozen_batch_norm import BATCH_NORMS
from tinytl.networks.surgery import replace_modules_

logger = logging.getLogger(__name__)

NEEDS_INPUT_GRADIENT = TorchVersion(torch.__version__) < "2.15"
"""Whether torch on a CPU ends with a segmentation fault in the backward of a group norm in channels_last that
trains while its input needs no gradient."""


class GroupNorm(nn.GroupNorm):
    """Group norm that may be the first layer that trains, on every torch."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalises `(N, C, ...)`."""
        return group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


def group_norm(
    x: Tensor, n_groups: int, weight: Tensor | None, bias: Tensor | None, eps: float = 1e-5
) -> Tensor:
    """Normalises `(N, C, ...)` as torch does, without its fault (`NEEDS_INPUT_GRADIENT`)."""
    if NEEDS_INPUT_GRADIENT and torch.is_grad_enabled() and x.device.type == "cpu":
        trained = next((p for p in (weight, bias) if p is not None and p.requires_grad), None)
        if trained is not None:
            x = cast(Tensor, _AsksForGradient.apply(x, trained))
    return F.group_norm(x, n_groups, weight, bias, eps)


class _AsksForGradient(torch.autograd.Function):
    """Returns `x`, whose gradient is then made whenever that of a trained parameter is."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, _trained: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None]:
        return grad if ctx.needs_input_grad[0] else None, None


def replace_bn_with_gn(net: nn.Module, gn_channel_per_group: int = 8) -> list[str]:
    """Replaces every batch norm by a group norm that has its weight and bias, in place.

    A layer whose width `gn_channel_per_group` does not divide gets the next smaller size that does, and
    a line in the log. Fewer channels per group: noisier statistics; memory is the same.

    Returns:
        The dotted names replaced.

    Source: once-for-all `ofa/utils/pytorch_utils.py`, used by TinyTL.
    """

    def replacement(name: str, norm: nn.Module) -> nn.Module:
        assert isinstance(norm, BATCH_NORMS)
        size = min(gn_channel_per_group, norm.num_features)
        while norm.num_features % size:
            size -= 1
        if size != gn_channel_per_group:
            logger.info(
                "%s: %d channels, groups of %d instead of %d",
                name,
                norm.num_features,
                size,
                gn_channel_per_group,
            )
        new = GroupNorm(norm.num_features // size, norm.num_features, eps=norm.eps, affine=False)
        # The same parameters: their type, device and requires_grad stay, and so does who holds them.
        new.affine, new.weight, new.bias, new.training = norm.affine, norm.weight, norm.bias, norm.training
        return new

    return replace_modules_(net, lambda _, module: isinstance(module, BATCH_NORMS), replacement)
