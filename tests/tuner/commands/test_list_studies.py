import json

import pytest

from tests.support.synthetic_study import write_study
from tuner.__main__ import main
from tuner.record import schema
from tuner.record.claim import folder_claimed
from tuner.record.reading import open_study
from tuner.record.storage import open_storage


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory):
    """Two studies in the journal, one of them without all its trials, and one in a database."""
    folder = tmp_path_factory.mktemp("studies") / "my runs"
    write_study(folder, "done", 3, 3)
    write_study(folder, "begun", 2, 3).set_user_attr(schema.REQUESTED, 5)
    import optuna

    url = f"sqlite:///{folder}/own.db"
    study = optuna.create_study(study_name="elsewhere", storage=open_storage(url, str(folder)))
    study.set_user_attr(schema.REQUESTED, 4)
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "study.json").write_text(json.dumps({"storage": url}))
    return folder


def listed(capsys, runs_dir, *flags):
    assert main(["list", "--runs-dir", str(runs_dir), "--json", *flags]) == 0
    return {row["study"]: row for row in json.loads(capsys.readouterr().out)}


def test_studies_of_every_storage_stand_by_name_with_their_state(runs_dir, capsys):
    with folder_claimed(runs_dir / "elsewhere", "elsewhere"):
        rows = listed(capsys, runs_dir)
    assert list(rows) == ["begun", "done", "elsewhere"]
    states = {name: (row["state"], row["ended"], row["requested"]) for name, row in rows.items()}
    assert states == {
        "begun": ("unfinished", 2, 5),
        "done": ("finished", 3, 3),
        "elsewhere": ("running", 0, 4),
    }
    assert rows["done"]["began"] == "2026-01-01T00:00:00" and rows["elsewhere"]["began"] is None
    assert listed(capsys, runs_dir)["elsewhere"]["state"] == "unfinished"


def test_people_are_given_a_line_a_study(runs_dir, capsys):
    assert main(["list", "--runs-dir", str(runs_dir)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["study", "state", "trials", "best", "MiB", "MB", "on", "disk", "began"]
    (done,) = (row for row in listed(capsys, runs_dir).values() if row["study"] == "done")
    best = done["best"]
    figures = [f"{best['accuracy_top1']:.3f}", f"{best['peak_memory_mib']:.1f}", str(done["size_mb"])]
    assert lines[2] == ["done", "finished", "3/3", *figures, "2026-01-01", "00:00"]
    assert lines[3] == ["elsewhere", "unfinished", "0/4", "-", "-", "0.0"]


def test_a_storage_is_listed_beside_the_folder(runs_dir, tmp_path, capsys):
    url = f"sqlite:///{runs_dir}/own.db"
    assert list(listed(capsys, tmp_path / "none", "--storage", url)) == ["elsewhere"]


def test_a_study_has_its_counts_its_best_and_its_size(runs_dir, capsys):
    row, study = listed(capsys, runs_dir)["done"], open_study("done", str(runs_dir))
    assert row["trials"] == study.counts and row["last_end"] == study.last_end.isoformat(timespec="seconds")
    assert row["best"] == {
        "trial": study.best.name,
        "metric": "accuracy_top1",
        "accuracy_top1": study.best.accuracy_top1,
        "balanced_accuracy": None,
        "macro_f1": None,
        "peak_memory_mib": study.best.peak_memory_mib,
    }
    (runs_dir / "done" / study.best.name / "last.pt").write_bytes(bytes(5_000_000))
    assert listed(capsys, runs_dir)["done"]["size_mb"] == pytest.approx(row["size_mb"] + 5)
    (runs_dir / "done" / study.best.name / "last.pt").unlink()


def test_a_study_that_cannot_be_read_is_a_line(runs_dir, capsys):
    (runs_dir / "done" / "confirm.json").write_text("{")
    try:
        assert main(["list", "--runs-dir", str(runs_dir)]) == 0
        said = capsys.readouterr()
    finally:
        (runs_dir / "done" / "confirm.json").unlink()
    assert "confirm.json is damaged" in said.err and said.err.count("\n") == 1
    assert "begun" in said.out and "\ndone" not in said.out


def test_what_cannot_be_read_is_a_line_and_the_rest_is_listed(runs_dir, capsys):
    (runs_dir / "gone").mkdir()
    (runs_dir / "gone" / "study.json").write_text('{"storage": "nosuchdb://x"}')
    (runs_dir / "torn").mkdir()
    (runs_dir / "torn" / "study.json").write_text("{")
    try:
        assert main(["list", "--runs-dir", str(runs_dir)]) == 0
        said = capsys.readouterr()
    finally:
        for name in ("gone", "torn"):
            (runs_dir / name / "study.json").unlink()
            (runs_dir / name).rmdir()
    assert "done" in said.out and "elsewhere" in said.out
    assert "tuner list: study gone and others of its storage: --storage nosuchdb://x" in said.err
    assert "torn/study.json is damaged" in said.err and said.err.count("\n") == 2


def test_a_folder_without_studies_is_a_mistake(tmp_path, capsys):
    assert main(["list", "--runs-dir", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"tuner list: no studies under {tmp_path}: give --runs-dir\n"
    assert not list(tmp_path.iterdir())
