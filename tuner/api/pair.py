"""A configuration and the plan that runs it: what a study recommends."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tinytl.config.plan import Plan
from tinytl.config.train_config import TrainConfig
from tuner.findings.best import Best
from tuner.findings.sureness import mean_score
from tuner.findings.text import accuracy_text, describe


@dataclass(frozen=True, kw_only=True, repr=False)
class Pair:
    """A trial of a study with one of its plans. A missing figure is NaN."""

    study: str
    """The study's name."""
    trial: str
    """The trial's name, and that of its folder in the study's."""
    metric: str
    """What the study compares trials by: `accuracy_top1`, `balanced_accuracy` or `macro_f1`."""
    score: float
    """That metric on the validation images, 0 to 1; the mean over seeds, if it was trained again."""
    standard_error: float
    """How far other validation images, and seeds if it was trained again, would move `score`."""
    test_score: float
    """That metric on the test images; NaN if they were not read for this trial."""
    test_standard_error: float
    """How far other test images would move `test_score`; NaN in an older study."""
    accuracy_top1: float
    """On the validation images, 0 to 1."""
    test_accuracy_top1: float
    """On the test images, 0 to 1; NaN if they were not read for this trial."""
    peak_memory_mib: float
    """Predicted peak of a training step with `plan`, in MiB."""
    slowdown: float
    """Time of a step with `plan` over that with the fastest plan."""
    params: Mapping[str, Any]
    """The searched values."""
    plan: Plan | None
    """None in a study that is older than plans."""
    config: TrainConfig
    """The whole configuration, plan included."""
    command: str
    """The command that trains it again."""
    text: str
    """The same in a line."""

    def __repr__(self) -> str:
        return self.text


def pair_of(best: Best) -> Pair:
    """Returns what `best` chose, without the study around it."""
    trial, study = best.trial, best.study
    how = "" if trial.plan is None else f" ({trial.plan.describe()})"
    return Pair(
        study=study.name,
        trial=trial.name,
        metric=trial.metric,
        score=mean_score(trial),
        standard_error=trial.error_over_seeds,
        test_score=trial.test_score,
        test_standard_error=trial.test_standard_error,
        accuracy_top1=trial.accuracy_top1,
        test_accuracy_top1=trial.test_accuracy_top1,
        peak_memory_mib=trial.peak_memory_mib,
        slowdown=trial.slowdown,
        params=dict(trial.params),
        plan=trial.plan,
        config=best.config,
        command=shlex.join(best.command),
        text=f"{trial.label}: {trial.metric_words} {accuracy_text(trial)} in "
        f"{trial.peak_memory_mib:.1f} MiB{how}; {describe(trial.params)}",
    )
