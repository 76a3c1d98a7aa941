import json
from dataclasses import replace

import optuna
import pytest

from tests.tuner.findings.test_importance import make_study, of_lr, of_method
from tuner.findings import importance
from tuner.findings.importance import MIN_TRIALS, MOST_TRIALS, parameter_importance
from tuner.findings.kept_importance import FILE, known_importance


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    """Shares are rough here, and found in a tenth of the time: what is kept is what was found."""
    for name in ("TREES", "TREES_OF_RESAMPLES", "RESAMPLES"):
        monkeypatch.setattr(importance, name, 2)


@pytest.fixture
def study(tmp_path):
    """Returns a study of so many trials, whose folder is there."""

    def made(count=20):
        reading = replace(make_study(count, of_lr, of_method), name="study", runs_dir=str(tmp_path))
        reading.folder.mkdir(exist_ok=True)
        return reading

    return made


@pytest.fixture
def fits(monkeypatch):
    """Counts the calls of Optuna's fit, which is real."""
    calls, fit = [], optuna.importance.get_param_importances
    monkeypatch.setattr(
        optuna.importance, "get_param_importances", lambda *a, **k: calls.append(1) or fit(*a, **k)
    )
    return calls


def test_what_decides_is_found_out_once_and_is_the_same(study, fits):
    first = known_importance(study())
    n_fits = len(fits)
    assert n_fits > 0 and first == parameter_importance(study())
    fits.clear()
    assert known_importance(study()) == first and not fits


def test_another_trial_is_judged_anew(study, fits):
    known_importance(study(20))
    fits.clear()
    more = known_importance(study(21))
    assert fits and more == parameter_importance(study(21))


def test_a_damaged_file_is_written_anew(study):
    first = known_importance(study())
    path = study().folder / FILE
    for content in ("", "{", "[]", '{"of": 3}', '{"of": "OF", "importance": {"x": 1}}'):
        path.write_text(content.replace("OF", json.loads(path.read_text())["of"]))
        assert known_importance(study()) == first
        assert json.loads(path.read_text())["importance"].keys() == first.keys()


def test_a_folder_that_is_not_there_is_not_made(study):
    reading = study()
    reading.folder.rmdir()
    assert known_importance(reading) == parameter_importance(reading)
    assert not reading.folder.exists()


def test_a_folder_that_cannot_be_written_is_no_obstacle(study):
    reading = study()
    (reading.folder / f"{FILE}.part").mkdir()  # root may write anywhere else
    assert known_importance(reading) == parameter_importance(reading)
    assert not (reading.folder / FILE).exists()


def test_too_few_trials_leave_no_file(study):
    reading = study(MIN_TRIALS - 1)
    assert known_importance(reading) is None and not (reading.folder / FILE).exists()


def test_of_many_trials_those_that_are_not_looked_at_change_nothing(study):
    lots = [known_importance(study(MOST_TRIALS * 20 + more)) for more in (0, 1)]
    path = study(1).folder / FILE
    before = path.read_text()
    assert lots[0] == lots[1] and known_importance(study(MOST_TRIALS * 20 + 1)) == lots[0]
    assert path.read_text() == before
