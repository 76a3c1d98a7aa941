"""A study's trials one by one, as its storage and their folders hold them. Imports neither torch nor ray."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from tinytl.config.names import METRICS
from tinytl.config.plan import Plan, fastest_within
from tinytl.runs.directory import RunDirectory
from tinytl.runs.record import read_epochs
from tuner.record import schema
from tuner.record.confirmed import ConfirmedResult

CURVE_FILE = "curve.json"
"""In a trial's folder: its plans, as in the record."""
PLAN_FIGURES = ("slowdown", "fast_memory_mib", "smallest_memory_mib")
BASELINE = "baseline"
"""First word of the source of a configuration that the space itself names."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A trial of a study. Its attempts count as one, and the last decides. A missing figure is NaN."""

    name: str
    state: str = "complete"
    """One of `schema.STATES`, or `interrupted`: cut off, and not yet resumed."""
    params: Mapping[str, Any]
    """The searched values."""
    distributions: Mapping[str, BaseDistribution] = field(default_factory=dict, repr=False)
    """The distribution of each searched value."""
    metric: str = "accuracy_top1"
    """What the study compares trials by, one of `METRICS`: the name of the attribute that is `score`."""
    accuracy_top1: float = math.nan
    """On the validation images, 0 to 1: after the last epoch, or after the rung at which it was stopped (the
    study's metric alone)."""
    balanced_accuracy: float = math.nan
    """As `accuracy_top1`: the mean recall of the classes."""
    macro_f1: float = math.nan
    """As `accuracy_top1`: the mean F1 of the classes."""
    standard_error: float = math.nan
    """Of the study's metric: how far other validation images would move it; NaN in an older study."""
    peak_memory_mib: float = math.nan
    """The least predicted peak of a training step, in MiB, of its plans within `--max-slowdown`."""
    trained_memory_mib: float = math.nan
    """Predicted peak of the plan with which it trained, in MiB."""
    measured_peak_mib: float = math.nan
    """The same as the allocator counted it, in MiB."""
    process_peak_mib: float = math.nan
    """Peak resident size of its whole process, PyTorch and images included, in MiB; it may have had trials
    before."""
    curve: Sequence[Plan] = ()
    """Its plans that no other beats in memory and time, the fastest first; none in an older study."""
    epoch_time_s: float = math.nan
    """Seconds per epoch, of epochs that computed all their features (`tinytl.features`); NaN if none did."""
    rungs: Mapping[int, float] = field(default_factory=dict)
    """The metric at each rung that it passed, by epochs."""
    stopped_at: int | None = None
    """The rung, in epochs, at which it was stopped."""
    failure: str | None = None
    """Why it failed, or ran out of memory."""
    start: datetime | None = None
    last_start: datetime | None = None
    """Of the last attempt."""
    end: datetime | None = None
    spans: Sequence[tuple[datetime, datetime | None]] = ()
    """Start and end of each attempt; the end is None if it was cut off, or runs."""
    on_front: bool = False
    """Whether no other complete trial beats it in the metric and memory."""
    on_test: Mapping[str, float] = field(default_factory=dict)
    """Each of `METRICS` on the test images, which are read once, for the final front, and their standard
    errors."""
    measured_slowdown: float = math.nan
    """That of `plan`, measured at the end of the study for the final front."""
    confirmed: ConfirmedResult | None = None
    """Its results with other seeds (`--confirm`)."""
    source: str | None = None
    """Where the configuration came from, if the sampler did not choose it: `baseline user_report`."""

    def __post_init__(self) -> None:
        if math.isnan(self.trained_memory_mib):  # an older study: the plan it trained with is its only one
            object.__setattr__(self, "trained_memory_mib", self.peak_memory_mib)

    @property
    def score(self) -> float:
        """The study's metric on the validation images, 0 to 1."""
        return float(getattr(self, self.metric))

    @property
    def error_over_seeds(self) -> float:
        """The standard error of what is shown as its metric: `score`, or its mean over seeds.

        The validation images and, if it was trained again, the seeds move it. In an older study the images'
        part is not known: NaN without other seeds.
        """
        if self.confirmed is None or not self.confirmed.again:
            return self.standard_error
        of_seeds = self.confirmed.deviation / math.sqrt(self.confirmed.seeds)
        return math.hypot(known(self.standard_error) or 0.0, of_seeds)

    @property
    def metric_words(self) -> str:
        """The metric's name in text."""
        return METRICS[self.metric]

    @property
    def test_score(self) -> float:
        """The study's metric on the test images; NaN if they were not read."""
        return self.on_test.get(self.metric, math.nan)

    @property
    def test_standard_error(self) -> float:
        """How far other test images would move `test_score`; NaN if that is not known."""
        return self.on_test.get(f"{self.metric}_{schema.STANDARD_ERROR}", math.nan)

    @property
    def test_accuracy_top1(self) -> float:
        """Top-1 accuracy on the test images; NaN if they were not read."""
        return self.on_test.get("accuracy_top1", math.nan)

    @property
    def plan(self) -> Plan | None:
        """The plan that needs `peak_memory_mib`."""
        return next((plan for plan in self.curve if plan.peak_memory_mib == self.peak_memory_mib), None)

    @property
    def slowdown(self) -> float:
        """The time of a step with `plan` over that with the fastest plan; NaN if it is not known."""
        return math.nan if self.plan is None else self.plan.slowdown

    @property
    def fast_memory_mib(self) -> float:
        """Predicted peak of the fastest plan, in MiB."""
        return self.curve[0].peak_memory_mib if self.curve else self.trained_memory_mib

    @property
    def smallest_memory_mib(self) -> float:
        """The least predicted peak of any plan, in MiB."""
        return self.curve[-1].peak_memory_mib if self.curve else self.peak_memory_mib

    @property
    def plan_figures(self) -> dict[str, float]:
        """What its curve says beside the objective, by the names that are recorded."""
        return {name: getattr(self, name) for name in PLAN_FIGURES}

    def under(self, budget_mib: float) -> "Trial":
        """Returns the trial with its fastest plan that fits a budget; as it is, if no plan does."""
        plan = fastest_within(self.curve, budget_mib)
        if plan is None or plan is self.plan:
            return self
        return replace(self, peak_memory_mib=plan.peak_memory_mib, measured_slowdown=math.nan)

    @property
    def baseline(self) -> str | None:
        """The name of the baseline that it is, if it is one: `user_report`."""
        return _baseline_of(self.source)

    @property
    def label(self) -> str:
        """The name, with that of the baseline if it is one: `joint-000 (user_report)`."""
        return label_of(self.name, self.source)

    def to_json(self) -> dict[str, Any]:
        """Returns the trial as `python -m tuner status --json` prints those of the front."""
        return {
            "trial": self.name,
            **{name: known(getattr(self, name)) for name in METRICS},
            "standard_error": known(self.standard_error),
            "peak_memory_mib": self.peak_memory_mib,
            "slowdown": known(self.slowdown),
            "measured_slowdown": known(self.measured_slowdown),
            "curve": [asdict(plan) for plan in self.curve],
            "epoch_time_s": known(self.epoch_time_s),
            "params": dict(self.params),
        }


