"""What names and describes a study's runs. MLflow's part is in test_sync.py, with a real database."""

import dataclasses
import json
from types import SimpleNamespace

import pytest
from mlflow.entities import RunInputs

from tests.support import mlflow_studies as made
from tinytl.errors import ConfigError
from tuner.record import schema
from tuner.record.reading import open_study
from tuner.record.sessions import begin_session
from tuner.tracking import runs as module
from tuner.tracking.runs import StudyLabels, changed, digests_of, metrics_of, study_labels

URI = "http://127.0.0.1:5000"


@pytest.fixture
def labels(tmp_path) -> StudyLabels:
    """Of a study that one driver began."""
    made.new_study(made.prepared_study(tmp_path))
    return study_labels(open_study(made.NAME, str(tmp_path)), URI)


def later(labels: StudyLabels, *commands: str) -> StudyLabels:
    """Makes drivers with these commands resume the study."""
    first = labels.sessions[0]
    sessions = [first, *(dataclasses.replace(first, command=command) for command in commands)]
    return dataclasses.replace(labels, sessions=sessions)


def test_a_row_is_metrics_at_its_epoch_and_its_own_time_without_what_is_no_number():
    row = made.row(1, 2) | {"val_loss": float("nan"), "images_per_s": float("inf"), "mine": 1.0}
    metrics = metrics_of(row, 5)
    assert {metric.key for metric in metrics} == {
        "epoch",
        "accuracy_top1",
        "loss",
        "lr.classifier",
        "peak_memory_mib",
        "process_peak_mib",
        "epoch_time_s",
    }
    assert {(metric.timestamp, metric.step) for metric in metrics} == {(row["timestamp_ms"], 2)}
    del row["timestamp_ms"]
    assert {metric.timestamp for metric in metrics_of(row, 5)} == {5}


def test_a_study_is_told_from_all_others_by_its_id_and_an_older_one_by_its_name(labels):
    assert labels.own_tags == {"study": made.NAME, "space": "separate_lr", schema.STUDY_ID: labels.study_id}
    identity = {key: value for key, value in labels.identity.items() if key != schema.STUDY_ID}
    older = dataclasses.replace(labels, identity=identity)
    assert older.study_id is None and older.own_tags == {"study": made.NAME, "space": "separate_lr"}


def test_the_command_is_the_first_drivers_and_of_an_older_study_that_of_its_file(labels):
    assert later(labels, "python launch.py --resume").command == labels.sessions[0].command
    settings = {"command": ["launch.py", "--space", "my space.yaml"]}
    older = dataclasses.replace(labels, sessions=[], settings=settings)
    assert older.command == "python launch.py --space 'my space.yaml'"


def test_the_last_commands_that_went_on_stand_once_each(labels):
    first = labels.sessions[0].command
    assert labels.later_commands == [] and "then" not in labels.parent_tags
    went_on = later(labels, "a", first, "b", "a", "c", "d")
    assert went_on.later_commands == ["b", "c", "d"]
    assert went_on.parent_tags["then"] == "b\nc\nd"


def test_the_parents_tags_are_text_and_say_with_what_it_was_last_run(labels):
    tags = labels.parent_tags
    assert tags.items() >= {"kind": "study", "trials": "6", "sampler": "tpe"}.items()
    assert tags.items() >= labels.sessions[-1].tags.items() and "python" in tags["command"]
    assert all(isinstance(value, str) for value in tags.values())


def test_artifacts_lie_beside_a_database_and_where_a_server_says(tmp_path, labels):
    assert labels.artifacts is None
    beside = study_labels(open_study(made.NAME, str(tmp_path)), f"sqlite:///{tmp_path}/mlflow.db").artifacts
    assert beside is not None and str(tmp_path) in beside


@pytest.mark.parametrize("gone", [schema.DATASET, schema.SPACE])
def test_a_study_that_another_program_made_has_no_labels(gone, tmp_path):
    made.new_study(made.prepared_study(tmp_path))
    study = open_study(made.NAME, str(tmp_path))
    attributes = {key: value for key, value in study.attributes.items() if key != gone}
    with pytest.raises(ConfigError, match=f"study {made.NAME} .*{gone}"):
        study_labels(dataclasses.replace(study, attributes=attributes), URI)


def test_only_tags_that_differ_are_written():
    assert changed({"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "9", "d": "4"}) == {"b": "2", "c": "3"}


def test_a_sessions_images_are_an_input_with_their_counts(tmp_path):
    session = begin_session(made.prepared_study(tmp_path), 0)
    taken = module._dataset_input(session)
    assert (taken.dataset.name, taken.dataset.digest) == ("digits", session.images.digest)
    assert json.loads(taken.dataset.profile) == {"classes": 2, "train": 8, "val": 4}


def test_a_run_without_inputs_has_no_digests(tmp_path):
    taken = module._dataset_input(begin_session(made.prepared_study(tmp_path), 0))
    assert digests_of(SimpleNamespace(inputs=None)) == set()
    assert digests_of(SimpleNamespace(inputs=RunInputs([taken]))) == {taken.dataset.digest}


@pytest.mark.parametrize(
    ("value", "text"), [((0.5, 0.25), "[0.5, 0.25]"), ([1], "[1]"), ("none", "none"), (None, "None")]
)
def test_a_parameter_is_written_as_a_file_has_it(value, text):
    assert module._text(value) == text
