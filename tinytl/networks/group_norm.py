"""Group norm in place of batch norm."""

import logging

from torch import nn

from tinytl.networks.surgery import replace_modules_

logger = logging.getLogger(__name__)


def replace_bn_with_gn(net: nn.Module, gn_channel_per_group: int = 8) -> list[str]:
    """Replaces every batch norm by a group norm that has its weight and bias, in place.

    A layer whose width `gn_channel_per_group` does not divide gets the next smaller size that does, and
    a line in the log. Fewer channels per group: noisier statistics; memory is the same.

    Returns:
        The dotted names replaced.

    Source: once-for-all `ofa/utils/pytorch_utils.py`, used by TinyTL.
    """

    def group_norm(name: str, norm: nn.Module) -> nn.Module:
        assert isinstance(norm, nn.BatchNorm2d)
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
        new = nn.GroupNorm(norm.num_features // size, norm.num_features, eps=norm.eps, affine=False)
        # The same parameters: their type, device and requires_grad stay, and so does who holds them.
        new.affine, new.weight, new.bias, new.training = norm.affine, norm.weight, norm.bias, norm.training
        return new

    return replace_modules_(net, lambda _, module: isinstance(module, nn.BatchNorm2d), group_norm)
