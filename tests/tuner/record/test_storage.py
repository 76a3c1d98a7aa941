import gc
import json

import optuna
import pytest

from tinytl.errors import ConfigError
from tuner.config import STUDY_FILE, StudyConfig
from tuner.record.storage import load_study, open_storage, study_exists


def test_looking_for_a_study_makes_no_file(tmp_path):
    config = StudyConfig(runs_dir=str(tmp_path / "runs"))
    assert not study_exists(config, "mine")
    assert not (tmp_path / "runs").exists()


def test_a_study_is_found_in_the_journal(tmp_path):
    runs_dir = str(tmp_path / "runs")
    optuna.create_study(study_name="mine", storage=open_storage(None, runs_dir))
    assert study_exists(StudyConfig(runs_dir=runs_dir), "mine")
    assert load_study("mine", runs_dir).study_name == "mine"
    with pytest.raises(ConfigError, match=r"no study other under .*: there are mine"):
        load_study("other", runs_dir)


def test_status_finds_the_database_that_the_study_names(tmp_path):
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    optuna.create_study(study_name="mine", storage=open_storage(url, str(tmp_path)))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / STUDY_FILE).write_text(json.dumps({"storage": url}))
    assert load_study("mine", str(tmp_path)).study_name == "mine"
    assert not (tmp_path / "optuna.journal").exists()


def test_no_studies_at_all_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match="no studies under"):
        load_study("mine", str(tmp_path))


def test_half_a_line_at_the_end_of_the_journal_is_replaced_and_nothing_else(tmp_path):
    """What a full disk leaves: Optuna's own backend refuses the file once anything is appended."""
    runs_dir = str(tmp_path)
    study = optuna.create_study(study_name="mine", storage=open_storage(None, runs_dir))
    study.add_trial(optuna.trial.create_trial(value=0.5))
    journal = tmp_path / "optuna.journal"
    whole = journal.read_bytes()
    with journal.open("ab") as file:
        file.write(b'{"op_code":8,"worker_id":"half a')
    again = load_study("mine", runs_dir)
    again.add_trial(optuna.trial.create_trial(value=0.75))
    assert [trial.value for trial in load_study("mine", runs_dir).trials] == [0.5, 0.75]
    assert journal.read_bytes().startswith(whole) and b"half a" not in journal.read_bytes()


def test_a_database_that_is_not_there_is_not_made_by_looking(tmp_path):
    url = f"sqlite:///{tmp_path / 'gone.db'}"
    with pytest.raises(ConfigError, match=r"--storage .*gone.db: no such file"):
        load_study("mine", str(tmp_path), url)
    assert not (tmp_path / "gone.db").exists()


def test_who_drops_a_storage_closes_its_connections(tmp_path):
    storage = open_storage(f"sqlite:///{tmp_path}/studies.db", "")
    engine, pool = storage.engine, storage.engine.pool
    assert storage.get_all_studies() == [] and engine.pool is pool
    del storage
    gc.collect()
    assert engine.pool is not pool, "a pool is replaced as its connections are closed"
