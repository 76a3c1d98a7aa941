import io
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from rich.console import Console

from tests.support import mlflow_studies as made
from tinytl.errors import ConfigError
from tuner.cluster.resources import TrialResources
from tuner.record.writer import StudyRecords
from tuner.stopping import Stopping
from tuner.study import running
from tuner.study.driving import KeptHere
from tuner.study.running import RunningStudy
from tuner.terminal.lines import TrialLines


class EndedSearch:
    """A search that has no trial left; how it ended can be set."""

    gave_up: str | None = None

    def __init__(self, bug: Exception | None = None, unwritten: str | None = None) -> None:
        self.bug, self.unwritten, self.closed = bug, unwritten, 0

    def close(self) -> None:
        self.closed += 1


class Tracking:
    """Keeps whether it was told that the study is unfinished."""

    interrupted: bool | None = None

    def close(self, study: optuna.Study, interrupted: bool) -> None:
        self.interrupted = interrupted


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every call of `look_again`."""
    calls: list[Any] = []
    monkeypatch.setattr(running, "look_again", lambda *args: calls.append(args))
    return calls


def cut_off_study(tmp_path: Path, search: Any, **fields: Any) -> RunningStudy:
    """A study whose one trial is still RUNNING in the record, as after a kill."""
    prepared = made.prepared_study(tmp_path)
    study = made.new_study(prepared)
    made.start(study, 0)
    records = StudyRecords(study._storage, study.study_name)
    parts: dict[str, Any] = dict(
        prepared=prepared,
        kept=KeptHere(prepared.folder),
        study=study,
        records=records,
        tracking=Tracking(),
        resources=TrialResources(workers=1, cpus_per_trial=1.0),
        stopping=Stopping(),
        search=search,
        lines=TrialLines(Console(file=io.StringIO()), 0, 6),
        remaining=0,
    )
    return RunningStudy(**(parts | fields))


def states(study: RunningStudy) -> list[TrialState]:
    return [trial.state for trial in study.study.get_trials() if trial.state != TrialState.WAITING]


def test_a_study_that_was_trained_is_looked_at_again_and_its_end_recorded(
    tmp_path: Path, looked: list[Any]
) -> None:
    study = cut_off_study(tmp_path, EndedSearch())
    study.run()
    assert len(looked) == 1 and states(study) == [TrialState.FAIL]
    assert study.tracking is not None and study.tracking.interrupted is True, "5 of 6 trials are missing"


def test_a_bug_of_the_search_is_raised_with_the_way_to_resume_after_the_end_is_recorded(
    tmp_path: Path, looked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    bug = KeyError("what the search stumbled over")
    study = cut_off_study(tmp_path, EndedSearch(bug=bug))
    monkeypatch.setattr(running, "look_again", lambda *args: 1 / 0)  # Ray stumbles over how it ended
    with pytest.raises(KeyError) as raised:
        study.run()
    assert raised.value is bug and "launch.py --name mine" in raised.value.__notes__[0]
    assert states(study) == [TrialState.FAIL]


def test_an_error_that_is_no_ones_is_raised_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = cut_off_study(tmp_path, EndedSearch())
    monkeypatch.setattr(running, "look_again", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        study.run()
    assert states(study) == [TrialState.FAIL]


def test_a_record_that_was_refused_is_one_line_and_nothing_more_is_trained(
    tmp_path: Path, looked: list[Any]
) -> None:
    study = cut_off_study(tmp_path, EndedSearch(unwritten="its record cannot be written (No space left)"))
    with pytest.raises(ConfigError, match=r"No space left.*What was trained is kept: .*--resume"):
        study.run()
    assert looked == [] and "\n" not in study.search.unwritten


@pytest.mark.parametrize("raised", [KeyboardInterrupt, running.UnwrittenError])
def test_a_second_ctrl_c_and_a_failed_record_end_the_looks_quietly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: type[BaseException]
) -> None:
    def interrupted(*args: Any) -> None:
        raise raised

    study = cut_off_study(tmp_path, EndedSearch())
    monkeypatch.setattr(running, "look_again", interrupted)
    study.run()
    assert states(study) == [TrialState.FAIL]


def test_a_study_that_has_to_stop_is_not_looked_at_again(tmp_path: Path, looked: list[Any]) -> None:
    stopping = Stopping()
    stopping.because("the time is spent")
    study = cut_off_study(tmp_path, EndedSearch(), stopping=stopping)
    study.run()
    assert looked == [] and states(study) == [TrialState.FAIL]
