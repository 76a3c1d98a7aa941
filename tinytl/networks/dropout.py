"""Dropout whose mask does not depend on how a batch is cut into micro-batches."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tinytl.device import sent


class RowwiseDropout(nn.Module):
    """Drops features of `(N, C)` with probability `p` in training and scales the rest by `1 / (1 - p)`.

    The mask is drawn row by row from torch's CPU generator on every device: eight rows at once and eight
    single rows get the same masks. `nn.Dropout` does not guarantee this.
    """

    drawn: Tensor | None = None
    """The mask to use, see `masks_from`; None: it is drawn as the module runs."""

    def __init__(self, p: float, features: int) -> None:
        super().__init__()
        self.p = p
        self.features = features

    def forward(self, x: Tensor) -> Tensor:
        """Returns `x` unchanged in evaluation mode or for `p` = 0."""
        if not self.drops:
            return x
        keep = sent(self.draw(len(x)), x.device) if self.drawn is None else self.drawn
        return x * keep / (1.0 - self.p)

    @property
    def drops(self) -> bool:
        """Whether it draws a mask as it runs now."""
        return self.training and self.p > 0.0

    def draw(self, n_rows: int) -> Tensor:
        """Returns the mask `(n_rows, features)` of the next rows, on the CPU: true where a feature stays."""
        return torch.rand(n_rows, self.features) >= self.p


def dropouts_of(net: nn.Module) -> list[RowwiseDropout]:
    """Returns the modules of `net` that draw masks now, in the order in which it has them."""
    return [module for module in net.modules() if isinstance(module, RowwiseDropout) and module.drops]


@contextmanager
def masks_from(masks: Mapping[RowwiseDropout, Tensor]) -> Iterator[None]:
    """Inside of it modules read their masks from tensors on the device, and draw none: for a recorded step,
    which reads the same memory every time.
    """
    for module, mask in masks.items():
        module.drawn = mask
    try:
        yield
    finally:
        for module in masks:
            del module.drawn


def skip_rows(net: nn.Module, n_rows: int) -> None:
    """Draws and discards the masks of `n_rows` of another process, so that later rows get their own masks."""
    if n_rows == 0:
        return
    for module in dropouts_of(net):
        module.draw(n_rows)
