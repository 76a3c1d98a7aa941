"""The folder of a model in a bucket: whose it is; models that were really made: test_finish.py."""

import json
import uuid

import pytest

from tinytl.runs.exported import ABOUT_FILE
from tuner.bucket.copies import READ, copy_at, is_sent, send_whole, unmark
from tuner.finish.model_folder import MODEL, is_made
from tuner.record import schema
from tuner.record.reading import StudyReading


@pytest.fixture
def copy(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return copy_at(f"memory://{uuid.uuid4().hex}/runs", READ)


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
    assert is_made(study_in(copy)) and is_sent(folder / ABOUT_FILE)


@pytest.mark.parametrize("sent", [False, True])
def test_a_model_of_a_study_that_had_the_name_before_is_not_sent_into_this_one(copy, sent):
    folder = write(study_in(copy, "before"), "of the study before")
    if sent:  # and removed from the bucket by another machine
        send_whole(folder, ABOUT_FILE)
        copy.bucket.remove(copy.bucket.versions("s"))
    assert not is_made(study_in(copy)) and not folder.exists()
    assert copy.bucket.versions("s") == {}


def test_a_model_that_another_machine_is_replacing_is_not_sent_again(copy):
    elsewhere = copy_at(copy.bucket.address, "elsewhere")
    send_whole(write(study_in(elsewhere), "old"), ABOUT_FILE)
    assert is_made(study_in(copy))
    unmark(elsewhere.root / "s" / MODEL, ABOUT_FILE)  # killed here
    assert not is_made(study_in(copy)) and not (copy.root / "s" / MODEL).exists()
    assert is_made(study_in(elsewhere)) and is_made(study_in(copy)), "what was set aside there came back"
