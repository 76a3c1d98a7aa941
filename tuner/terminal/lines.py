"""What the terminal shows while a study runs: a line for each trial that ends."""

import math
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console

from tinytl.config.names import METRICS
from tuner.record.trials import label_of, text_of_row

MEMORY_TOLERANCE = 0.1
"""A measured peak further than this from the prediction is reported."""


class TrialLines:
    """Prints a line for each trial as its end is recorded."""

    def __init__(
        self, console: Console, already_ended: int, requested: int, metric: str = "accuracy_top1"
    ) -> None:
        self.console = console
        self.ended = already_ended
        self.requested = requested
        self.metric = metric
        self.started = time.monotonic()
        self._rows: dict[str, Mapping[str, Any]] = {}
        self._labels: dict[str, str] = {}
        """By name: with the baseline that a trial is, its network if that is searched, and its method."""

    def __enter__(self) -> "TrialLines":
        """Lines need no preparation."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Lines need no cleanup."""

    def trial_started(
        self, name: str, params: Mapping[str, Any], searched: Mapping[str, Any], source: str | None
    ) -> None:
        """Keeps what the trial's line will say: a study starts with as many as it has workers."""
        words = [label_of(name, source), searched.get("backbone"), params.get("method")]
        self._labels[name] = "  ".join(filter(None, words))

    def epoch_ended(self, name: str, row: Mapping[str, Any]) -> None:
        """Keeps what the trial's line will say."""
        self._rows[name] = row

    def trial_ended(self, name: str, state: str, reason: str | None) -> None:
        """Prints accuracy and memory, or why there are none."""
        row, label = self._rows.pop(name, None), self._labels.pop(name, name)
        if state == "infeasible":
            self._print(f"{label}  infeasible, not counted: {reason}")
            return
        self.ended += 1
        text = f"{state}: {reason}" if row is None or state == "failed" else _figures(row)
        if state == "pruned":
            text += f"  stopped {reason}"
        elapsed = time.monotonic() - self.started
        self._print(f"[{self.ended}/{self.requested}] {label}  {text}  ({elapsed:.0f} s)")

    def confirmed(self, name: str, seed: int, score: float) -> None:
        """Prints what a trial of the front reached with another seed."""
        text = "failed" if math.isnan(score) else f"{METRICS[self.metric]} {score:.3f}"
        self._print(f"confirm  {name}  seed {seed}  {text}")

    def phase(self, text: str) -> None:
        """Says nothing: the results of a phase have lines of their own."""

    def note(self, text: str) -> None:
        """Prints what else there is to know."""
        self._print(text)

    def stopping(self) -> None:
        """Prints what the first Ctrl-C does."""
        self._print("Stopping: running trials end their epoch and are saved (Ctrl-C again: at once).")

    def _print(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


def _figures(row: Mapping[str, Any]) -> str:
    return (
        f"{text_of_row(row)}  {row['peak_memory_mib']:6.1f} MiB  "
        f"{row['epoch_time_s']:5.1f} s/epoch{_time_note(row)}{_memory_note(row)}"
    )


def _time_note(row: Mapping[str, Any]) -> str:
    read = row.get("features_read")
    return f" ({read:.0%} of features read)" if read else ""


def _memory_note(row: Mapping[str, Any]) -> str:
    measured, predicted = row.get("measured_peak_mib"), row.get("trained_memory_mib", row["peak_memory_mib"])
    if measured and abs(measured / predicted - 1) > MEMORY_TOLERANCE:
        return f"  (measured {measured:.1f} MiB: the prediction is off by over {MEMORY_TOLERANCE:.0%})"
    return ""
