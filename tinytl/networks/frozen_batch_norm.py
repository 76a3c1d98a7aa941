"""Batch norm with frozen statistics."""

from torch import nn

from tinytl.networks.surgery import replace_modules_


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """Batch norm `(N, C, H, W)` that keeps its statistics, also under `.train()`.

    Weight and bias can still train. Samples are independent, so micro-batches are exact.
    """

    def train(self, mode: bool = True) -> "FrozenBatchNorm2d":
        """Stays in evaluation mode."""
        super().train(False)
        return self


def freeze_bn_(net: nn.Module) -> list[str]:
    """Replaces every batch norm by one with the same parameters and frozen statistics; returns the names."""

    def frozen(_: str, norm: nn.Module) -> nn.Module:
        assert isinstance(norm, nn.BatchNorm2d)
        new = FrozenBatchNorm2d(norm.num_features, eps=norm.eps, momentum=norm.momentum)
        new.load_state_dict(norm.state_dict())
        return new.eval()

    return replace_modules_(net, lambda _, module: type(module) is nn.BatchNorm2d, frozen)
