"""Times each operation of a step where it stands, on a CPU and on a GPU."""

import time
from typing import Any, Protocol

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tinytl.step_time.operations import Cost, Work, cost_of

LEAST_GPU_S = 5e-7
"""What CUDA's events can tell apart: nothing is shorter."""


class Clock(Protocol):
    """Marks moments in the device's queue, and says how far apart they were."""

    def mark(self) -> Any:
        """Returns this moment."""

    def seconds(self, start: Any, end: Any) -> float:
        """Returns the time between two moments; a GPU has to be done with both."""


class CpuClock:
    """A CPU is done with an operation when the call returns."""

    def mark(self) -> float:
        """Returns this moment in seconds."""
        return time.perf_counter()

    def seconds(self, start: float, end: float) -> float:
        """Returns their distance."""
        return end - start


class GpuClock:
    """CUDA's events: on an idle GPU the time between two is that of the launch or of the kernel, whichever is
    longer, as it is in a step that is bound by one of them.
    """

    def mark(self) -> torch.cuda.Event:
        """Returns an event, recorded in the current stream."""
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        """Waits for the later event; returns their distance."""
        end.synchronize()
        return max(LEAST_GPU_S, float(start.elapsed_time(end)) / 1000)


class OperationTimer(TorchDispatchMode):
    """Times the operations that run inside of it, by the clock of their device."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Returns False: nothing here is compiled, and a guard around each call takes time."""
        return False

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.work = Work()
        self._clock = clock
        self._marked: list[tuple[Cost, Any, Any]] = []

    @property
    def operations(self) -> list[tuple[Cost, float]]:
        """What ran, in order, with its seconds."""
        return [(cost, self._clock.seconds(start, end)) for cost, start, end in self._marked]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        start = self._clock.mark()
        out = func(*args, **(kwargs or {}))
        end = self._clock.mark()
        cost = cost_of(func, args, out)
        if cost is not None:
            self._marked.append((cost, start, end))
            self.work.add(cost)
        return out