def merged_trials(
    attempts: Sequence[FrozenTrial], *, metric: str = "accuracy_top1", driver_is_gone: bool = False
) -> list[Trial]:
    """Returns the named trials of a storage, in order, without those that only wait.

    `metric`: what the study compares. `driver_is_gone`: trials that are RUNNING in the storage were cut off.
    """
    by_name: dict[str, list[FrozenTrial]] = {}
    for attempt in attempts:
        if schema.NAME in attempt.user_attrs and attempt.state != TrialState.WAITING:
            by_name.setdefault(str(attempt.user_attrs[schema.NAME]), []).append(attempt)
    return [_merged(name, own, metric, driver_is_gone) for name, own in by_name.items()]


def _plan(stored: Mapping[str, Any]) -> Plan:
    fields = dict(stored)
    if "peak_mib" in fields:  # as the first studies with curves have it
        fields["peak_memory_mib"] = fields.pop("peak_mib")
    return Plan(**fields)


def figures_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those of `METRICS` that a row or a record has, by name."""
    return {name: _figure(row[name]) for name in METRICS if name in row}


def metric_of_row(row: Mapping[str, Any]) -> str:
    """Returns what the study of an epoch's row compares; an older row does not say."""
    return str(row.get("metric", "accuracy_top1"))


def text_of_row(row: Mapping[str, Any]) -> str:
    """Returns the metric of an epoch, as text: `accuracy 0.812`."""
    metric = metric_of_row(row)
    return f"{METRICS[metric]} {row[metric]:.3f}"


