import json
import shutil

import numpy as np
import pytest

from tests.support import mlflow_studies as made
from tests.support.judged_study import BEST, OTHER, UNJUDGED, judgements_of_one_error, write_judged_study
from tinytl.errors import ConfigError
from tinytl.runs.directory import RunDirectory
from tuner.findings.study_pictures import known_classes, study_pictures
from tuner.record import schema
from tuner.record.reading import open_study


@pytest.fixture
def study(tmp_path):
    return write_judged_study(tmp_path)


def read(tmp_path):
    return open_study(made.NAME, str(tmp_path))


def test_the_pictures_are_those_that_were_judged(study, tmp_path):
    found = study_pictures(read(tmp_path))
    assert found.classes == ("a", "b") and set(found.parts) == {"train", "val"}
    judged = found.judged(np.array([0] * 4 + [1] * 4))
    assert [judged.file(row) for row in (0, 7)] == ["val/a/0.png", "val/b/3.png"]
    with pytest.raises(ConfigError, match="have changed since they were judged"):
        found.judged(np.array([0] * 5 + [1] * 3))


def test_pictures_that_are_gone_or_others_are_refused(study, tmp_path):
    picture = tmp_path / "pictures/train/a/0.png"
    shutil.copy(tmp_path / "pictures/train/a/1.png", picture)
    with pytest.raises(ConfigError, match=r"the pictures have changed since the study \(digest .* now\)"):
        study_pictures(read(tmp_path))
    study.set_user_attr(schema.IMAGES_DIGEST, None)  # an older study does not know
    assert study_pictures(read(tmp_path)).classes == ("a", "b")
    shutil.rmtree(tmp_path / "pictures")
    with pytest.raises(ConfigError, match="pictures: no such folder"):
        study_pictures(read(tmp_path))
    for folder in (tmp_path / made.NAME).glob("*-*"):
        shutil.rmtree(folder)
    with pytest.raises(ConfigError, match="no folder of a complete trial holds"):
        study_pictures(read(tmp_path))


def test_pictures_left_out_as_broken_are_left_out_here_and_others_are_refused(study, tmp_path):
    (tmp_path / "pictures/val/a/9.png").write_bytes(b"no picture")
    for name in (BEST, OTHER, UNJUDGED):
        file = RunDirectory(tmp_path / made.NAME / name).config_file
        file.write_text(file.read_text().replace("skip_broken: false", "skip_broken: true"))
    found = study_pictures(read(tmp_path)).judged(np.array([0] * 4 + [1] * 4))
    assert [found.file(row) for row in range(4)] == [f"val/a/{number}.png" for number in range(4)]
    (tmp_path / "pictures/val/a/0.png").rename(tmp_path / "pictures/val/a/7.png")  # the same labels
    with pytest.raises(ConfigError, match="the pictures have changed since the study"):
        study_pictures(read(tmp_path))


def test_without_the_data_classes_have_the_names_that_were_kept_or_numbers(study, tmp_path):
    judged = judgements_of_one_error([0] * 4 + [1] * 4)
    assert known_classes(read(tmp_path), judged) == ("class 0", "class 1")
    file = tmp_path / made.NAME / "classes.json"
    file.write_text(json.dumps({"names": ["a", "b"], "images": {"val": [4, 4]}}))
    assert known_classes(read(tmp_path), judged) == ("a", "b")
    file.write_text("{")
    assert known_classes(read(tmp_path), judged) == ("class 0", "class 1")
