"""The folder of a model in a bucket: whose it is; models that were really made: test_finish.py."""

import json
import uuid

import pytest

from tinytl.errors import ConfigError
from tinytl.runs.exported import ABOUT_FILE
from tuner.bucket import claims
from tuner.bucket.copies import READ, copy_at
from tuner.bucket.whole_folders import is_sent, send_whole, unmark
from tuner.finish.model_folder import MODEL, is_made
from tuner.record import schema
from tuner.record.claim import finish_claimed
from tuner.record.reading import StudyReading


@pytest.fixture
def copy(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return copy_at(f"memory://{uuid.uuid4().hex}/runs", READ)


def free() -> None:
    """The claim is not lost."""


def study_in(copy, study_id="now"):
    return StudyReading(name="s", runs_dir=str(copy.root), attributes={schema.STUDY_ID: study_id})


def write(study, text):
    folder = study.folder / MODEL
    folder.mkdir(parents=True)
    about = {schema.STUDY_ID: study.attributes[schema.STUDY_ID], "made": text}
    (folder / ABOUT_FILE).write_text(json.dumps(about))
    return folder


def test_a_model_that_was_not_sent_is_sent_if_it_is_of_this_study(copy):
    folder = write(study_in(copy), "here")
    assert is_made(study_in(copy), free) and is_sent(folder / ABOUT_FILE)


def test_a_model_is_not_sent_once_another_process_has_taken_over(copy, monkeypatch):
    folder = write(study_in(copy), "here")
    taken_over = f"^--runs-dir {copy.bucket.address}: .*: another process has taken over"
    with (
        pytest.raises(ConfigError, match=taken_over),
        finish_claimed(study_in(copy).folder, "s") as check_claim,
    ):
        copy.bucket.write("s/finish.claim/000002", b"{}")
        now_s = claims._clock_s()
        monkeypatch.setattr(claims, "_clock_s", lambda: now_s + claims.GONE_AFTER_S)  # the machine slept
        is_made(study_in(copy), check_claim)
    assert not is_sent(folder / ABOUT_FILE)


@pytest.mark.parametrize("sent", [False, True])
def test_a_model_of_a_study_that_had_the_name_before_is_not_sent_into_this_one(copy, sent):
    folder = write(study_in(copy, "before"), "of the study before")
    if sent:  # and removed from the bucket by another machine
        send_whole(folder, ABOUT_FILE)
        copy.bucket.remove(copy.bucket.versions("s"))
    assert not is_made(study_in(copy), free) and not folder.exists()
    assert copy.bucket.versions("s") == {}


def test_a_model_that_another_machine_is_replacing_is_not_sent_again(copy):
    elsewhere = copy_at(copy.bucket.address, "elsewhere")
    send_whole(write(study_in(elsewhere), "old"), ABOUT_FILE)
    assert is_made(study_in(copy), free)
    unmark(elsewhere.root / "s" / MODEL, ABOUT_FILE)  # killed here
    assert not is_made(study_in(copy), free) and not (copy.root / "s" / MODEL).exists()
    assert is_made(study_in(elsewhere), free) and is_made(study_in(copy), free), (
        "what was set aside there came back"
    )
