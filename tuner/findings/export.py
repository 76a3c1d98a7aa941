"""Which trial of a study is exported, and what the study knows of it; `tinytl.export` does it."""

import difflib
import json
from collections.abc import Sequence
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial

from tinytl.errors import ConfigError
from tinytl.runs.directory import RunDirectory
from tuner.findings.best import choose_best
from tuner.record import schema
from tuner.record.accuracy_on_test import known_test_accuracies
from tuner.record.results import state_of

FOLDER = "export"
"""In the study's folder: what was exported, by trial."""
_NAMED = 3
"""Trials that are named where there is none of a name."""


def export_trial(
    study: optuna.Study,
    runs_dir: str,
    trial: str | None,
    under_mib: float | None,
    out: str | None,
    *,
    as_json: bool = False,
) -> str:
    """Exports `trial`, or the best within `under_mib`, to `out`; returns what to print.

    Raises:
        ConfigError: where no trial is meant, or it has no checkpoint, and as
            `tinytl.export.folder.export_run`.
    """
    folder = Path(runs_dir) / study.study_name
    record = _find(study, trial or choose_best(study, runs_dir, under_mib).result.trial)
    name = str(record.user_attrs[schema.NAME])
    _check_checkpoint(record, RunDirectory(folder / name).last)
    target = folder / FOLDER / name if out is None else Path(out)
    known = {
        "study": study.study_name,
        "trial": name,
        "test_accuracy_top1": known_test_accuracies(folder).get(name),
    }

    from tinytl.export.folder import export_run, shown

    about = export_run(folder / name, target, epoch="last", known=known)  # what its accuracy is of
    return json.dumps(about, indent=2) if as_json else "\n".join((name, *shown(about, target)))


def _find(study: optuna.Study, name: str) -> FrozenTrial:
    """Returns the trial `name`; of one that was cut off and goes on, the one that goes on."""
    found = {
        t.user_attrs[schema.NAME]: t for t in study.get_trials(deepcopy=False) if schema.NAME in t.user_attrs
    }
    if name not in found:
        raise ConfigError(f"no trial {name} in study {study.study_name}: {_near(name, list(found))}")
    return found[name]


def _near(name: str, names: Sequence[str]) -> str:
    if not names:
        return "it has none yet"
    near = difflib.get_close_matches(name, names, n=_NAMED)
    known = f"it has {names[0]} to {names[-1]}" if len(names) > 1 else f"it has {names[0]}"
    return f"did you mean {' or '.join(near)}? {known}" if near else known


def _check_checkpoint(record: FrozenTrial, checkpoint: Path) -> None:
    if checkpoint.is_file():
        return
    attributes, state = record.user_attrs, state_of(record)
    name, reason = (
        attributes[schema.NAME],
        attributes.get(schema.FAILURE) or attributes.get(schema.INFEASIBLE),
    )
    if state in ("complete", "pruned"):
        raise ConfigError(f"trial {name} is {state}, but its checkpoint {checkpoint} is gone: choose another")
    why = f" ({reason})" if reason else ""
    going_on = " yet" if state in ("running", schema.INTERRUPTED, "waiting") else ""
    raise ConfigError(f"trial {name} has no checkpoint{going_on}: it is {state}{why}; choose another --trial")
