"""The command; tests/tuner/record/test_journal_repair.py has what becomes of each line."""

import optuna
import pytest

from tuner.__main__ import main
from tuner.record.claim import folder_claimed
from tuner.record.journal import JOURNAL
from tuner.record.storage import load_study, open_storage


@pytest.fixture
def runs_dir(tmp_path):
    study = optuna.create_study(study_name="mine", storage=open_storage(None, str(tmp_path)))
    for value in (0.25, 0.5):
        study.add_trial(optuna.create_trial(value=value))
    return tmp_path


def damage(runs_dir):
    lines = (runs_dir / JOURNAL).read_bytes().splitlines(keepends=True)
    (runs_dir / JOURNAL).write_bytes(b"".join([*lines[:-1], b"no record\n", lines[-1]]))


def test_it_keeps_what_is_whole_and_says_what_is_not(runs_dir, capsys):
    damage(runs_dir)
    assert main(["status", "mine", "--runs-dir", str(runs_dir)]) == 2
    assert "python -m tuner repair --runs-dir" in capsys.readouterr().err
    assert main(["repair", "--runs-dir", str(runs_dir)]) == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first == "line 3: it said something of a study or a trial, which is left out"
    assert last.startswith(f"{runs_dir / JOURNAL}: 3 whole lines are kept; as it was: ")
    assert [trial.value for trial in load_study("mine", str(runs_dir)).trials] == [0.25, 0.5]


def test_a_journal_that_is_whole_is_left_alone(runs_dir, capsys):
    before = (runs_dir / JOURNAL).read_bytes()
    assert main(["repair", "--runs-dir", str(runs_dir)]) == 0
    assert "lines are whole" in capsys.readouterr().out
    assert (runs_dir / JOURNAL).read_bytes() == before


def test_nothing_is_repaired_under_a_study_that_runs(runs_dir, capsys):
    damage(runs_dir)
    with folder_claimed(runs_dir / "mine", "mine"):
        assert main(["repair", "--runs-dir", str(runs_dir)]) == 2
    assert capsys.readouterr().err == "tuner repair: study mine runs: stop it first\n"
    assert not list(runs_dir.glob("*.damaged*"))


def test_a_folder_without_studies_is_named(tmp_path, capsys):
    assert main(["repair", "--runs-dir", str(tmp_path)]) == 2
    assert "no studies under" in capsys.readouterr().err
