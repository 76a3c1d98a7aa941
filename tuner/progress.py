"""What the terminal shows of a study: a line for each trial that ends, then the front as a table."""

import time
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from rich.console import Console
from rich.table import Table

from tuner.results import StudyStatus, TrialResult

MEMORY_TOLERANCE = 0.1
"""A measured peak further than this from the prediction is told."""


class TrialLines(Callback):
    """Prints a line for each trial as it ends."""

    def __init__(self, console: Console, already_ended: int, requested: int) -> None:
        super().__init__()
        self.console = console
        self.ended = already_ended
        self.requested = requested
        self.started = time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        """Ray pickles its callbacks beside its own state, which a study never goes back to."""
        return {}

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Tells accuracy and memory, or the failure."""
        result = trial.last_result or {}
        if result.get("failure"):
            self._line(trial, f"failed: {result['failure']}")
        elif result.get("finished"):
            self._line(
                trial,
                f"accuracy {result['accuracy_top1']:.3f}  memory {result['peak_memory_mib']:6.1f} MiB  "
                f"epoch {result['epoch_time_s']:5.1f} s{_memory_note(result)}",
            )

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Tells that a trial's process died for good."""
        self._line(trial, "failed: the trial's process died")

    def _line(self, trial: Trial, text: str) -> None:
        self.ended += 1
        elapsed = time.monotonic() - self.started
        self.console.print(
            f"[{self.ended}/{self.requested}] {trial.config['name']}  {text}  ({elapsed:.0f} s)",
            highlight=False,
            markup=False,
        )


def front_table(front: list[TrialResult]) -> Table:
    """Returns the front as a table: accuracy, memory, epoch time, and the parameters that were searched."""
    table = Table(title="Pareto front: no trial is better in both", title_justify="left")
    table.add_column("trial")
    for title in ("accuracy", "memory MiB", "epoch s"):
        table.add_column(title, justify="right")
    table.add_column("configuration")
    for result in front:
        table.add_row(
            result.trial,
            f"{result.accuracy_top1:.3f}",
            f"{result.peak_memory_mib:.1f}",
            f"{result.epoch_time_s:.1f}",
            ", ".join(f"{key} {short(value)}" for key, value in result.params.items()),
        )
    return table


def counts_line(status: StudyStatus) -> str:
    """Returns the numbers of trials by state that are not zero, of those requested."""
    counts = ", ".join(f"{count} {state}" for state, count in status.trials.items() if count)
    return f"{status.study}: {counts or 'no trials'} (of {status.requested} requested)"


def short(value: Any) -> str:
    """Returns a parameter's value as a reader would write it."""
    if value is None:
        return "none"
    return f"{value:.2g}" if isinstance(value, float) else str(value)


def _memory_note(result: dict[str, Any]) -> str:
    measured, predicted = result.get("measured_peak_mib"), result["peak_memory_mib"]
    if measured and abs(measured / predicted - 1) > MEMORY_TOLERANCE:
        return f"  (measured {measured:.1f} MiB: the prediction is off by over {MEMORY_TOLERANCE:.0%})"
    return ""
