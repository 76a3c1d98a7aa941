"""What a study has found, read from Optuna's storage. Imports neither torch nor ray."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from tuner.record import schema


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """A trial that trained all its epochs."""

    trial: str
    accuracy_top1: float
    """On the validation images, after the last epoch."""
    peak_memory_mib: float
    epoch_time_s: float
    params: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Hypervolume:
    """The area that a front dominates, between it and the reference point: accuracy 0 in `reference_mib`."""

    accuracy_mib: float
    """Accuracy (a fraction) x MiB."""
    reference_mib: float
    """The memory budget, where there is one, else the largest peak memory of the complete trials."""
    fraction: float
    """Share, 0 to 1, of the area that a trial with accuracy 1 in 0 MiB would dominate."""


@dataclass(frozen=True)
class StudyStatus:
    """Counts of trials by state, the front of the complete ones, and its hypervolume."""

    study: str
    requested: int
    trials: dict[str, int]
    pareto: list[TrialResult]
    hypervolume: Hypervolume | None = None
    """None without a complete trial, and where memory is no objective."""

    def to_json(self) -> dict[str, Any]:
        """Returns the contract of `python -m tuner status --json`."""
        return asdict(self)


def read_status(study: optuna.Study, budget_mib: float | None = None) -> StudyStatus:
    """Reads a study as it stands; `budget_mib` is where its hypervolume is measured from."""
    trials = study.get_trials(deepcopy=False)
    counts = dict.fromkeys(schema.STATES, 0)
    for trial in trials:
        state = state_of(trial)
        if state in counts:
            counts[state] += 1
    complete = complete_trials(study)
    return StudyStatus(
        study.study_name,
        int(study.user_attrs.get(schema.REQUESTED, 0)),
        counts,
        pareto_front(complete),
        hypervolume(complete, budget_mib) if len(study.directions) > 1 else None,
    )


def ended_trials(status: StudyStatus) -> int:
    """Returns how many trials started and ended: what `--trials` counts."""
    return sum(status.trials[state] for state in ("complete", "pruned", "failed"))


def state_of(trial: FrozenTrial) -> str:
    """Returns one of `schema.STATES`, or `waiting` or `interrupted`, which count as no trial."""
    if schema.INTERRUPTED in trial.user_attrs:
        return schema.INTERRUPTED
    if schema.INFEASIBLE in trial.user_attrs:
        return "infeasible"
    names = {
        TrialState.COMPLETE: "complete",
        TrialState.PRUNED: "pruned",
        TrialState.FAIL: "failed",
        TrialState.RUNNING: "running",
        TrialState.WAITING: "waiting",
    }
    return names[trial.state]


def complete_trials(study: optuna.Study) -> list[TrialResult]:
    """Returns the trials that trained all their epochs, in order."""
    return [
        TrialResult(
            trial=trial.user_attrs[schema.NAME],
            accuracy_top1=trial.values[0],
            peak_memory_mib=trial.user_attrs[schema.PEAK_MEMORY_MIB],
            epoch_time_s=trial.user_attrs[schema.EPOCH_TIME_S],
            params=dict(trial.params),
        )
        for trial in study.get_trials(deepcopy=False)
        if state_of(trial) == "complete"
    ]


@dataclass(frozen=True, kw_only=True)
class RungRecord:
    """What a trial had at a rung that it was judged at."""

    trial: str
    epoch: int
    accuracy_top1: float
    peak_memory_mib: float


def rung_records(trials: Sequence[FrozenTrial]) -> list[RungRecord]:
    """Returns what each trial had at each rung; one that was cut off and went on counts once."""
    found = {}
    for trial in trials:
        if schema.NAME not in trial.user_attrs or schema.PEAK_MEMORY_MIB not in trial.user_attrs:
            continue
        name = str(trial.user_attrs[schema.NAME])
        for epoch, accuracy in trial.user_attrs.get(schema.RUNGS, {}).items():
            found[name, int(epoch)] = RungRecord(
                trial=name,
                epoch=int(epoch),
                accuracy_top1=accuracy,
                peak_memory_mib=trial.user_attrs[schema.PEAK_MEMORY_MIB],
            )
    return list(found.values())


def stopped_at(trials: Sequence[FrozenTrial]) -> dict[str, int]:
    """Returns, by name, the rung in epochs of each trial that was stopped there."""
    return {
        t.user_attrs[schema.NAME]: t.user_attrs[schema.PRUNED_AT]
        for t in trials
        if schema.PRUNED_AT in t.user_attrs
    }


def pareto_front(results: Sequence[TrialResult]) -> list[TrialResult]:
    """Returns the results that none beats in both accuracy and memory, by rising memory.

    Of several with equal accuracy and memory, the first stays.
    """
    front: list[TrialResult] = []
    for result in sorted(results, key=lambda r: (r.peak_memory_mib, -r.accuracy_top1)):
        if not front or result.accuracy_top1 > front[-1].accuracy_top1:
            front.append(result)
    return front


def hypervolume(results: Sequence[TrialResult], budget_mib: float | None) -> Hypervolume | None:
    """Returns the hypervolume of the front of `results`, or None where there are none.

    Measured from accuracy 0 and `budget_mib`, or, without a budget, from the largest peak memory among
    `results`: fractions of one budget compare, those of studies without one only roughly.
    """
    if not results:
        return None
    reference_mib = max(r.peak_memory_mib for r in results) if budget_mib is None else budget_mib
    area = best = 0.0
    for result in pareto_front(results):
        width = max(0.0, reference_mib - result.peak_memory_mib)
        area += width * (result.accuracy_top1 - best)
        best = result.accuracy_top1
    return Hypervolume(accuracy_mib=area, reference_mib=reference_mib, fraction=area / reference_mib)


def within(peak_memory_mib: float, budget_mib: float | None) -> bool:
    """Whether a peak fits the budget; anything does where there is none."""
    return budget_mib is None or peak_memory_mib <= budget_mib


def best_under(results: Sequence[TrialResult], budget_mib: float | None) -> TrialResult | None:
    """Returns the most accurate result within the budget (None: any), of equals the one with least memory."""
    fitting = [r for r in results if within(r.peak_memory_mib, budget_mib)]
    return max(fitting, key=lambda r: (r.accuracy_top1, -r.peak_memory_mib), default=None)
