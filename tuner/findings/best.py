"""The best trial of a study, and the command that trains it. Imports neither torch nor ray."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from tinytl.config.flags import SECTIONS
from tinytl.config.flat import flat_from_config
from tinytl.config.names import METRICS
from tinytl.config.train_command import folded, train_command
from tinytl.config.train_config import TrainConfig
from tinytl.errors import ConfigError
from tinytl.plural import counted
from tinytl.runs.directory import RunDirectory, read_config_file
from tuner.findings.sureness import Sureness
from tuner.findings.text import accuracy_text, counts_line, describe, shortened, test_text
from tuner.next_commands import tuner_command, where_flags
from tuner.record.reading import StudyReading
from tuner.record.results import within
from tuner.record.trials import Trial, known

ONE_THREAD = "On a CPU a trial has one thread: put OMP_NUM_THREADS=1 before the command to repeat it exactly."
"""With more threads sums are added in another order, and rounded differently."""


@dataclass(frozen=True, kw_only=True)
class Best:
    """The trial that `python -m tuner status` names as the best, or would name with another budget."""

    study: StudyReading
    trial: Trial
    config: TrainConfig

    @property
    def command(self) -> list[str]:
        """Returns the words that train it again, in a folder of its name."""
        return train_command(self.config, self.trial.name)

    def to_json(self) -> dict[str, Any]:
        """Returns all that is known about it, with its configuration and command."""
        confirmed = self.trial.confirmed
        return {
            "study": self.study.name,
            "memory_budget_mib": self.study.budget_mib,
            **self.trial.to_json(),
            **{f"test_{name}": self.trial.on_test.get(name) for name in METRICS},
            "test_standard_error": known(self.trial.test_standard_error),
            **Sureness(self.study).to_json(),
            "confirmed": confirmed and {"mean": confirmed.mean, "seeds": confirmed.seeds},
            "config": flat_from_config(self.config),
            "command": shlex.join(self.command),
        }


def choose_best(study: StudyReading, under_mib: float | None, name: str | None = None) -> Best:
    """Returns the best trial within `under_mib`, or within the study's own budget if that is None.

    `name`: of a trial to return in its place, with its fastest plan within that budget.

    Raises:
        ConfigError: for a budget that is not a number above 0 or that no complete trial fits, for a trial
            that is unknown or not complete, or if the trial's `config.yaml` is gone or damaged.
    """
    if under_mib is not None and not (under_mib > 0 and math.isfinite(under_mib)):
        raise ConfigError(f"--under-mib {under_mib:g}: must be a number above 0")
    # Below a budget memory is worth nothing more: the fastest plan that fits, under the study's own as well.
    study = study.under(study.budget_mib if under_mib is None else under_mib)
    way_out = "give --under-mib" if under_mib is None else "raise --under-mib"
    trial = _best(study, way_out) if name is None else _named(study, name, way_out)
    config = read_config_file(RunDirectory(study.folder / trial.name).config_file)
    if trial.plan is not None:
        config = trial.plan.of(config)
    return Best(study=study, trial=trial, config=config)


def _best(study: StudyReading, way_out: str) -> Trial:
    if not study.complete:
        raise ConfigError(f"there is no complete trial to choose from: {counts_line(study)}")
    if study.best is None:
        least = min(study.complete, key=lambda trial: trial.smallest_memory_mib)
        raise ConfigError(
            f"no complete trial of {study.name} needs {study.budget_mib:g} MiB or less: the least "
            f"is {least.smallest_memory_mib:.1f} MiB ({least.name}): {way_out}"
        )
    return study.best


def _named(study: StudyReading, name: str, way_out: str) -> Trial:
    trial = study.trial(name)
    if trial.state != "complete":
        why = f" ({trial.failure})" if trial.failure else ""
        raise ConfigError(f"trial {name} is {trial.state}{why}: choose a complete --trial")
    if not within(trial.peak_memory_mib, study.budget_mib):
        raise ConfigError(
            f"no plan of trial {name} needs {study.budget_mib:g} MiB or less: the least is "
            f"{trial.smallest_memory_mib:.1f} MiB: {way_out}"
        )
    return trial


def print_best(console: Console, best: Best) -> None:
    """Prints what the trial reached, its whole configuration by section, and its command."""

    def line(text: str = "") -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    trial, study = best.trial, best.study
    test = test_text(trial)
    tested = "" if test is None else f", on the test images {test}"
    under = "" if study.budget_mib is None else f" under {study.budget_mib:g} MiB"
    sureness = Sureness(study)
    line(f"{trial.label}, the best of {counted(len(sureness.fitting), 'complete trial')}{under}")
    seconds = known(trial.epoch_time_s)
    timed = "" if seconds is None else f"; epoch {seconds:.1f} s in the study"
    line(f"{trial.metric_words} {accuracy_text(trial)}{tested}{timed}")
    for text in sureness.lines():
        line(text)
    line(f"peak memory {trial.peak_memory_mib:.1f} MiB{_with_plan(trial)}")
    line(f"searched: {describe(trial.params)}")
    line()
    flat = flat_from_config(best.config)
    if best.config.update_scheme is not None:
        flat["update_scheme"] = shortened(best.config.update_scheme)  # whole in the command below
    ratios = [name for name in flat if name.startswith("lr_ratio.")]
    for section, names in SECTIONS.items():
        line(f"{section}:")
        fields = names.split() + (ratios if section == "training" else [])
        for text in _wrapped([f"{name} {_value(flat[name])}" for name in fields], console.width):
            line(f"  {text}")
    line()
    line("Train it:")
    line(folded(best.command))
    if best.config.device == "cpu":
        line(ONE_THREAD)
    export = tuner_command("export", study.name, "--trial", trial.name, where=where_flags(study.runs_dir))
    line(f"Train it further, to a model with its card: {finish_command(study, trial.name)}")
    line(f"Export for a device: {export}")


def finish_command(study: StudyReading, trial: str) -> str:
    """Returns the command that makes a model of a trial with its fastest plan within the study's budget."""
    under = [] if study.budget_mib is None else ["--under-mib", f"{study.budget_mib:g}"]
    where = where_flags(study.runs_dir)
    return tuner_command("finish", study.name, "--trial", trial, *under, where=where)


def _with_plan(trial: Trial) -> str:
    if trial.plan is None:
        return ""
    return f" ({trial.plan.describe()}, {trial.slowdown:.2f} x the time of the fastest plan)"


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
