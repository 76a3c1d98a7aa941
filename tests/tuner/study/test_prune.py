import uuid
from pathlib import Path

import pytest

from tests.support import mlflow_studies as made
from tinytl.config.plan import Plan
from tuner.__main__ import main
from tuner.bucket.copies import READ, copy_at
from tuner.bucket.store import open_bucket
from tuner.record.claim import folder_claimed
from tuner.record.reading import StudyReading, open_study
from tuner.record.trials import Trial
from tuner.study.prune import kept_trials, prunable

NAMES = [made.trial_name(index) for index in range(8)]
GONE = [NAMES[index] for index in (1, 2, 3, 7)]
"""Pruned, failed, out of memory, dominated. On the front: 0, 4. Not ended: 5, 6."""


def prune(runs_dir, *flags):
    return main(["prune", made.NAME, "--runs-dir", str(runs_dir), *flags])


def checkpoints(folder: Path) -> set[str]:
    return {path.relative_to(folder / made.NAME).as_posix() for path in folder.rglob("*.pt*")}


@pytest.fixture
def runs_dir(tmp_path):
    """A study with every kind of trial and their checkpoints, some of runs with other seeds."""
    prepared = made.prepared_study(tmp_path)
    made.every_kind(prepared)
    for trial in (NAMES[4], NAMES[7]):
        seed = prepared.folder / "confirm" / f"{trial}-seed1"
        seed.mkdir(parents=True)
        (seed / "last.pt").write_bytes(bytes(500))
    (prepared.folder / NAMES[7] / "last.pt.damaged").write_bytes(bytes(500))
    return tmp_path


def test_only_trials_that_ended_off_the_front_lose_their_checkpoints(runs_dir, capsys):
    others = {path for path in runs_dir.rglob("*") if ".pt" not in path.name}
    assert prune(runs_dir) == 0
    said = capsys.readouterr().out.splitlines()
    # Four of 2,000 bytes, and two of 500.
    assert said[0] == f"removed: checkpoints of 4 trials off the front of {made.NAME}, {9000 / 1e6:.1f} MB"
    assert "can no longer be exported or evaluated" in said[1] and "--config" in said[1]
    kept = {f"{NAMES[index]}/last.pt" for index in (0, 4, 5, 6)} | {f"confirm/{NAMES[4]}-seed1/last.pt"}
    assert checkpoints(runs_dir) == kept
    assert {f"{name}/last.pt" for name in GONE} & checkpoints(runs_dir) == set()
    assert others <= set(runs_dir.rglob("*"))


def test_a_dry_run_only_says_what_would_go(runs_dir, capsys):
    before = checkpoints(runs_dir)
    size_mb = prunable(open_study(made.NAME, str(runs_dir))).size_mb
    assert prune(runs_dir, "--dry-run") == 0
    assert capsys.readouterr().out == (
        f"would remove: checkpoints of 4 trials off the front of {made.NAME}, {size_mb:.1f} MB\n"
    )
    assert checkpoints(runs_dir) == before and size_mb == 9000 / 1e6


def test_a_study_that_runs_is_left_alone(runs_dir, capsys):
    before = checkpoints(runs_dir)
    with folder_claimed(runs_dir / made.NAME, made.NAME):
        assert prune(runs_dir) == 2
    assert "is being run by process" in capsys.readouterr().err
    assert checkpoints(runs_dir) == before


def test_a_second_call_finds_nothing(runs_dir, capsys):
    prune(runs_dir)
    capsys.readouterr()
    assert prune(runs_dir) == 0
    assert "checkpoints of 0 trials" in capsys.readouterr().out


def test_a_trial_that_is_the_best_under_some_budget_keeps_its_checkpoint():
    def trial(name, accuracy, peak, least):
        plans = [
            Plan(micro_batch_size=1, checkpoint="all", stock_below_kib=0, peak_memory_mib=mib, slowdown=slow)
            for mib, slow in ((peak, 1.0), (least, 9.0))
        ]
        return Trial(name=name, params={}, accuracy_top1=accuracy, peak_memory_mib=peak, curve=plans)

    trials = [
        trial("a", 0.9, 30, 15),
        trial("b", 0.8, 20, 10),
        trial("c", 0.85, 31, 12),
        trial("d", 0.7, 40, 14),
    ]
    study = StudyReading(name="s", trials=trials)
    assert {t.name for t in study.front} == {"a", "b"}
    assert study.under(13).best.name == "c"
    assert kept_trials(study) == {"a", "b", "c"}


def test_objects_of_a_bucket_go_too(runs_dir, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bucket = open_bucket(f"memory://{uuid.uuid4().hex}/runs")
    for file in (runs_dir / made.NAME).rglob("*"):
        if file.is_file():
            bucket.write(file.relative_to(runs_dir).as_posix(), file.read_bytes())
    bucket.write(f"{made.NAME}/optuna.journal", (runs_dir / "optuna.journal").read_bytes())
    assert prune(copy_at(bucket.address, READ).root) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"removed: checkpoints of 4 trials off the front of {made.NAME}"
    file = f"{bucket.address}/{made.NAME}/TRIAL/config.yaml"
    again = "python -m tinytl train --config config.yaml --out DIR"
    assert said[1].endswith(f"; with {file} copied here, `{again}` trains one again.")
    left = {key for key in bucket.versions(made.NAME) if ".pt" in key}
    assert f"{made.NAME}/{NAMES[0]}/last.pt" in left
    assert not {f"{made.NAME}/{name}/last.pt" for name in GONE} & left
