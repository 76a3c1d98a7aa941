"""Dropout whose mask does not depend on how a batch is cut into micro-batches."""

import torch
from torch import Tensor, nn


class RowwiseDropout(nn.Module):
    """Drops features of `(N, C)` with probability `p` in training and scales the rest by `1 / (1 - p)`.

    The mask is drawn row by row from torch's CPU generator, whatever the device: eight rows at once and
    eight times one row give the same masks, which `nn.Dropout` does not promise.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Returns `x` as it is in evaluation mode or for `p` = 0."""
        if not self.training or self.p == 0.0:
            return x
        keep = torch.rand(x.shape) >= self.p
        return x * keep.to(x.device) / (1.0 - self.p)
