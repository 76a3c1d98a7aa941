"""A study's figures on Ray's metrics page, for Prometheus: trials by state, best accuracy, front, epochs."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray.util.metrics import Counter, Gauge

from tuner.record import schema
from tuner.record.reading import StudyReading
from tuner.record.results import best_under, pareto_front
from tuner.record.trials import read_rows, trial_of_row

TRIALS = "tinytl_study_trials"
BEST_ACCURACY = "tinytl_study_best_accuracy_ratio"
FRONT = "tinytl_study_front_trials"
TRAINED = "tinytl_study_trained_epochs"
EPOCHS = "tinytl_study_epochs_total"
"""In a cluster it goes on from what an earlier driver of the study has sent. Prometheus derives epochs per
second from it: `rate(ray_tinytl_study_epochs_total[5m])`."""
METRICS = {
    TRIALS: "Trials by state: complete, pruned, failed, infeasible, running.",
    BEST_ACCURACY: "Best validation accuracy, or other --metric, of the complete trials in the budget.",
    FRONT: "Complete trials that no other beats in both accuracy and memory.",
    TRAINED: "Epochs that the study's trials have trained, those before a resume included.",
    EPOCHS: "Epochs as they end; for their pace.",
}
"""Names, to which Ray adds `ray_`, and what they mean. Each has a tag `study`."""


REPEAT_S = 1.0
"""Ray drops a gauge that was not set again within two of its reports (20 s), and an epoch may last longer."""


class StudyMetrics:
    """Follows a study. Setting a figure takes 3 µs; a thread of Ray sends all of them every ten seconds."""

    def __init__(
        self, past: StudyReading, folder: Path, budget_mib: float | None, refused: Callable[[], int]
    ) -> None:
        """Shows what is recorded already. Ray must run: it drops figures that were set before.

        `refused`: how many configurations this driver has found to exceed the budget.
        """
        study = {"study": past.name}
        self._trials = Gauge(TRIALS, METRICS[TRIALS], ("study", "state")).set_default_tags(study)
        self._best = Gauge(BEST_ACCURACY, METRICS[BEST_ACCURACY], ("study",)).set_default_tags(study)
        self._front = Gauge(FRONT, METRICS[FRONT], ("study",)).set_default_tags(study)
        self._all_epochs = Gauge(TRAINED, METRICS[TRAINED], ("study",)).set_default_tags(study)
        self._epochs = Counter(EPOCHS, METRICS[EPOCHS], ("study",)).set_default_tags(study)
        self._budget_mib = budget_mib
        self._refused = refused
        self._counts = dict(past.counts)
        self._front_trials = pareto_front(past.complete)
        """Kept: they are looked at every second, however many trials there are."""
        self._trained = {trial.name: len(read_rows(folder / trial.name)) for trial in past.trials}
        """Epochs by trial: one that resumes reports its last epoch again."""
        self._running: dict[str, Mapping[str, Any]] = {}
        """The last row of each trial that trains."""
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._show()
        threading.Thread(target=self._repeat, name="metrics", daemon=True).start()

    def trial_started(
        self, name: str, params: Mapping[str, Any], searched: Mapping[str, Any], source: str | None
    ) -> None:
        """Counts the trial as one that runs."""
        with self._lock:
            self._running[name] = {}
            self._show()

    def epoch_ended(self, name: str, row: Mapping[str, Any]) -> None:
        """Counts the epoch, if it is new."""
        with self._lock:
            if name in self._running:
                self._running[name] = row
            new = int(row["epoch"]) - self._trained.get(name, 0)
            if new > 0:
                self._trained[name] = int(row["epoch"])
                self._epochs.inc(new)

    def trial_ended(self, name: str, state: str, reason: str | None) -> None:
        """Counts the trial under its state; one that is complete may be the best, or change the front."""
        with self._lock:
            row = self._running.pop(name, {})
            self._counts[state] += 1
            if state == "complete" and row:
                trial = trial_of_row(name, row)
                self._front_trials = pareto_front([*self._front_trials, trial])
            self._show()

    def close(self) -> None:
        """Shows that nothing runs any more: trials that were cut off do not end."""
        self._closed.set()
        with self._lock:
            self._running.clear()
            self._show()

    def _repeat(self) -> None:
        while not self._closed.wait(REPEAT_S):
            with self._lock:
                self._show()

    def _show(self) -> None:
        live = {"running": len(self._running), "infeasible": self._counts["infeasible"] + self._refused()}
        for state in schema.STATES:
            self._trials.set((self._counts | live)[state], {"state": state})
        self._front.set(len(self._front_trials))
        self._all_epochs.set(sum(self._trained.values()))
        best = best_under(self._front_trials, self._budget_mib)  # it is on the front
        if best is not None:
            self._best.set(best.score)
