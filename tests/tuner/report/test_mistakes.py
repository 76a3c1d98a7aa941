import numpy as np
import pytest

from tests.support import mlflow_studies as made
from tests.support.judged_study import BEST, UNJUDGED, write_judged_study
from tests.tinytl.training.test_judgements import judgements
from tinytl.runs.directory import RunDirectory
from tinytl.runs.judgements_file import save_judgements
from tinytl.training.mistakes import MOST_IN_MATRIX
from tuner.findings.study_pictures import study_pictures
from tuner.record.reading import open_study
from tuner.report.mistakes import mistakes_section
from tuner.report.thumbnails import Thumbnails


@pytest.fixture
def reading(tmp_path):
    write_judged_study(tmp_path)
    return open_study(made.NAME, str(tmp_path))


def section(reading, trial=BEST, *, pictures=None, why_none="it is gone"):
    parts = {} if pictures is None else pictures.parts
    return mistakes_section(reading, reading.trial(trial), pictures, why_none, Thumbnails(parts))


def test_classes_confusion_and_pictures_of_a_trial(reading):
    found = section(reading, pictures=study_pictures(reading))
    assert found["notes"] == []
    assert found["found"].startswith("accuracy 0.875, balanced accuracy 0.875")
    assert [row["name"] for row in found["classes"]] == ["b", "a"]  # the lowest F1 first
    assert found["classes"][0]["figures"] == ["4", "1.000", "0.750", "0.857"]
    assert found["pairs"] == ["b taken for a: 1 of 4"]
    cells = [[(cell["count"], cell["percent"]) for cell in row["cells"]] for row in found["matrix"]["rows"]]
    assert cells == [[(4, 100), (0, 0)], [(1, 25), (3, 75)]]
    worst, uncertain = found["galleries"]
    assert (worst["title"], len(worst["items"]), len(uncertain["items"])) == ("Surest and wrong", 1, 8)
    one = worst["items"][0]
    assert one["said"] == "a (0.814)" and one["label"] == "not b (0.186)" and one["wrong"]
    assert one["file"] == "val/b/1.png" and one["picture"]["src"].startswith("data:image/jpeg;base64,")
    assert uncertain["items"][0]["label"] == "which is its label"


def test_a_reliability_picture_has_a_point_for_each_bin(reading):
    found = section(reading)["reliability"]
    assert [point["n_images"] for point in found["points"]] == [2, 2, 1, 2, 1]
    assert [point["share_of_most"] for point in found["points"]] == [1.0, 1.0, 0.5, 1.0, 0.5]
    assert found["words"] == "not sure enough"


def test_without_pictures_it_says_why_and_has_its_tables(reading, tmp_path):
    found = section(reading, why_none="it is\ngone")
    assert found["notes"] == [r"Without pictures: it is\ngone"]
    assert found["galleries"] == [] and len(found["classes"]) == 2
    pictures = study_pictures(reading)
    other = judgements([0, 1, 1], [0, 1, 0], 0.9)
    save_judgements(other, RunDirectory(reading.folder / BEST).val_judgements)
    found = section(reading, pictures=pictures)
    assert "have changed since they were judged" in found["notes"][0] and found["galleries"] == []


@pytest.mark.parametrize(
    ("trial", "why"),
    [
        (
            UNJUDGED,
            f"{UNJUDGED} has no val_judgements.npz: an older version trained it, or the file is gone.",
        ),
        (made.trial_name(1), "is pruned: only complete trials keep what they said of each picture."),
    ],
)
def test_a_trial_that_kept_nothing_says_so(reading, trial, why):
    found = section(reading, trial)
    assert found["found"] is None and len(found["notes"]) == 1 and why in found["notes"][0]


def test_of_many_classes_the_matrix_has_the_most_confused(reading):
    labels = np.repeat(np.arange(200), 2)
    predicted = labels.copy()
    predicted[::8] = labels[::8] + 1
    save_judgements(judgements(labels, predicted), RunDirectory(reading.folder / BEST).val_judgements)
    found = section(reading)
    assert len(found["classes"]) == 200 and len(found["matrix"]["rows"]) == MOST_IN_MATRIX
    assert f"The {MOST_IN_MATRIX} of 200 classes that are confused most." in found["matrix"]["note"]
    assert len(found["pairs"]) == 12
