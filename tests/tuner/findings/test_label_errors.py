import numpy as np
import pytest

from tests.support import mlflow_studies as made
from tests.support.judged_study import BEST, OTHER, WRONG, write_judged_study
from tinytl.errors import ConfigError
from tinytl.runs.directory import RunDirectory
from tinytl.training.judgements import Judgements
from tuner.findings import label_errors
from tuner.findings.label_errors import best_judgements, likely_label_errors, mean_probabilities
from tuner.findings.study_pictures import study_pictures
from tuner.record.reading import open_study


def judged(probabilities, labels) -> Judgements:
    """What is kept of a network that gives these probabilities, (N, K)."""
    rows = np.arange(len(labels))
    predicted = probabilities.argmax(1)
    return Judgements(
        labels=np.asarray(labels),
        predicted=predicted,
        confidence=probabilities[rows, predicted].astype(np.float32),
        losses=-np.log(probabilities[rows, labels]).astype(np.float32),
    )


@pytest.mark.parametrize("n_classes", [2, 3, 7])
def test_what_is_kept_gives_the_label_and_the_predicted_class_back(n_classes):
    rng = np.random.default_rng(n_classes)
    labels = rng.integers(0, n_classes, 50)
    whole = [rng.dirichlet(np.ones(n_classes), 50) for _ in range(3)]
    for one in whole:
        found = mean_probabilities([judged(one, labels)], n_classes)
        rows = np.arange(50)
        assert found.sum(1) == pytest.approx(1, abs=1e-5) and (found > -1e-6).all()
        assert found[rows, labels] == pytest.approx(one[rows, labels], abs=1e-5)
        assert found.max(1) == pytest.approx(one.max(1), abs=1e-5)
    mean = mean_probabilities([judged(one, labels) for one in whole], n_classes)
    each = [mean_probabilities([judged(one, labels)], n_classes) for one in whole]
    assert mean == pytest.approx(np.mean(each, axis=0), abs=1e-6)
    if n_classes == 2:  # then nothing is shared between classes that are not kept
        assert mean == pytest.approx(np.mean(whole, axis=0), abs=1e-5)


@pytest.fixture
def reading(tmp_path):
    write_judged_study(tmp_path)
    return open_study(made.NAME, str(tmp_path))


def test_the_best_trials_that_judged_the_same_images_count(reading):
    assert len(best_judgements(reading)) == 2 and len(best_judgements(reading, 1)) == 1
    RunDirectory(reading.folder / OTHER).val_judgements.write_bytes(b"damaged")
    assert len(best_judgements(reading)) == 1
    RunDirectory(reading.folder / BEST).val_judgements.unlink()
    assert best_judgements(reading) == []


def test_a_wrong_label_is_found_with_its_file(reading, monkeypatch):
    pictures = study_pictures(reading)
    found = likely_label_errors(best_judgements(reading), pictures.parts["val"], pictures.classes)
    assert [(one.file, one.label, one.compared_with) for one in found] == [("val/b/1.png", "b", "a")]
    confidence = float(best_judgements(reading)[0].confidence[WRONG])
    assert found[0].number == pytest.approx(confidence / (1 - confidence), rel=1e-4)
    monkeypatch.setattr(label_errors, "MOST_PROBABILITIES", 15)
    with pytest.raises(ConfigError, match="8 images of 2 classes are too many"):
        likely_label_errors(best_judgements(reading), pictures.parts["val"], pictures.classes)
