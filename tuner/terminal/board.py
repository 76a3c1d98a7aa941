"""What is known of a study as it runs: which trials run, what has ended, how fast, when it will end."""

import heapq
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tuner.record import schema
from tuner.record.results import best_under, pareto_front
from tuner.record.trials import Trial, trial_of_row


@dataclass
class RunningTrial:
    """A trial that a worker trains."""

    name: str
    since_s: float
    """When it was handed out, on the board's clock."""
    mark_s: float
    """When it last reported, or was handed out."""
    epoch: int = 0
    """Epochs that it has reported."""
    row: Mapping[str, Any] = field(default_factory=dict)
    """The last epoch's row of `metrics.jsonl`."""
    trained: int = 0
    """Epochs that it has trained since it was handed out."""
    spent_s: float = 0.0
    """Seconds spent on these."""

    @property
    def pace_s(self) -> float | None:
        """Seconds per epoch, with everything between epochs; None before the first."""
        return self.spent_s / self.trained if self.trained else None


class StudyBoard:
    """Follows a study; times are seconds of `clock`.

    `counts`: trials by state when the driver started. `results`: those that were complete then.
    """

    def __init__(
        self,
        *,
        requested: int,
        epochs: int,
        workers: int,
        budget_mib: float | None = None,
        metric: str = "accuracy_top1",
        counts: Mapping[str, int] | None = None,
        results: Sequence[Trial] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.requested = requested
        self.epochs = epochs
        self.workers = workers
        self.budget_mib = budget_mib
        self.metric = metric
        self.counts = dict(counts or {}) | {"running": 0}
        self.results = list(results)
        self.front = pareto_front(self.results)
        """The front so far, by rising memory: kept, as a view asks for it twice per second."""
        self.running: dict[str, RunningTrial] = {}
        self.clock = clock
        self.started_s = clock()
        self.phase = ""
        """What happens beside the search, in a few words."""
        self._spent_s = 0.0
        self._trained = 0
        self._lengths: list[int] = []
        """Epochs of the trials that ended here."""

    def trial_started(self, name: str) -> None:
        """A worker trains the trial from now on."""
        now = self.clock()
        self.running[name] = RunningTrial(name, now, now)

    def epoch_ended(self, name: str, row: Mapping[str, Any]) -> None:
        """A trial reports an epoch. A resumed trial reports its last epoch again, which needs no time."""
        trial = self.running.get(name)
        if trial is None:
            return
        now, training_s = self.clock(), float(row["epoch_time_s"])
        spent_s = now - trial.mark_s
        trial.mark_s, trial.epoch, trial.row = now, int(row["epoch"]), row
        if spent_s < training_s / 2:
            return
        if not trial.trained:  # a process may have had to start, which says nothing about later epochs
            spent_s = min(spent_s, 2 * training_s)
        trial.trained += 1
        trial.spent_s += spent_s
        self._trained += 1
        self._spent_s += spent_s

    def trial_ended(self, name: str, state: str) -> None:
        """A trial's record says that it ended."""
        trial = self.running.pop(name, None)
        self.counts[state] = self.counts.get(state, 0) + 1
        if trial is None or not trial.row:
            return
        if state in schema.ENDED:
            self._lengths.append(trial.epoch)
        if state == "complete":
            result = trial_of_row(name, trial.row)
            self.results.append(result)
            self.front = pareto_front([*self.front, result])

    @property
    def ended(self) -> int:
        """How many trials ended and count."""
        return sum(self.counts.get(state, 0) for state in schema.ENDED)

    @property
    def best(self) -> Trial | None:
        """The most accurate trial within the budget: it is on the front."""
        return best_under(self.front, self.budget_mib)

    @property
    def elapsed_s(self) -> float:
        """Since the driver started."""
        return self.clock() - self.started_s

    @property
    def epochs_per_s(self) -> float | None:
        """Sum over all running trials, each at its own pace; None before the first epoch has ended."""
        if not self._trained or not self.running:
            return None
        pace_s = self._spent_s / self._trained
        return sum(1 / (trial.pace_s or pace_s) for trial in self.running.values())

    @property
    def images_per_s(self) -> float | None:
        """Training images per second of all running trials, as each last reported; None before that."""
        rates = [float(t.row["images_per_s"]) for t in self.running.values() if "images_per_s" in t.row]
        return sum(rates) if rates else None

    @property
    def left_s(self) -> float | None:
        """Seconds until all trials have ended, estimated from the epochs so far; None before the first.

        Each running trial keeps its own pace. Trials to come get the mean pace of all, and the mean length of
        those that ended, early stops included.
        """
        if not self._trained:
            return None
        now, pace_s = self.clock(), self._spent_s / self._trained
        ends = []
        for trial in self.running.values():
            whole_s = (self.epochs - trial.epoch) * (trial.pace_s or pace_s)
            ends.append(max(0.0, whole_s - (now - trial.mark_s)))
        to_come = max(0, self.requested - self.ended - len(ends))
        if not ends and not to_come:
            return None
        ends += [0.0] * (self.workers - len(ends))
        heapq.heapify(ends)
        length = sum(self._lengths) / len(self._lengths) if self._lengths else self.epochs
        for _ in range(to_come):
            heapq.heapreplace(ends, ends[0] + length * pace_s)
        return max(ends)
