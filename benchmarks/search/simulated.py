"""Searches on a table of trained configurations: what a search would have spent and found, without training.

Trials run side by side, all epochs are equally long, and a search learns of an epoch when it ends.
Cost is counted in epochs that ended, also those of stopped trials.
"""

from collections import deque
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from benchmarks.search.table import row_key

Point = tuple[float, float]
"""Accuracy, and memory in MiB."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A trained configuration."""

    values: Mapping[str, Any]
    accuracies: tuple[float, ...]
    """On the validation images, after each epoch."""
    memory_mib: float


@dataclass(frozen=True)
class Table:
    """Every configuration of a space by `row_key`."""

    rows: Mapping[str, Row]

    @property
    def epochs(self) -> int:
        """The number of epochs of a whole trial."""
        return len(next(iter(self.rows.values())).accuracies)

    @property
    def worst_memory_mib(self) -> float:
        """The largest memory: hypervolumes count from there, and from accuracy 0."""
        return max(row.memory_mib for row in self.rows.values())

    @property
    def hypervolume(self) -> float:
        """The hypervolume of a search that has trained everything, in MiB."""
        points = [(row.accuracies[-1], row.memory_mib) for row in self.rows.values()]
        return hypervolume(points, self.worst_memory_mib)

    def memory_mib(self, values: Mapping[str, Any]) -> float:
        """Returns the memory that a configuration needs, which is known before it starts."""
        return self.rows[row_key(values)].memory_mib


class Searcher(Protocol):
    """A search as the simulation drives it."""

    def next_trial(self) -> tuple[Hashable, Mapping[str, Any]] | None:
        """Returns a name and a configuration, or None once there is none to try: it is not asked again."""

    def goes_on(self, trial: Hashable, epoch: int, accuracy: float, memory_mib: float) -> bool:
        """Whether a trial continues after its epoch `epoch` (from 1), which is not its last."""

    def finished(self, trial: Hashable, accuracy: float, memory_mib: float) -> None:
        """Learns of a trial that trained all its epochs."""


@dataclass(frozen=True)
class History:
    """What a search had found, and when: epochs and hypervolume at each trial that raised it."""

    steps: tuple[tuple[int, float], ...]
    epochs: int
    """Epochs spent in all."""
    started: int
    complete: int

    def at(self, epochs: int) -> float:
        """Returns the hypervolume once `epochs` were spent."""
        return max((volume for spent, volume in self.steps if spent <= epochs), default=0.0)

    def epochs_to(self, volume: float) -> int | None:
        """Returns the epochs spent when the hypervolume reached `volume`, None if it never did."""
        return next((spent for spent, found in self.steps if _reached(found, volume)), None)


def hypervolume(points: Iterable[Point], worst_memory_mib: float) -> float:
    """Returns the area that `points` dominate, between them, accuracy 0 and `worst_memory_mib`, in MiB."""
    area, best = 0.0, 0.0
    for accuracy, memory_mib in sorted(points, key=lambda point: point[1]):
        if accuracy > best and memory_mib < worst_memory_mib:
            area += (accuracy - best) * (worst_memory_mib - memory_mib)
            best = accuracy
    return area


def simulate(
    search: Searcher,
    table: Table,
    *,
    workers: int,
    epochs: int,
    trials: int | None = None,
    goal: float = 0.0,
    most_epochs: int = 0,
) -> History:
    """Runs `search` with `workers` trials at a time until `epochs` are spent or `trials` were started.

    A search that has not reached the hypervolume `goal` by then continues until it has, or has spent
    `most_epochs`.
    """
    running: deque[tuple[Hashable, Row, int]] = deque()
    points: list[Point] = []
    steps: list[tuple[int, float]] = []
    worst = table.worst_memory_mib
    started = spent = 0
    volume = 0.0
    used_up = False
    while spent < epochs or (spent < most_epochs and not _reached(volume, goal)):
        while not used_up and len(running) < workers and (trials is None or started < trials):
            suggestion = search.next_trial()
            if suggestion is None:
                used_up = True
                break
            trial, values = suggestion
            running.append((trial, table.rows[row_key(values)], 1))
            started += 1
        if not running:
            break
        # The trial that has waited longest trains next: with equal epochs, it is the one that ends first.
        trial, row, epoch = running.popleft()
        spent += 1
        accuracy = row.accuracies[epoch - 1]
        if epoch == table.epochs:
            search.finished(trial, accuracy, row.memory_mib)
            points.append((accuracy, row.memory_mib))
            volume = hypervolume(points, worst)
            if not steps or volume > steps[-1][1]:
                steps.append((spent, volume))
        elif search.goes_on(trial, epoch, accuracy, row.memory_mib):
            running.append((trial, row, epoch + 1))
    return History(tuple(steps), spent, started, len(points))


def read_rows(rows: Iterable[Mapping[str, Any]]) -> Table:
    """Returns the table of rows from a result of `benchmarks.search.table`."""
    return Table(
        {
            row_key(row["values"]): Row(
                values=row["values"],
                accuracies=tuple(row["accuracy_top1"]),
                memory_mib=row["peak_memory_mib"],
            )
            for row in rows
        }
    )


def _reached(volume: float, goal: float) -> bool:
    # Sums of the same front in another order differ in their last digits.
    return volume >= goal * (1 - 1e-12)
