"""Operations are timed by the clock of their device."""

import pytest
import torch

from tinytl.step_time.operation_timer import LEAST_GPU_S, CpuClock, GpuClock, OperationTimer


class CountedClock:
    """Time is the number of looks at it."""

    def __init__(self) -> None:
        self.looks = 0

    def mark(self) -> int:
        self.looks += 1
        return self.looks

    def seconds(self, start: int, end: int) -> float:
        return float(end - start)


def test_each_operation_with_a_cost_is_timed_between_its_own_marks() -> None:
    clock = CountedClock()
    with OperationTimer(clock) as timer:
        x = torch.ones(4, 8)  # a constant: fake tensors make it again and again
        y = x.mul(2.0)
        y @ y.t()
    assert [(cost.kind, seconds) for cost, seconds in timer.operations] == [
        ("mul", 1.0),
        ("view", 1.0),
        ("mm", 1.0),
    ]
    assert clock.looks == 8
    assert timer.work.sums["mm"] == [1, 4 * (32 + 32 + 16), 4 * 4 * 8]


def test_a_cpu_is_done_when_the_call_returns() -> None:
    with OperationTimer(CpuClock()) as timer:
        torch.randn(300, 300) @ torch.randn(300, 300)
    seconds = dict((cost.kind, seconds) for cost, seconds in timer.operations)
    assert 0 < seconds["mm"] < 1


class PretendedEvent:
    """What `torch.cuda.Event` does in a queue of milliseconds."""

    queue = iter(())

    def __init__(self, enable_timing: bool = False) -> None:
        assert enable_timing
        self.at: float | None = None
        self.waited = False

    def record(self) -> None:
        self.at = next(self.queue)

    def synchronize(self) -> None:
        self.waited = True

    def elapsed_time(self, end: "PretendedEvent") -> float:
        assert end.waited, "the GPU may not be there yet"
        assert self.at is not None and end.at is not None
        return end.at - self.at


def test_a_gpus_time_is_that_between_events_and_never_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Event", PretendedEvent)
    monkeypatch.setattr(PretendedEvent, "queue", iter((10.0, 12.5, 20.0, 20.0)))
    x = torch.ones(3)
    with OperationTimer(GpuClock()) as timer:
        x.mul(3).mul(2)
    assert [seconds for _, seconds in timer.operations] == [0.0025, LEAST_GPU_S]
