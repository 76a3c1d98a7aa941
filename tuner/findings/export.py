"""Which trial of a study is exported, and what the study knows about it; `tinytl.export` writes the files."""

import json
from pathlib import Path

from tinytl.config.names import METRICS
from tinytl.errors import ConfigError
from tinytl.runs.directory import RunDirectory
from tuner.bucket.copies import bring_checkpoints, named, send
from tuner.findings.best import choose_best
from tuner.next_commands import retrain_command
from tuner.record import schema
from tuner.record.reading import StudyReading
from tuner.record.trials import Trial, known

FOLDER = "export"
"""In the study's folder: the exported trials, a folder each."""


def export_trial(
    study: StudyReading,
    trial: str | None,
    under_mib: float | None,
    out: str | None,
    *,
    as_json: bool = False,
) -> str:
    """Exports `trial`, or the best within `under_mib`, to `out`; returns what to print.

    Raises:
        ConfigError: if there is no such trial, or it has no checkpoint; also what
            `tinytl.export.folder.export_run` raises.
    """
    chosen = study.trial(trial or choose_best(study, under_mib).trial.name)
    name, folder = chosen.name, study.folder
    bring_checkpoints(folder / name)
    _check_checkpoint(chosen, RunDirectory(folder / name).last)
    target = folder / FOLDER / name if out is None else Path(out)
    facts = {
        "study": study.name,
        "trial": name,
        "metric": chosen.metric,
        **{f"test_{name}": chosen.on_test.get(name) for name in METRICS},
        "test_standard_error": known(chosen.test_standard_error),
    }

    from tinytl.export.folder import export_run, shown

    about = export_run(folder / name, target, epoch="last", known=facts)  # the epoch of its accuracy
    send(target)
    lines = [name, *shown(about, target)]
    if named(target) != str(target):
        lines.append(f"In the bucket: {named(target)}")
    return json.dumps(about, indent=2) if as_json else "\n".join(lines)


def _check_checkpoint(trial: Trial, checkpoint: Path) -> None:
    if checkpoint.is_file():
        return
    name, state = trial.name, trial.state
    if state in ("complete", "pruned"):
        again = retrain_command(str(checkpoint.with_name("config.yaml")))
        raise ConfigError(
            f"trial {name} is {state}, but its checkpoint {checkpoint} is gone (a prune removes those off "
            f"the front): choose another, or `{again}`"
        )
    why = f" ({trial.failure})" if trial.failure else ""
    going_on = " yet" if state in ("running", schema.INTERRUPTED) else ""
    raise ConfigError(f"trial {name} has no checkpoint{going_on}: it is {state}{why}; choose another --trial")
