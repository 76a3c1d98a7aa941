"""What MLflow is to say of each trial, read from the study's storage and the trial's folder."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import optuna

from tuner.record import results
from tuner.record.accuracy_on_test import known_test_accuracies
from tuner.record.confirmed import ConfirmedResult, confirmed_results, read_outcomes
from tuner.record.trials import TrialRecord, trial_records


@dataclass(frozen=True, kw_only=True)
class StoredTrial(TrialRecord):
    """A trial's record, and what MLflow needs beside it."""

    judged: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    """Accuracies from after the search, each with its step, which rises with what it is a mean of."""

    @property
    def tags(self) -> dict[str, str]:
        """Returns what can change in a trial's life."""
        failure = {"failure": self.failure} if self.state == "failed" and self.failure else {}
        return {"state": self.state, "on_front": str(self.on_front).lower()} | failure


def stored_trials(study: optuna.Study, folder: Path, driver_is_gone: bool) -> list[StoredTrial]:
    """Returns the named trials in order; `folder` is the study's.

    Raises:
        ConfigError: for a damaged file of accuracies in the folder.
    """
    confirmed = confirmed_results(results.complete_trials(study), read_outcomes(folder))
    judged = _judged(known_test_accuracies(folder), confirmed)
    return [
        StoredTrial(**vars(record), judged=judged.get(record.name, {}))
        for record in trial_records(study, driver_is_gone=driver_is_gone)
    ]


def _judged(
    on_test: Mapping[str, float], confirmed: Mapping[str, ConfirmedResult]
) -> dict[str, dict[str, tuple[float, int]]]:
    found: dict[str, dict[str, tuple[float, int]]] = {}
    for trial, accuracy in on_test.items():
        found.setdefault(trial, {})["test_accuracy_top1"] = (accuracy, 0)
    for trial, result in confirmed.items():
        if result.again:
            values = {"confirmed_accuracy_top1": result.mean, "confirmed_deviation": result.deviation}
            found.setdefault(trial, {}).update({key: (value, result.seeds) for key, value in values.items()})
    return found


def as_ms(moment: datetime | None) -> int | None:
    """Returns milliseconds since 1970."""
    return None if moment is None else int(moment.timestamp() * 1000)
