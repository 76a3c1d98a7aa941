import optuna
import pytest
from optuna.trial import TrialState

from tuner import results
from tuner.results import StudyStatus, read_status
from tuner.study import StudyOutcome, end_cut_off_trials


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
    status = StudyStatus("s", 4, dict.fromkeys(results.STATES, 0) | trials, [])
    assert StudyOutcome(status, [], interrupted, None).exit_code == exit_code


def test_cut_off_trials_are_ended_and_asked_for_again_under_their_name():
    study = optuna.create_study(directions=["maximize", "minimize"])
    whole, cut, unnamed = study.ask(), study.ask(), study.ask()
    for index, trial in enumerate((whole, cut)):
        trial.suggest_float("base_lr", 1e-4, 1e-2)
        trial.set_user_attr("name", f"s-{index:03d}")
    whole.set_user_attr("peak_memory_mib", 1.0)
    whole.set_user_attr("epoch_time_s", 1.0)
    study.tell(whole, [0.5, 1.0])
    assert end_cut_off_trials(study) == 2
    assert end_cut_off_trials(study) == 0
    states = [results.state_of(trial) for trial in study.trials]
    assert states == ["complete", "interrupted", "interrupted", "waiting"]
    assert read_status(study).trials == dict.fromkeys(results.STATES, 0) | {"complete": 1}
    assert study.trials[unnamed.number].state == TrialState.FAIL
    again = study.ask()
    assert again.user_attrs[results.AGAIN] == "s-001"
    assert again.suggest_float("base_lr", 1e-4, 1e-2) == cut.params["base_lr"]
