"""What MLflow is to say of each trial, read from the study's storage and the trial's folder."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState

from tuner import results
from tuner.accuracy_on_test import known_test_accuracies
from tuner.confirmed import ConfirmedResult, confirmed_results, read_outcomes


@dataclass(frozen=True, kw_only=True)
class StoredTrial:
    """A trial; its attempts are one."""

    name: str
    state: str
    on_front: bool
    failure: str | None
    params: Mapping[str, Any]
    """The sampled ones."""
    peak_memory_mib: float | None
    start_ms: int | None
    last_start_ms: int | None
    """Of the last attempt."""
    end_ms: int | None
    judged: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    """Accuracies from after the search, each with its step, which rises with what it is a mean of."""

    @property
    def tags(self) -> dict[str, str]:
        """Returns what can change in a trial's life."""
        failure = {"failure": self.failure} if self.failure else {}
        return {"state": self.state, "on_front": str(self.on_front).lower()} | failure


def stored_trials(study: optuna.Study, folder: Path, driver_is_gone: bool) -> list[StoredTrial]:
    """Returns the named trials in order; of one that went on, its last attempt decides.

    Raises:
        ConfigError: for a damaged file of accuracies in the study's `folder`.
    """
    attempts: dict[str, list[FrozenTrial]] = {}
    for trial in study.get_trials(deepcopy=False):
        if "name" in trial.user_attrs and trial.state != TrialState.WAITING:
            attempts.setdefault(trial.user_attrs["name"], []).append(trial)
    complete = results.complete_trials(study)
    front = {result.trial for result in results.pareto_front(complete)}
    judged = _judged(known_test_accuracies(folder), confirmed_results(complete, read_outcomes(folder)))
    return [
        _stored(name, own, name in front, driver_is_gone, judged.get(name, {}))
        for name, own in attempts.items()
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


def _stored(
    name: str,
    attempts: Sequence[FrozenTrial],
    on_front: bool,
    driver_is_gone: bool,
    judged: Mapping[str, tuple[float, int]],
) -> StoredTrial:
    first, last = attempts[0], attempts[-1]
    state = results.state_of(last)
    if state == "running" and driver_is_gone:
        state = results.INTERRUPTED
    return StoredTrial(
        name=name,
        state=state,
        on_front=on_front,
        failure=str(last.user_attrs.get("failure", "")) if state == "failed" else None,
        params=last.params,
        peak_memory_mib=last.user_attrs.get("peak_memory_mib"),
        start_ms=as_ms(first.datetime_start),
        last_start_ms=as_ms(last.datetime_start),
        end_ms=as_ms(last.datetime_complete),
        judged=judged,
    )


def as_ms(moment: datetime | None) -> int | None:
    """Returns milliseconds since 1970."""
    return None if moment is None else int(moment.timestamp() * 1000)


def read_params(folder: Path) -> dict[str, Any]:
    """Returns what a trial's `config.yaml` holds: nothing, where there is none."""
    path = folder / "config.yaml"
    if not path.is_file():
        return {}
    # The fast loader, where there is one: a study may have a thousand of these files.
    loaded = yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return loaded if isinstance(loaded, dict) else {}


def read_rows(folder: Path) -> list[tuple[dict[str, Any], int]]:
    """Returns the epochs' rows in order, each with the file's time; of an epoch trained twice, the first.

    A line that a kill cut off is left out.
    """
    path = folder / "metrics.jsonl"
    if not path.is_file():
        return []
    time_ms = int(path.stat().st_mtime * 1000)
    rows: dict[int, dict[str, Any]] = {}
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
            rows.setdefault(int(row["epoch"]), row)
        except (ValueError, KeyError, TypeError):
            continue
    return [(rows[epoch], time_ms) for epoch in sorted(rows)]
