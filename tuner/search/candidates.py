"""The next configuration to run, waiting or proposed by the sampler: it fits, and has not run before."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from search_spaces.space import SearchSpace
from tinytl.config.plan import (
    PLANNED_FIELDS,
    Plan,
    UnderFloorError,
    fastest_within,
    is_planned,
    least_within,
)
from tinytl.config.train_config import TrainConfig
from tinytl.errors import ConfigError
from tinytl.files import write_whole
from tinytl.memory.curve import curve_under_plan
from tinytl.memory.predict import needs_of
from tinytl.runs.directory import RunDirectory, read_config_file
from tuner.record import schema
from tuner.record.refusals import UnwrittenError
from tuner.record.results import within
from tuner.record.trials import CURVE_FILE, state_of
from tuner.record.writer import StudyRecords, fits_by_now
from tuner.search.sampling import Proposals
from tuner.stopping import Stopping
from tuner.trial.worker_death import WorkerDeath
from tuner.trial_config import trial_config

INFEASIBLE_IN_A_ROW = 500
"""The search ends if this many configurations in a row exceed the budget."""
REPEATED_IN_A_ROW = 500
"""The search ends if this many candidates in a row have run before: a finite space is used up."""


@dataclass
class LiveTrial:
    """A trial that runs."""

    name: str
    record: int
    """Number in the study's record."""
    proposal: int
    """Number among the proposals."""
    peak_memory_mib: float
    """The objective: the least of its plans within the study's slowdown."""
    trained_memory_mib: float
    """Predicted for the plan with which it trains."""
    curve: Sequence[Plan]
    searched: Mapping[str, Any]
    source: str | None
    """Where its configuration came from, if the sampler did not choose it."""
    rungs: dict[int, float] = field(default_factory=dict)
    pruned_at: int | None = None
    death: WorkerDeath | None = None


@dataclass(frozen=True)
class NextTrial:
    """A trial that is recorded with its name, and waits for a worker."""

    live: LiveTrial
    planned: TrainConfig
    folder: Path


