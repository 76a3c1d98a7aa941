"""The best trial of a study, and the command that trains it. Imports neither torch nor ray."""

from __future__ import annotations

import math
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
from rich.console import Console

from tinytl.config.flags import SECTIONS
from tinytl.config.flat import flat_from_config
from tinytl.config.train_command import folded, train_command
from tinytl.config.train_config import TrainConfig
from tinytl.errors import ConfigError
from tinytl.runs.directory import RunDirectory, read_config_file
from tuner.findings.findings import Findings, read_findings
from tuner.findings.text import counts_line, describe, over_seeds
from tuner.record.results import TrialResult, complete_trials

ONE_THREAD = "On a CPU a trial has one thread: put OMP_NUM_THREADS=1 before the command to repeat it."
"""With more threads sums are taken in another order, and rounded otherwise."""


@dataclass(frozen=True, kw_only=True)
class Best:
    """The trial that `python -m tuner status` names, or would under another budget."""

    findings: Findings
    result: TrialResult
    config: TrainConfig
    runs_dir: str

    @property
    def command(self) -> list[str]:
        """Returns the words that train it again, in a folder of its name."""
        return train_command(self.config, self.result.trial)

    def to_json(self) -> dict[str, Any]:
        """Returns all that is known of it, its configuration and command included."""
        trial = self.result.trial
        confirmed = self.findings.confirmed.get(trial)
        return {
            "study": self.findings.status.study,
            "memory_budget_mib": self.findings.budget_mib,
            **asdict(self.result),
            "test_accuracy_top1": self.findings.test_accuracy.get(trial),
            "confirmed": confirmed and {"mean": confirmed.mean, "seeds": confirmed.seeds},
            "config": flat_from_config(self.config),
            "command": shlex.join(self.command),
        }


def choose_best(study: optuna.Study, runs_dir: str, under_mib: float | None) -> Best:
    """Returns the best trial within `under_mib`, or, where that is None, within the study's own budget.

    Raises:
        ConfigError: for a budget that is no number above 0 or that no complete trial keeps, and where the
            trial's `config.yaml` is gone or damaged.
    """
    if under_mib is not None and not (under_mib > 0 and math.isfinite(under_mib)):
        raise ConfigError(f"--under-mib {under_mib:g}: must be a number above 0")
    findings = read_findings(study, runs_dir, under_mib)
    complete = complete_trials(study)
    if not complete:
        raise ConfigError(f"there is no complete trial to choose from: {counts_line(findings.status)}")
    if findings.best is None:
        least = min(complete, key=lambda result: result.peak_memory_mib)
        raise ConfigError(
            f"no complete trial of {study.study_name} takes {findings.budget_mib:g} MiB or less: the least "
            f"is {least.peak_memory_mib:.1f} MiB ({least.trial}): raise --under-mib"
        )
    folder = Path(runs_dir) / study.study_name / findings.best.trial
    config = read_config_file(RunDirectory(folder).config_file)
    return Best(findings=findings, result=findings.best, config=config, runs_dir=runs_dir)


def print_best(console: Console, best: Best) -> None:
    """Prints what the trial reached, its whole configuration by section, and its command."""

    def line(text: str = "") -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    result, findings = best.result, best.findings
    confirmed = findings.confirmed.get(result.trial)
    accuracy = f"{result.accuracy_top1:.3f}" if confirmed is None else over_seeds(confirmed)
    test = findings.test_accuracy.get(result.trial)
    tested = "" if test is None else f", on the test images {test:.3f}"
    under = "" if findings.budget_mib is None else f" under {findings.budget_mib:g} MiB"
    complete = findings.status.trials["complete"]
    line(f"{result.trial}, the best of {complete} complete trials{under}")
    line(
        f"accuracy {accuracy}{tested}; peak memory {result.peak_memory_mib:.1f} MiB; epoch "
        f"{result.epoch_time_s:.1f} s"
    )
    line(f"searched: {describe(result.params)}")
    line()
    flat = flat_from_config(best.config)
    ratios = [name for name in flat if name.startswith("lr_ratio.")]
    for section, names in SECTIONS.items():
        line(f"{section}:")
        fields = names.split() + (ratios if section == "training" else [])
        for text in _wrapped([f"{name} {_value(flat[name])}" for name in fields], console.width):
            line(f"  {text}")
    study, where = findings.status.study, "" if best.runs_dir == "runs" else f" --runs-dir {best.runs_dir}"
    line()
    line("Train it:")
    line(folded(best.command))
    if best.config.device == "cpu":
        line(ONE_THREAD)
    line(f"Take it to a device:  python -m tuner export {study} --trial {result.trial}{where}")


def _wrapped(texts: list[str], width: int) -> list[str]:
    lines = [""]
    for text in texts:
        longer = f"{lines[-1]}, {text}" if lines[-1] else text
        if lines[-1] and len(longer) > width - 3:
            lines[-1] += ","
            lines.append(text)
        else:
            lines[-1] = longer
    return lines


def _value(value: Any) -> str:
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (tuple, list)):
        return " ".join(f"{number:.4g}" for number in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
