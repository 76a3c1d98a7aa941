"""What is said of MLflow before a model is made; what is written there: tests/integration/test_finish.py."""

import sqlite3
import uuid
from contextlib import closing
from pathlib import Path

import pytest

from tinytl.errors import ConfigError
from tuner.bucket.copies import copy_at
from tuner.bucket.database import DATABASE, bring_database, send_database
from tuner.finish import model_tracking
from tuner.finish.model_tracking import ModelTracking
from tuner.finish.wish import Wish
from tuner.record.reading import StudyReading
from tuner.tracking.model_run import FinishedModel

MODEL = FinishedModel(folder=Path("model"), about={}, card="", training=Path("finish"))


def study(runs_dir: Path, tracking_uri: str | None) -> StudyReading:
    return StudyReading(name="s", runs_dir=str(runs_dir), settings={"tracking_uri": tracking_uri})


def test_without_mlflow_nothing_is_lacking_and_nothing_is_said(tmp_path, capsys):
    said: list[str] = []
    tracking = ModelTracking(study(tmp_path, "none"), Wish(), said.append)
    assert not tracking.lacks(MODEL)
    tracking.add(MODEL)
    assert said == []


@pytest.mark.parametrize(
    ("begun_with", "given", "message"),
    [
        ("none", None, "study s was begun without MLflow: add --tracking-uri"),
        ("none", "none", "--tracking-uri none has no registry of models: name a server or database"),
        (None, "none", "--tracking-uri none has no registry of models: name a server or database"),
        (
            "none",
            "file:///runs",
            "--tracking-uri file:///runs: MLflow has given up folders of files",
        ),
        (None, None, "--tracking-uri sqlite:///DIR/mlflow.db: there is no file DIR/mlflow.db"),
    ],
)
def test_a_name_needs_a_registry(tmp_path, begun_with, given, message):
    wish = Wish(register="m", tracking_uri=given)
    with pytest.raises(ConfigError) as caught:
        ModelTracking(study(tmp_path, begun_with), wish, lambda line: None)
    assert str(caught.value).replace(str(tmp_path), "DIR").startswith(f"--register m: {message}")


def test_without_a_name_a_missing_mlflow_is_a_line(tmp_path):
    said: list[str] = []
    tracking = ModelTracking(study(tmp_path, None), Wish(), said.append)
    assert not tracking.lacks(MODEL)
    (line,) = said
    assert line.startswith("the model will not be in MLflow: --tracking-uri sqlite:///")


def write_row(folder: Path, row: str) -> None:
    with closing(sqlite3.connect(folder / DATABASE)) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS runs (name TEXT)")
        database.execute("INSERT INTO runs VALUES (?)", [row])


def test_a_study_that_ended_during_the_training_is_in_nobodys_way(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    here = copy_at(f"memory://{uuid.uuid4().hex}/runs", "read")
    elsewhere = copy_at(here.bucket.address, "elsewhere")
    write_row(here.root, "before")
    assert send_database(here)
    opened: list[str] = []
    monkeypatch.setattr(model_tracking, "open_runs", lambda study, uri: opened.append(uri) or object())
    monkeypatch.setattr(model_tracking, "serve_command", lambda uri, model_id: "serve")
    said: list[str] = []
    tracking = ModelTracking(study(here.root, None), Wish(), said.append)

    bring_database(elsewhere)  # while the model is trained
    write_row(elsewhere.root, "another study")
    assert send_database(elsewhere)

    def log(runs, uri, model) -> str:
        write_row(here.root, "model")
        return "m-1"

    monkeypatch.setattr(model_tracking, "log_finished", log)
    tracking.add(MODEL)
    assert said == ["MLflow has it as models:/m-1: serve"] and len(opened) == 2
    bring_database(elsewhere)
    with closing(sqlite3.connect(elsewhere.root / DATABASE)) as database:
        rows = database.execute("SELECT name FROM runs").fetchall()
    assert rows == [("before",), ("another study",), ("model",)]
