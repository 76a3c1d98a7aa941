"""A study's trials one by one, as its storage and their folders have them. Imports neither torch nor ray."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState

from tinytl.runs.directory import RunDirectory
from tinytl.runs.record import read_epochs
from tuner.record import results, schema


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """What the storage says of a trial; its attempts are one."""

    name: str
    state: str
    on_front: bool
    params: Mapping[str, Any]
    """The sampled ones."""
    accuracy_top1: float | None
    """After the last epoch, of a complete trial; after the last rung, of one that was stopped."""
    peak_memory_mib: float | None
    """Predicted."""
    epoch_time_s: float | None
    failure: str | None
    """Why a trial failed, or ran out of memory."""
    stopped_at: int | None
    """The rung, in epochs, where it was stopped."""
    start: datetime | None
    last_start: datetime | None
    """Of the last attempt."""
    end: datetime | None


def trial_records(study: optuna.Study, *, driver_is_gone: bool) -> list[TrialRecord]:
    """Returns the named trials in order; of one that went on, its last attempt decides.

    `driver_is_gone`: trials that are RUNNING in the storage were cut off.
    """
    attempts: dict[str, list[FrozenTrial]] = {}
    for trial in study.get_trials(deepcopy=False):
        if schema.NAME in trial.user_attrs and trial.state != TrialState.WAITING:
            attempts.setdefault(trial.user_attrs[schema.NAME], []).append(trial)
    front = {result.trial for result in results.pareto_front(results.complete_trials(study))}
    return [_record(name, own, name in front, driver_is_gone) for name, own in attempts.items()]


def _record(name: str, attempts: Sequence[FrozenTrial], on_front: bool, driver_is_gone: bool) -> TrialRecord:
    first, last = attempts[0], attempts[-1]
    attributes, state = last.user_attrs, results.state_of(last)
    if state == "running" and driver_is_gone:
        state = schema.INTERRUPTED
    reason = {"failed": "failure", "infeasible": "infeasible"}.get(state)
    stopped_at = attributes.get(schema.PRUNED_AT) if state == "pruned" else None
    accuracy = last.values[0] if state == "complete" else None
    if stopped_at is not None:
        accuracy = attributes.get(schema.RUNGS, {}).get(str(stopped_at))
    return TrialRecord(
        name=name,
        state=state,
        on_front=on_front,
        params=last.params,
        accuracy_top1=accuracy,
        peak_memory_mib=attributes.get(schema.PEAK_MEMORY_MIB),
        epoch_time_s=attributes.get(schema.EPOCH_TIME_S),
        failure=None if reason is None else str(attributes.get(reason, "")),
        stopped_at=stopped_at,
        start=first.datetime_start,
        last_start=last.datetime_start,
        end=last.datetime_complete,
    )


def read_params(folder: Path) -> dict[str, Any]:
    """Returns the fields in the `config.yaml` of a trial's folder: none where there is no such file."""
    path = folder / "config.yaml"
    if not path.is_file():
        return {}
    # The fast loader, where there is one: a study may have a thousand of these files.
    loaded = yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return loaded if isinstance(loaded, dict) else {}


def read_rows(folder: Path) -> list[tuple[dict[str, Any], int]]:
    """Returns the epochs' rows in order, each with the file's time in ms; no line that is not whole."""
    metrics = RunDirectory(folder).metrics_file
    if not metrics.is_file():
        return []
    time_ms = int(metrics.stat().st_mtime * 1000)
    return [(dict(row), time_ms) for row in read_epochs(metrics).rows]
