"""Loss and hits of an epoch, summed on the device that trains, without waiting for it."""

import math

import torch
from torch import Tensor

from tinytl.device import HostCopy


class EpochSums:
    """Sums over the steps of an epoch.

    A GPU is never waited for within a step. Whether a loss was finite is read one step late, from a copy that
    was made meanwhile; a CPU says it at once.
    """

    waits: bool
    """Whether each step's sum is read as soon as it is there."""
    failed_step: int | None
    """The first step, counted from 1, after which the sum of losses was not finite; None: none is known."""

    def __init__(self, device: torch.device) -> None:
        self.waits = device.type == "cpu"
        self._sums = torch.zeros(2, dtype=torch.float64, device=device)
        self._steps = 0
        self._late: HostCopy | None = None
        self.failed_step = None

    def add(self, loss: Tensor, correct: Tensor) -> None:
        """Adds a step's summed loss and number of hits, both scalars on the device."""
        self._sums += torch.stack((loss.double(), correct.double()))
        self._steps += 1
        if self.waits:
            self._check(self._sums)
            return
        before, self._late = self._late, HostCopy(self._sums)
        if before is not None:
            self._check(before.read(), steps_ago=1)

    def read(self) -> tuple[float, int]:
        """Waits for the last step; returns the sum of losses and the number of hits."""
        loss, correct = self._sums.tolist()
        self._check(self._sums)
        return loss, int(correct)

    def _check(self, sums: Tensor, steps_ago: int = 0) -> None:
        if self.failed_step is None and self._steps > steps_ago and not math.isfinite(float(sums[0])):
            self.failed_step = self._steps - steps_ago
