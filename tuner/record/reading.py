"""One reading of a study: all that its storage and its folder say, at one moment.

Everything that shows a study (status, best, report, MLflow, a notebook) is derived from one reading, so all
of it shows the same moment. Imports neither torch nor ray.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna

from tinytl.config.names import METRICS
from tinytl.errors import ConfigError
from tuner.bucket.copies import at_hand
from tuner.config import read_study_file
from tuner.record import schema
from tuner.record.accuracy_on_test import known_test_figures
from tuner.record.claim import holder_of
from tuner.record.confirmed import ConfirmedResult, confirmed_result, read_outcomes
from tuner.record.measured_slowdown import known_slowdowns
from tuner.record.results import (
    Hypervolume,
    best_confirmed,
    best_under,
    hypervolume,
    pareto_front,
)
from tuner.record.sessions import Session, read_sessions
from tuner.record.storage import load_study
from tuner.record.trials import Trial, known, merged_trials, state_of

_NAMED = 3
"""How many trials an error names if there is no trial of the given name."""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A configuration that never started."""

    reason: str
    peak_memory_mib: float | None
    """Predicted, in MiB, if the memory was the reason."""


@dataclass(frozen=True, kw_only=True)
class StudyReading:
    """A study as it stood when it was read.

    `trials` has every trial, `front` those that no other beats in accuracy and memory, `best` the most
    accurate one within the budget, `rows()` the trials as dictionaries for a table.
    """

    name: str
    runs_dir: str = "runs"
    requested: int = 0
    """What `--trials` asks for."""
    states: Mapping[str, int] = field(default_factory=dict)
    """How many trials of the storage are in each state, with the attempts that were cut off."""
    trials: Sequence[Trial] = ()
    """Every trial that started, in order."""
    refused: Sequence[Refusal] = ()
    """Configurations that never started."""
    searches_memory: bool = True
    """Whether memory is an objective beside accuracy."""
    budget_mib: float | None = None
    """The memory budget in MiB; None: there is none."""
    attributes: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The study's user attributes, by the names in `schema.py`."""
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What `study.json` holds: the flags of the last driver."""
    on_test: Mapping[str, Mapping[str, float]] = field(default_factory=dict, repr=False)
    """Figures of the test images by trial, also of trials that have left the front."""
    holder: Mapping[str, Any] | None = None
    """Host and process of the driver that runs the study now."""

    @property
    def metric(self) -> str:
        """What trials are compared by: `accuracy_top1`, `balanced_accuracy` or `macro_f1`."""
        return metric_of(self.attributes)

    @property
    def folder(self) -> Path:
        """The study's folder."""
        return Path(self.runs_dir) / self.name

    @property
    def counts(self) -> dict[str, int]:
        """How many trials are complete, pruned, failed, infeasible and running."""
        return {state: self.states.get(state, 0) for state in schema.STATES}

    @property
    def ended(self) -> int:
        """How many trials started and ended: what `--trials` counts."""
        return sum(self.counts[state] for state in schema.ENDED)

    @property
    def state(self) -> str:
        """`running`: a driver lives; `finished`: it has all its trials; else `unfinished`."""
        if self.holder is not None:
            return "running"
        return "finished" if self.requested and self.ended >= self.requested else "unfinished"

    @cached_property
    def complete(self) -> list[Trial]:
        """The trials that trained all their epochs, in order."""
        return [trial for trial in self.trials if trial.state == "complete"]

    @cached_property
    def front(self) -> list[Trial]:
        """The complete trials that no other beats in both accuracy and memory, by rising memory."""
        return pareto_front(self.complete)

    @cached_property
    def best(self) -> Trial | None:
        """The most accurate trial within the budget.

        By the mean over seeds, of those that were trained again: the front, or what could not be told apart
        from the best. If the first of them all was not, its figure is of one seed, and it is the best.
        """
        first = best_under(self.complete, self.budget_mib)
        if first is None or first.confirmed is None:  # a mean would compete with one lucky seed
            return first
        return best_confirmed(self.complete, self.budget_mib)

    @cached_property
    def hypervolume(self) -> Hypervolume | None:
        """Of the front; None without a complete trial, or if memory is not an objective."""
        return hypervolume(self.complete, self.budget_mib) if self.searches_memory else None

    @property
    def confirmed(self) -> dict[str, ConfirmedResult]:
        """The results of trials that were trained again with other seeds, by name."""
        return {trial.name: trial.confirmed for trial in self.complete if trial.confirmed is not None}

    @property
    def sessions(self) -> list[Session]:
        """Every driver of the study, oldest first."""
        return read_sessions(self.attributes)

    @property
    def last_end(self) -> datetime | None:
        """When the last trial ended."""
        return max((trial.end for trial in self.trials if trial.end is not None), default=None)

    def trial(self, name: str) -> Trial:
        """Returns the trial of that name.

        Raises:
            ConfigError: if there is none; it names those with a similar name.
        """
        found = next((trial for trial in self.trials if trial.name == name), None)
        if found is None:
            raise ConfigError(f"no trial {name} in study {self.name}: {self._near(name)}")
        return found

    def _near(self, name: str) -> str:
        names = [trial.name for trial in self.trials]
        if not names:
            return "it has none yet"
        near = difflib.get_close_matches(name, names, n=_NAMED)
        known = f"it has {names[0]} to {names[-1]}" if len(names) > 1 else f"it has {names[0]}"
        return f"did you mean {' or '.join(near)}? {known}" if near else known

    def under(self, budget_mib: float | None) -> StudyReading:
        """Returns the same reading with another budget, each trial with its fastest plan that fits it.

        None: with its own budget, and the plans within `--max-slowdown`.
        """
        if budget_mib is None:
            return self
        return replace(self, budget_mib=budget_mib, trials=[trial.under(budget_mib) for trial in self.trials])

    def rows(self) -> list[dict[str, Any]]:
        """Returns every trial as a flat dictionary, searched values last: `pandas.DataFrame(study.rows())`.

        Figures that a trial lacks are None.
        """
        return [
            {
                "trial": trial.name,
                "state": trial.state,
                "on_front": trial.on_front,
                **{name: known(getattr(trial, name)) for name in METRICS},
                "standard_error": known(trial.standard_error),
                **{f"test_{name}": trial.on_test.get(name) for name in METRICS},
                "test_standard_error": known(trial.test_standard_error),
                f"confirmed_{trial.metric}": None if trial.confirmed is None else trial.confirmed.mean,
                "peak_memory_mib": known(trial.peak_memory_mib),
                **{name: known(figure) for name, figure in trial.plan_figures.items()},
                "measured_slowdown": known(trial.measured_slowdown),
                "measured_peak_mib": known(trial.measured_peak_mib),
                "process_peak_mib": known(trial.process_peak_mib),
                "epoch_time_s": known(trial.epoch_time_s),
                "failure": trial.failure,
                "source": trial.source,
                **trial.params,
            }
            for trial in self.trials
        ]

    def to_json(self) -> dict[str, Any]:
        """Returns what `python -m tuner status --json` prints, and more."""
        shown = {trial.name for trial in [*self.front, *([] if self.best is None else [self.best])]}
        return {
            "study": self.name,
            "requested": self.requested,
            "trials": self.counts,
            "pareto": [trial.to_json() for trial in self.front],
            "metric": self.metric,
            "hypervolume": self.hypervolume and asdict(self.hypervolume),
            "memory_budget_mib": self.budget_mib,
            "best": self.best and self.best.name,
            "confirmed": {
                trial: {"mean": c.mean, "seeds": c.seeds, "failed": len(c.failures)}
                | ({"standard_deviation": c.deviation} if c.again else {})
                for trial, c in self.confirmed.items()
            },
            **{
                f"test_{name}": {k: v[name] for k, v in self.on_test.items() if k in shown and name in v}
                for name in METRICS
            },
            "test_standard_error": {
                trial.name: known(trial.test_standard_error)
                for trial in self.trials
                if trial.name in shown and known(trial.test_standard_error) is not None
            },
        }


