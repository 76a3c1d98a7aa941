import json
from datetime import datetime

import pytest

from tests.support import mlflow_studies as made
from tinytl.errors import ConfigError
from tuner.record import schema
from tuner.record.claim import folder_claimed
from tuner.record.storage import load_study
from tuner.study.listing import list_studies


@pytest.fixture
def prepared(tmp_path):
    """A study of six trials, of which five count, in a journal."""
    prepared = made.prepared_study(tmp_path)
    made.every_kind(prepared)
    return prepared


def test_only_trials_that_count_are_counted_and_it_began_with_its_first_driver(prepared, tmp_path):
    studies, unread = list_studies(str(tmp_path))
    (study,) = studies
    assert unread == []
    assert (study.study, study.state, study.ended, study.requested) == (made.NAME, "unfinished", 5, 6)
    assert study.began == datetime.fromtimestamp(made.BEGAN_MS / 1000)
    assert study.to_json()["began"] == study.began.isoformat(timespec="seconds")


def test_its_state_is_that_of_its_driver_before_that_of_its_trials(prepared, tmp_path):
    load_study(made.NAME, str(tmp_path)).set_user_attr(schema.REQUESTED, 5)
    assert list_studies(str(tmp_path))[0][0].state == "finished"
    with folder_claimed(prepared.folder, made.NAME):
        assert list_studies(str(tmp_path))[0][0].state == "running"


def test_a_study_without_drivers_and_trials_has_no_date(tmp_path):
    study = made.new_study(made.prepared_study(tmp_path))
    study.set_user_attr(schema.SESSIONS, [])
    assert list_studies(str(tmp_path))[0][0].to_json() == {
        "study": made.NAME,
        "state": "unfinished",
        "ended": 0,
        "requested": 6,
        "trials": {"complete": 0, "pruned": 0, "failed": 0, "infeasible": 0, "running": 0},
        "best": None,
        "began": None,
        "last_end": None,
        "size_mb": 0.0,
    }


def test_a_storage_that_is_asked_for_must_answer_and_one_that_a_folder_names_need_not(prepared, tmp_path):
    with pytest.raises(ConfigError, match="nosuchdb://x"):
        list_studies(str(tmp_path), "nosuchdb://x")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "study.json").write_text(json.dumps({"storage": "nosuchdb://x"}))
    studies, unread = list_studies(str(tmp_path))
    assert [study.study for study in studies] == [made.NAME]
    assert len(unread) == 1 and "other" in unread[0] and "nosuchdb://x" in unread[0]


def test_no_studies_at_all_are_a_mistake_and_nothing_is_made(tmp_path):
    with pytest.raises(ConfigError, match=str(tmp_path)):
        list_studies(str(tmp_path))
    assert not list(tmp_path.iterdir())
