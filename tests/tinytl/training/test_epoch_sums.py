"""Sums of an epoch: exact, and a loss that is not finite is found in the step where it was."""

from typing import ClassVar

import pytest
import torch
from torch import Tensor

from tinytl.training import epoch_sums
from tinytl.training.epoch_sums import EpochSums

CPU = torch.device("cpu")


def add(sums: EpochSums, loss: float, correct: int = 1) -> None:
    sums.add(torch.tensor(loss), torch.tensor(correct))


def test_sums_are_those_of_numbers() -> None:
    sums, losses = EpochSums(CPU), [0.1, 2.5, 1e-7, 3e4]
    for loss in losses:
        add(sums, loss, 3)
    assert sums.read() == (sum(float(torch.tensor(loss)) for loss in losses), 12)
    assert sums.failed_step is None


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_cpu_says_at_once_which_step_failed(bad: float) -> None:
    sums = EpochSums(CPU)
    for step, loss in enumerate((1.0, bad, 1.0), start=1):
        add(sums, loss)
        assert sums.failed_step == (2 if step >= 2 else None)


class _Late:
    """Stands in for a copy to the host: what the tensor held, read by nobody before it is asked for."""

    made: ClassVar[list["_Late"]] = []

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.was_read = tensor.clone(), False
        self.made.append(self)

    def read(self) -> Tensor:
        self.was_read = True
        return self.tensor


def on_gpu() -> EpochSums:
    """Takes the path of a GPU, with sums on the CPU."""
    sums = EpochSums(CPU)
    sums.waits = False
    return sums


def test_a_gpu_is_asked_one_step_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epoch_sums, "HostCopy", _Late)
    _Late.made.clear()
    sums = on_gpu()
    for step, loss in enumerate((1.0, float("nan"), 1.0), start=1):
        add(sums, loss)
        assert [late.was_read for late in _Late.made] == [True] * (step - 1) + [False]
        assert sums.failed_step == (2 if step == 3 else None)


def test_the_last_step_of_a_gpu_is_checked_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epoch_sums, "HostCopy", _Late)
    sums = on_gpu()
    add(sums, 1.0)
    add(sums, float("inf"))
    assert sums.failed_step is None
    sums.read()
    assert sums.failed_step == 2