def metric_of(attributes: Mapping[str, Any]) -> str:
    """Returns what the trials of a study are compared by, of its user attributes; older ones have none."""
    return str(attributes.get(schema.SETTINGS, {}).get("metric", "accuracy_top1"))


def open_study(name: str, runs_dir: str = "runs", storage: str | None = None) -> StudyReading:
    """Reads a study as it stands, from its storage and its folder.

        study = open_study("flowers")
        study.best.name, study.best.accuracy_top1, study.best.params
        [(trial.peak_memory_mib, trial.accuracy_top1) for trial in study.front]
        pandas.DataFrame(study.rows())

    Args:
        name: of the study.
        runs_dir: the folder of all studies, or their bucket, as `--runs-dir` names it.
        storage: the URL of the study's Optuna storage; default: what the study's folder names.

    Raises:
        ConfigError: if there is no study of that name, its storage does not answer, or a file of its folder
            is damaged.
    """
    runs_dir = at_hand(runs_dir, name)
    return read_study(load_study(name, runs_dir, storage), runs_dir)


def read_study(
    study: optuna.Study, runs_dir: str | None = None, *, driver_is_gone: bool | None = None
) -> StudyReading:
    """Reads a study's storage once, and its folder; without `runs_dir` only the storage.

    `driver_is_gone`: trials that are RUNNING in the storage were cut off. None: find out.

    Raises:
        ConfigError: for a file in the folder that is damaged.
    """
    name, attributes, attempts = study.study_name, study.user_attrs, study.get_trials(deepcopy=False)
    settings: dict[str, Any] = {}
    on_test: dict[str, dict[str, float]] = {}
    slowdowns: dict[str, float] = {}
    outcomes: dict[str, dict[int, dict[str, Any]]] = {}
    holder = None
    if runs_dir is not None:
        folder = Path(runs_dir) / name
        settings, holder = read_study_file(name, runs_dir), holder_of(folder, attributes)
        on_test, outcomes = known_test_figures(folder), read_outcomes(folder)
        slowdowns = known_slowdowns(folder)
        driver_is_gone = holder is None if driver_is_gone is None else driver_is_gone
    metric = metric_of(attributes)
    trials = merged_trials(attempts, metric=metric, driver_is_gone=bool(driver_is_gone))
    front = {trial.name for trial in pareto_front([t for t in trials if t.state == "complete"])}
    return StudyReading(
        name=name,
        runs_dir=StudyReading.runs_dir if runs_dir is None else runs_dir,
        requested=int(attributes.get(schema.REQUESTED, 0)),
        states=Counter(state_of(attempt) for attempt in attempts),
        trials=[
            replace(
                trial,
                on_front=trial.name in front,
                on_test=on_test.get(trial.name, {}),
                measured_slowdown=slowdowns.get(trial.name, trial.measured_slowdown),
                confirmed=confirmed_result(trial.score, outcomes.get(trial.name, {}), metric)
                if trial.state == "complete"
                else None,
            )
            for trial in trials
        ],
        refused=[
            Refusal(
                reason=str(attempt.user_attrs[schema.INFEASIBLE]),
                peak_memory_mib=attempt.user_attrs.get(schema.PEAK_MEMORY_MIB),
            )
            for attempt in attempts
            if state_of(attempt) == "infeasible" and schema.NAME not in attempt.user_attrs
        ],
        searches_memory=len(study.directions) > 1,
        budget_mib=settings.get("memory_budget_mib"),
        attributes=attributes,
        settings=settings,
        on_test=on_test,
        holder=holder,
    )