class Candidates:
    """Finds what runs next and records it as waiting; `MemoryAwareSearch` records its start.

    A trial trains with its fastest plan that a worker holds (`held_mib`); its accuracy is that of all plans.
    Its memory is the least of its plans within `max_slowdown`.

    A configuration over the budget is recorded as infeasible (with its memory, and the constraint) and never
    starts. Nothing runs twice: what ran or was refused before, in an earlier call of the study too, is
    skipped. A trial that was cut off comes first, under its name.
    """

    def __init__(
        self,
        *,
        records: StudyRecords,
        proposals: Proposals,
        space: SearchSpace,
        base: TrainConfig,
        study_folder: Path,
        budget_mib: float | None,
        max_slowdown: float,
        held_mib: float,
        stopping: Stopping,
        settle: Callable[[TrainConfig], TrainConfig],
    ) -> None:
        self.records = records
        self.proposals = proposals
        self.space = space
        self.base = base
        self.study_folder = study_folder
        self.budget_mib = budget_mib
        self.max_slowdown = max_slowdown
        self.held_mib = held_mib
        self.stopping = stopping
        self.settle = settle
        """Chooses what method Sparse trains."""
        self.gave_up: str | None = None
        """Why there is no further configuration."""
        self.unwritten: str | None = None
        """What the disk or the database said, if a write failed."""
        self._ran: set[TrainConfig | str] = set()
        self._next_index = 0
        self._remember()

    def find(self) -> NextTrial | None:
        """Looks for the next configuration to run; returns None, with `gave_up` set, if there is none.

        Also returns None once the study has to stop: if much does not fit, finding what fits can be slow.
        """
        try:
            waiting_trials = self.records.trials(TrialState.WAITING)
            for waiting in sorted(waiting_trials, key=lambda trial: schema.AGAIN not in trial.user_attrs):
                found = self._try_waiting(waiting)
                if found is not None:
                    return found
            infeasible = repeated = 0
            while infeasible < INFEASIBLE_IN_A_ROW and repeated < REPEATED_IN_A_ROW:
                if self.stopping.reason:
                    return None
                proposal, values = self.proposals.propose()
                config = self._config(values)
                if config in self._ran:
                    repeated += 1
                    self.proposals.reject(proposal)
                    continue
                found = self._fitting(proposal, config)
                if found is not None:
                    return found
                infeasible += 1
                repeated = 0
        except (UnwrittenError, ConfigError) as error:  # the record, or a trial's folder
            self.unwritten = self.gave_up = str(error)
            return None
        self.gave_up = (
            f"{INFEASIBLE_IN_A_ROW} configurations in a row exceeded the memory budget"
            if repeated < REPEATED_IN_A_ROW
            else f"the last {REPEATED_IN_A_ROW} configurations that the sampler proposed have run already"
        )
        return None

    def _try_waiting(self, waiting: FrozenTrial) -> NextTrial | None:
        config = self._config(self._values(waiting.params))
        again = _name_of(waiting)
        if again is None and config in self._ran:
            self.records.drop_waiting(waiting, "it has run already")
            return None
        proposal = self.proposals.adopt(waiting.params)
        return self._fitting(proposal, config, waiting)

    def _fitting(
        self,
        proposal: int,
        config: TrainConfig | str,
        waiting: FrozenTrial | None = None,
    ) -> NextTrial | None:
        """Records a configuration as one to run, or as infeasible if it does not fit."""
        self._ran.add(config)
        params = self.proposals.params(proposal)
        if not isinstance(config, str):  # images that cannot be read are no fault of the configuration
            try:
                config = self.settle(config if waiting is None else self._begun(waiting, config))
            except UnderFloorError as error:
                config = str(error)
        peak_mib: float | None = None
        try:
            if isinstance(config, str):
                raise ConfigError(config)
            curve = curve_under_plan(config)
            peak_mib = least_within(curve, self.max_slowdown).peak_memory_mib
            if not within(peak_mib, self.budget_mib):
                raise ConfigError(f"{peak_mib:.1f} MiB exceed the budget")
        except ConfigError as error:
            self.records.refuse(params, str(error), peak_mib, self.budget_mib)
            if peak_mib is not None and self.budget_mib is not None:
                self.proposals.infeasible(proposal, peak_mib, self.budget_mib)
            else:
                self.proposals.reject(proposal)
            if waiting is not None:
                self.records.drop_waiting(waiting, str(error), peak_mib)
            return None
        self.proposals.start(proposal)
        again = None if waiting is None else _name_of(waiting)
        name = again or f"{self.space.name}-{self._next_index:03d}"
        self._next_index += again is None
        directory = RunDirectory(self.study_folder / name)
        trained = _plan_begun(directory, config, curve) or fastest_within(curve, self.held_mib) or curve[-1]
        planned = dataclasses.replace(trained.of(config), plan=config.plan, budget_mib=config.budget_mib)
        plans = [dataclasses.asdict(plan) for plan in curve]
        if again is None or not directory.config_file.is_file():  # a kill or a copy may have lost it
            directory.make()
            directory.write_config(planned)
            write_whole(directory.path / CURVE_FILE, json.dumps(plans, indent=2))
        attributes = {
            schema.CURVE: plans,
            schema.TRAINED_MEMORY_MIB: trained.peak_memory_mib,
            schema.PEAK_MEMORY_MIB: peak_mib,
            schema.NAME: name,
        }  # a record with a name always has its memory, too
        if waiting is None:
            record = self.records.enqueue(params, attributes)
        else:
            record = self.records.name_waiting(waiting, attributes)
        passed = {} if waiting is None else waiting.user_attrs.get(schema.RUNGS, {})
        rungs = {int(epoch): accuracy for epoch, accuracy in passed.items()}
        source = None if waiting is None else waiting.user_attrs.get(schema.SOURCE)
        live = LiveTrial(
            name, record, proposal, peak_mib, trained.peak_memory_mib, curve, params[0], source, rungs
        )
        return NextTrial(live, planned, directory.path)

    def _begun(self, waiting: FrozenTrial, config: TrainConfig) -> TrainConfig:
        """Returns `config` with what its trial trained before it was cut off."""
        name = _name_of(waiting)
        if name is None or config.method != "Sparse":
            return config
        try:
            begun = read_config_file(RunDirectory(self.study_folder / name).config_file)
        except (ConfigError, OSError):
            return config
        return dataclasses.replace(config, update_scheme=begun.update_scheme)

    def _remember(self) -> None:
        """Reads what the study's record holds."""
        names = set()
        for trial in self.records.trials():
            attributes = trial.user_attrs
            names.add(attributes.get(schema.NAME))
            if trial.state == TrialState.WAITING or schema.DROPPED in attributes:
                continue
            if fits_by_now(trial, self.budget_mib):
                continue
            self._ran.add(self._config(self._values(trial.params)))
            state = state_of(trial)
            peak_mib = attributes.get(schema.PEAK_MEMORY_MIB)
            if peak_mib is None:
                continue
            if state == "complete":
                self.proposals.remember(trial, trial.values[0], peak_mib)
            elif state == "pruned":
                accuracy = attributes[schema.RUNGS][str(attributes[schema.PRUNED_AT])]
                self.proposals.remember(trial, accuracy, peak_mib)
            elif state == "infeasible" and schema.NAME not in attributes:
                self.proposals.remember(trial, None, peak_mib)
        self._next_index = len(names - {None})

    def _values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return dict(self.space.fixed) | dict(params)

    def _config(self, values: Mapping[str, Any]) -> TrainConfig | str:
        """Returns the configuration of a sample, or the reason why it is impossible."""
        try:
            return trial_config(self.base, values)
        except ConfigError as error:
            return str(error)


def _plan_begun(directory: RunDirectory, config: TrainConfig, curve: Sequence[Plan]) -> Plan | None:
    """Returns the plan with which a trial was begun: a run goes on as it began, on another machine too, and
    if other plans are better by now.
    """
    if not directory.config_file.is_file():
        return None
    try:
        begun = read_config_file(directory.config_file)
    except ConfigError:
        return None
    fields = {name: getattr(begun, name) for name in PLANNED_FIELDS}
    planned = dataclasses.replace(config, plan="fast", budget_mib=None, **fields)
    on_curve = next((plan for plan in curve if plan.of(config) == planned), None)
    if on_curve is not None or not is_planned(planned):
        return on_curve
    needs, fastest = needs_of(planned), needs_of(curve[0].of(config))
    return Plan(**fields, peak_memory_mib=needs.peak_mib, slowdown=needs.seconds / fastest.seconds)


def _name_of(waiting: FrozenTrial) -> str | None:
    """Returns the name of a trial that was cut off, even just before it was recorded as running."""
    name = waiting.user_attrs.get(schema.AGAIN) or waiting.user_attrs.get(schema.NAME)
    return None if name is None else str(name)
