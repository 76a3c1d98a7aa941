"""What the terminal shows while a study runs: a line for each trial that ends."""

import time
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from rich.console import Console

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
            soft_wrap=True,
        )


def _memory_note(result: dict[str, Any]) -> str:
    measured, predicted = result.get("measured_peak_mib"), result["peak_memory_mib"]
    if measured and abs(measured / predicted - 1) > MEMORY_TOLERANCE:
        return f"  (measured {measured:.1f} MiB: the prediction is off by over {MEMORY_TOLERANCE:.0%})"
    return ""
