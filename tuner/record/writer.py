"""A study's record in Optuna's storage: the only place that writes what happened to a trial.

After a kill between two writes the next driver still knows what was meant: attributes are written first, the
state that makes them valid last.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from tuner.record import schema
from tuner.record.refusals import UnwrittenError, remedy_for, storage_errors
from tuner.record.results import within
from tuner.record.trials import state_of

Params = tuple[Mapping[str, Any], Mapping[str, BaseDistribution]]
"""Searched values, and the distribution of each."""


def fits_by_now(trial: FrozenTrial, budget_mib: float | None) -> bool:
    """Whether a configuration never started because of a budget that has been raised since."""
    attributes = trial.user_attrs
    refused = schema.DROPPED in attributes or (
        state_of(trial) == "infeasible" and schema.NAME not in attributes
    )
    peak_mib = attributes.get(schema.PEAK_MEMORY_MIB)
    return refused and peak_mib is not None and within(peak_mib, budget_mib)


class StudyRecords:
    """The trials of one study in a storage; numbers are Optuna's trial ids.

    After one failed write every later one raises UnwrittenError, too: nothing that follows half a line of a
    file could be read.
    """

    def __init__(
        self, storage: BaseStorage, study_name: str, secure: Callable[[], None] = lambda: None
    ) -> None:
        """`secure` is called before a trial may start, and before anyone hears that one has ended."""
        self.storage = storage
        self.secure = secure
        self.study_id = storage.get_study_id_from_name(study_name)
        self._n_objectives = len(storage.get_study_directions(self.study_id))
        self.unwritten: str | None = None
        """What the disk or the database said, once a write failed."""
        self.remedy: str | None = None
        """What to do about that, if it is known."""
        self.refused = 0
        """Configurations that this driver did not start."""

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Returns the trials, or those in the given states, in order. Do not change them."""
        found = self.reach(self.storage.get_all_trials, self.study_id, deepcopy=False, states=states or None)
        return list(found)

    def enqueue(self, params: Params, attributes: Mapping[str, Any]) -> int:
        """Adds a trial to the end of the waiting ones; returns its number."""
        number = self._add(TrialState.WAITING, params, attributes)
        if schema.NAME in attributes:
            self.reach(self.secure)
        return number

    def name_waiting(self, trial: FrozenTrial, attributes: Mapping[str, Any]) -> int:
        """Writes the name of an enqueued trial, which still waits for a worker."""
        self._set(trial._trial_id, attributes)
        self.reach(self.secure)
        return trial._trial_id

    def start(self, number: int) -> None:
        """Writes that a waiting trial runs now."""
        self._end(number, TrialState.RUNNING)

    def drop_waiting(self, trial: FrozenTrial, reason: str, peak_memory_mib: float | None = None) -> None:
        """Removes an enqueued trial that never ran; it does not count."""
        dropped = {schema.INTERRUPTED: True, schema.DROPPED: reason, schema.PEAK_MEMORY_MIB: peak_memory_mib}
        self._set(trial._trial_id, dropped)
        self._end(trial._trial_id, TrialState.FAIL)

    def refuse(
        self, params: Params, reason: str, peak_memory_mib: float | None, budget_mib: float | None
    ) -> None:
        """Writes a configuration that never starts: infeasible, with its memory if that is known."""
        attributes: dict[str, Any] = {schema.INFEASIBLE: reason}
        constraints = None
        if peak_memory_mib is not None:
            attributes[schema.PEAK_MEMORY_MIB] = peak_memory_mib
            if budget_mib is not None:
                constraints = {schema.CONSTRAINT: peak_memory_mib - budget_mib}
        self._add(TrialState.PRUNED, params, attributes, constraints)
        self.refused += 1

    def passed_rung(self, number: int, accuracies: Mapping[int, float]) -> None:
        """Writes the accuracy that a running trial had at each rung so far."""
        self._set(number, {schema.RUNGS: {str(epoch): value for epoch, value in accuracies.items()}})

    def complete(
        self, number: int, accuracy: float, peak_memory_mib: float, attributes: Mapping[str, Any]
    ) -> None:
        """Ends a trial that trained all its epochs."""
        self._set(number, attributes)
        self._end(number, TrialState.COMPLETE, [accuracy, peak_memory_mib][: self._n_objectives])

    def pruned(self, number: int, epoch: int) -> None:
        """Ends a trial that was stopped at the rung `epoch`."""
        self._set(number, {schema.PRUNED_AT: epoch})
        self._end(number, TrialState.PRUNED)

    def out_of_memory(self, number: int, reason: str, need_mib: float | None) -> None:
        """Ends a trial that ran out of memory: infeasible, with what it needed."""
        self._set(number, {schema.INFEASIBLE: reason, schema.MEASURED_NEED_MIB: need_mib})
        self._end(number, TrialState.PRUNED)

    def failed(self, number: int, reason: str) -> None:
        """Ends a trial that gave no result."""
        self._set(number, {schema.FAILURE: reason})
        self._end(number, TrialState.FAIL)

    def end_cut_off(self) -> int:
        """Ends trials that are still RUNNING and enqueues them again; returns how many there were.

        For a study without a running driver: after a kill, or once Ray has stopped.
        """
        cut_off = self.trials(TrialState.RUNNING)
        enqueued = {t.user_attrs.get(schema.AGAIN) for t in self.trials(TrialState.WAITING)}
        for trial in cut_off:
            name = trial.user_attrs[schema.NAME]
            # Enqueued first: after a kill here the next driver finds the copy and the trial, still RUNNING.
            if name not in enqueued:
                kept = {k: v for k, v in trial.user_attrs.items() if k in (schema.SOURCE, schema.RUNGS)}
                self.enqueue((trial.params, trial.distributions), kept | {schema.AGAIN: name})
            self._set(trial._trial_id, {schema.INTERRUPTED: True})
            self._end(trial._trial_id, TrialState.FAIL)
        return len(cut_off)

    def give_up(self, reason: str) -> None:
        """Stops all further writes: the study ends with `reason`."""
        self.unwritten = self.unwritten or reason

    def study_attributes(self) -> dict[str, Any]:
        """Returns the attributes of the study."""
        return dict(self.storage.get_study_user_attrs(self.study_id))

    def set_study_attribute(self, key: str, value: Any) -> None:
        """Writes an attribute of the study if it differs from the current one."""
        if self.study_attributes().get(key) != json.loads(json.dumps(value)):
            self.reach(self.storage.set_study_user_attr, self.study_id, key, value)

    def _add(
        self,
        state: TrialState,
        params: Params,
        attributes: Mapping[str, Any],
        constraints: Mapping[str, float] | None = None,
    ) -> int:
        values, distributions = params
        trial = create_trial(
            state=state,
            params=dict(values),
            distributions=dict(distributions),
            user_attrs=dict(attributes),
            constraints=None if constraints is None else dict(constraints),
        )
        return int(self.reach(self.storage.create_new_trial, self.study_id, trial))

    def _set(self, number: int, attributes: Mapping[str, Any]) -> None:
        for key, value in attributes.items():
            self.reach(self.storage.set_trial_user_attr, number, key, value)

    def _end(self, number: int, state: TrialState, values: Sequence[float] | None = None) -> None:
        self.reach(self.storage.set_trial_state_values, number, state, values)
        if state.is_finished():
            self.reach(self.secure)

    def reach(self, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """Calls a function that reads or writes the record, and returns its result.

        Raises:
            UnwrittenError: if the disk or the database fails, and at every call after that. Any other error
                is a bug, and stays what it is.
        """
        if self.unwritten is not None:
            raise UnwrittenError(self.unwritten)
        try:
            return call(*args, **named)
        except storage_errors() as error:
            self.remedy = remedy_for(error)
            lines = str(error).strip().splitlines()
            self.unwritten = f"its record cannot be written ({lines[0] if lines else type(error).__name__})"
            raise UnwrittenError(self.unwritten) from error
