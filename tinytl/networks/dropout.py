"""Dropout whose mask does not depend on how a batch is cut into micro-batches."""

import torch
from torch import Tensor, nn

from tinytl.device import sent


class RowwiseDropout(nn.Module):
    """Drops features of `(N, C)` with probability `p` in training and scales the rest by `1 / (1 - p)`.

    The mask is drawn row by row from torch's CPU generator on every device: eight rows at once and eight
    single rows get the same masks. `nn.Dropout` does not guarantee this.
    """

    def __init__(self, p: float, features: int) -> None:
        super().__init__()
        self.p = p
        self.features = features

    def forward(self, x: Tensor) -> Tensor:
        """Returns `x` unchanged in evaluation mode or for `p` = 0."""
        if not self.training or self.p == 0.0:
            return x
        keep = torch.rand(x.shape) >= self.p
        return x * sent(keep, x.device) / (1.0 - self.p)


def skip_rows(net: nn.Module, n_rows: int) -> None:
    """Draws and discards the masks of `n_rows` of another process, so that later rows get their own masks."""
    if n_rows == 0:
        return
    for module in net.modules():
        if isinstance(module, RowwiseDropout) and module.training and module.p > 0.0:
            torch.rand(n_rows, module.features)
