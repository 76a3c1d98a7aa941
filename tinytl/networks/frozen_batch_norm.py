"""Batch norm with frozen statistics."""

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from tinytl.networks.surgery import replace_modules_


class _Frozen(_BatchNorm):
    """Batch norm that keeps its statistics, also under `.train()`.

    Weight and bias can still train. Samples are independent, so micro-batches are exact.
    """

    def train(self, mode: bool = True) -> Any:
        """Stays in evaluation mode."""
        super().train(False)
        return self


class FrozenBatchNorm1d(_Frozen, nn.BatchNorm1d):
    """Of vectors `(N, C)` or `(N, C, L)`, as some networks have behind their pooling."""


class FrozenBatchNorm2d(_Frozen, nn.BatchNorm2d):
    """Of maps `(N, C, H, W)`."""


BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
"""The classes that can be frozen, and replaced by group norms."""


def freeze_bn_(net: nn.Module) -> list[str]:
    """Replaces every batch norm by one with the same parameters and frozen statistics; returns the names."""

    def frozen(_: str, norm: nn.Module) -> nn.Module:
        assert isinstance(norm, _BatchNorm)
        kind = FrozenBatchNorm1d if isinstance(norm, nn.BatchNorm1d) else FrozenBatchNorm2d
        new = kind(norm.num_features, eps=norm.eps, momentum=norm.momentum, affine=norm.affine)
        new.load_state_dict(norm.state_dict())
        return new.eval()

    return replace_modules_(net, lambda _, module: type(module) in BATCH_NORMS, frozen)
