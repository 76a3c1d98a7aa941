import json
import shutil

import pytest

from tests.support import mlflow_studies as made
from tests.support.judged_study import BEST, write_judged_study
from tinytl.runs.directory import RunDirectory
from tuner.pictures.mistakes import TABLE, write_mistakes
from tuner.record.reading import open_study

SHEETS = {"mistakes.png", "uncertain.png"}


@pytest.fixture
def reading(tmp_path):
    write_judged_study(tmp_path)
    return open_study(made.NAME, str(tmp_path))


def test_the_best_trial_s_classes_and_pictures_are_written(reading, tmp_path):
    out = tmp_path / "out"
    assert write_mistakes(reading, out, "a title")
    assert {path.name for path in out.iterdir()} == {TABLE, "confusion.png", "reliability.png", *SHEETS}
    table = json.loads((out / TABLE).read_text())
    assert table["columns"] == ["name", "n_images", "precision", "recall", "f1"]
    assert [row[:2] for row in table["data"]] == [["a", 4], ["b", 4]]
    assert table["data"][1][3] == 0.75  # one of four is taken for the other class


def test_without_the_data_set_there_are_no_sheets(reading, tmp_path):
    shutil.rmtree(tmp_path / "pictures")
    assert write_mistakes(reading, tmp_path / "out", "a title")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {TABLE, "confusion.png", "reliability.png"}
    assert json.loads((tmp_path / "out" / TABLE).read_text())["data"][0][0] == "class 0"


def test_a_study_that_kept_nothing_has_none(reading, tmp_path):
    RunDirectory(reading.folder / BEST).val_judgements.unlink()
    assert not write_mistakes(reading, tmp_path / "out", "a title")
    assert not (tmp_path / "out").exists()
