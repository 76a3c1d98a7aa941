"""Which trial of a study is exported, and what the study knows about it; `tinytl.export` writes the files."""

import json
from pathlib import Path
from typing import Any

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
TO_TRAIN = "-training"
"""After a trial's name: its folder that trains on a device."""
EPOCH = "last"
"""Of a trial: the epoch of its accuracy."""


def export_trial(
    study: StudyReading,
    trial: str | None,
    under_mib: float | None,
    out: str | None,
    *,
    data_dir: str | None = None,
    int8_drop: float | None = None,
    as_json: bool = False,
    micro_batch_size: int | None = None,
) -> str:
    """Exports `trial`, or the best within `under_mib`, to `out`; returns what to print.

    Args:
        study: the study.
        trial: name of a trial. Default: the best.
        under_mib: most memory of the best, in MiB.
        out: a folder that is empty or missing. Default: one in the study's folder.
        data_dir: folder of the study's images; default: where they were.
        int8_drop: asks for a second ONNX file, in eight bits, as `export_run` does.
        as_json: return what `model.json` or `manifest.json` holds.
        micro_batch_size: of a folder that trains on a device. Default: a folder that does not train.

    Raises:
        ConfigError: if there is no such trial, or it has no checkpoint; also what
            `tinytl.export.folder.export_run` and `tinytl.export.training.folder.export_training` raise.
    """
    chosen = study.trial(trial or choose_best(study, under_mib).trial.name)
    name, run = chosen.name, study.folder / chosen.name
    bring_checkpoints(run)
    _check_checkpoint(chosen, RunDirectory(run).last)
    default = study.folder / FOLDER / (name if micro_batch_size is None else f"{name}{TO_TRAIN}")
    target = default if out is None else Path(out)
    if micro_batch_size is None:
        about, lines = _to_predict(study, chosen, target, data_dir, int8_drop)
    else:
        about, lines = _to_train(study, chosen, target, micro_batch_size)
    send(target)
    if named(target) != str(target):
        lines.append(f"In the bucket: {named(target)}")
    return json.dumps(about, indent=2) if as_json else "\n".join([name, *lines])


def _to_predict(
    study: StudyReading, trial: Trial, out: Path, data_dir: str | None, int8_drop: float | None
) -> tuple[dict[str, Any], list[str]]:
    from tinytl.export.folder import export_run, shown

    facts = {
        "study": study.name,
        "trial": trial.name,
        "metric": trial.metric,
        **{f"test_{name}": trial.on_test.get(name) for name in METRICS},
        "test_standard_error": known(trial.test_standard_error),
    }
    run = study.folder / trial.name
    about = export_run(run, out, epoch=EPOCH, known=facts, data_dir=data_dir, int8_drop=int8_drop)
    return about, list(shown(about, out))


def _to_train(study: StudyReading, trial: Trial, out: Path, n: int) -> tuple[dict[str, Any], list[str]]:
    from tinytl.export.training.folder import export_training, shown

    facts = {"study": study.name, "trial": trial.name}
    manifest = export_training(study.folder / trial.name, out, epoch=EPOCH, micro_batch_size=n, known=facts)
    return manifest, shown(manifest, out)


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
