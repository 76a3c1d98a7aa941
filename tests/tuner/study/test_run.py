import pytest

from tuner.record.reading import StudyReading
from tuner.stopping import TIME_SPENT
from tuner.study.run import StudyOutcome


@pytest.mark.parametrize(
    ("trials", "interrupted", "exit_code"),
    [
        ({"complete": 3, "failed": 1}, False, 0),
        ({"complete": 0, "failed": 2}, False, 1),
        ({"complete": 0, "failed": 2, "infeasible": 5}, False, 1),
        ({"complete": 0, "failed": 1, "pruned": 1}, False, 0),
        ({}, False, 0),
        ({"complete": 1}, True, 130),
        ({"failed": 1}, True, 130),
    ],
)
def test_exit_codes(trials, interrupted, exit_code):
    study = StudyReading(name="s", requested=4, states=trials)
    assert StudyOutcome(study, interrupted, None, False).exit_code == exit_code


@pytest.mark.parametrize(
    ("note", "gave_up", "exit_code"),
    [(None, False, 0), (TIME_SPENT, False, 0), ("10 trials in a row ran out of memory", True, 1)],
)
def test_a_search_that_could_train_nothing_is_no_success(note, gave_up, exit_code):
    study = StudyReading(name="s", requested=4, states={"infeasible": 10})
    assert StudyOutcome(study, False, note, gave_up).exit_code == exit_code