def trial_of_row(name: str, row: Mapping[str, Any]) -> Trial:
    """Returns a complete trial by its last epoch's row: what a front needs."""
    return Trial(
        name=name,
        params={},
        metric=metric_of_row(row),
        peak_memory_mib=row["peak_memory_mib"],
        epoch_time_s=_figure(row.get("epoch_time_s")),
        standard_error=_figure(row.get("standard_error")),
        **figures_of(row),
    )


def _merged(name: str, attempts: Sequence[FrozenTrial], metric: str, driver_is_gone: bool) -> Trial:
    first, last = attempts[0], attempts[-1]
    attributes, state = last.user_attrs, state_of(last)
    if state == "running" and driver_is_gone:
        state = schema.INTERRUPTED
    reason = {"failed": schema.FAILURE, "infeasible": schema.INFEASIBLE}.get(state)
    rungs = {int(k): v for attempt in attempts for k, v in attempt.user_attrs.get(schema.RUNGS, {}).items()}
    stopped_at = attributes.get(schema.PRUNED_AT) if state == "pruned" else None
    figures = figures_of(attributes) if state == "complete" else {}
    if state == "complete":
        figures[metric] = _figure(last.values[0])
    elif stopped_at is not None:
        figures[metric] = _figure(rungs.get(stopped_at))
    peak_mib = _figure(attributes.get(schema.PEAK_MEMORY_MIB))
    return Trial(
        name=name,
        state=state,
        params=dict(last.params),
        distributions=last.distributions,
        metric=metric,
        **figures,
        standard_error=_figure(attributes.get(schema.STANDARD_ERROR)),
        peak_memory_mib=peak_mib,
        trained_memory_mib=_figure(attributes.get(schema.TRAINED_MEMORY_MIB)),
        curve=[_plan(stored) for stored in attributes.get(schema.CURVE, ())],
        measured_peak_mib=_figure(attributes.get(schema.MEASURED_PEAK_MIB)),
        process_peak_mib=_figure(attributes.get(schema.PROCESS_PEAK_MIB)),
        epoch_time_s=_figure(attributes.get(schema.EPOCH_TIME_S)),
        rungs=rungs,
        stopped_at=stopped_at,
        failure=None if reason is None else str(attributes.get(reason, "")),
        start=first.datetime_start,
        last_start=last.datetime_start,
        end=last.datetime_complete,
        spans=[_span(attempt) for attempt in attempts if attempt.datetime_start is not None],
        source=next((a.user_attrs[schema.SOURCE] for a in attempts if schema.SOURCE in a.user_attrs), None),
    )


def _span(attempt: FrozenTrial) -> tuple[datetime, datetime | None]:
    assert attempt.datetime_start is not None
    # What was cut off was told as ended when the next driver came.
    cut_off = schema.INTERRUPTED in attempt.user_attrs
    return attempt.datetime_start, None if cut_off else attempt.datetime_complete


def metric_shared(trials: Sequence[Trial]) -> str:
    """Returns what the study of these trials compares: its trials have one metric."""
    return trials[0].metric if trials else "accuracy_top1"


def label_of(name: str, source: str | None) -> str:
    """Returns a trial's name, with that of the baseline that it is, if it is one."""
    baseline = _baseline_of(source)
    return name if baseline is None else f"{name} ({baseline})"


def _baseline_of(source: str | None) -> str | None:
    kind, _, baseline = (source or "").partition(" ")
    return baseline if kind == BASELINE else None


def state_of(trial: FrozenTrial) -> str:
    """Returns one of `schema.STATES`, or `waiting` or `interrupted`, which do not count."""
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


def known(figure: float) -> float | None:
    """Returns a figure of a trial, None if the trial lacks it."""
    return None if math.isnan(figure) else figure


def _figure(value: float | None) -> float:
    return math.nan if value is None else value


def read_params(folder: Path) -> dict[str, Any]:
    """Returns the fields in the `config.yaml` of a trial's folder: none if there is no such file."""
    path = RunDirectory(folder).config_file
    if not path.is_file():
        return {}
    # The fast loader, if there is one: a study may have a thousand of these files.
    loaded = yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return loaded if isinstance(loaded, dict) else {}


def read_rows(folder: Path) -> list[tuple[dict[str, Any], int]]:
    """Returns the epochs' rows in order, each with the file's time in ms; half a line is left out."""
    metrics = RunDirectory(folder).metrics_file
    if not metrics.is_file():
        return []
    time_ms = int(metrics.stat().st_mtime * 1000)
    return [(dict(row), time_ms) for row in read_epochs(metrics).rows]
