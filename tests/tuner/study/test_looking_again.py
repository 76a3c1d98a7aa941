import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.support import mlflow_studies as made
from tests.tuner.findings.test_sureness import study_of, trial
from tinytl.errors import ConfigError
from tuner.cluster.resources import TrialResources
from tuner.record.reading import StudyReading
from tuner.stopping import Stopping
from tuner.study import looking_again
from tuner.terminal.lines import TrialLines

LOOKS = ("race", "train_with_seeds", "read_test_images", "measure_slowdowns")


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    """The looks that were taken, in order, each with the trials that it was given."""
    calls: list[tuple[str, list[str]]] = []

    def noting(look: str) -> Any:
        def note(prepared_or_folder: Any, trials: Any, *rest: Any) -> None:
            calls.append((look, [] if callable(trials) else [one.name for one in trials]))

        return note

    for look in LOOKS:
        monkeypatch.setattr(looking_again, look, noting(look))
    monkeypatch.setattr(looking_again, "trial_configs", lambda folder, trials: {})
    monkeypatch.setattr(looking_again, "cost_line", lambda *args: "2 runs")
    return calls


@pytest.fixture
def study(tmp_path: Path) -> StudyReading:
    """Two trials that cannot be told apart, of which the second needs more memory, and one that is worse."""
    s = tmp_path / "s"
    return study_of(
        s,
        trial(s, "a", slice(0, 80), 40),
        trial(s, "b", slice(0, 81), 50),
        trial(s, "bad", slice(0, 300), 60),
    )


def look(
    tmp_path: Path, study: StudyReading, stopping: Stopping | None = None, gpus: float = 0.0, **fields: Any
) -> str:
    """Looks again at `study`; returns what was printed."""
    prepared = made.prepared_study(tmp_path, **fields)
    resources = TrialResources(workers=1, cpus_per_trial=1.0, gpus_per_trial=gpus)
    file = io.StringIO()
    lines = TrialLines(Console(file=file, width=200), 3, 3)
    looking_again.look_again(prepared, lambda: study, resources, stopping or Stopping(), lines)
    return file.getvalue()


def test_contenders_race_then_test_images_are_read_and_slowdowns_measured(
    tmp_path: Path, study: StudyReading, taken: list[tuple[str, list[str]]]
) -> None:
    look(tmp_path, study)
    front = [one.name for one in study.front]
    assert taken == [("race", []), ("read_test_images", front), ("measure_slowdowns", front)]


def test_confirm_trains_the_front_and_what_cannot_be_told_from_the_best(
    tmp_path: Path, study: StudyReading, taken: list[tuple[str, list[str]]]
) -> None:
    printed = look(tmp_path, study, confirm=2)
    assert [call for call, _ in taken] == ["train_with_seeds", "read_test_images", "measure_slowdowns"]
    front = {one.name for one in study.front}
    assert set(taken[0][1]) > front and "bad" not in taken[0][1]
    assert "2 runs" in printed


def test_slowdowns_of_trials_on_gpus_are_not_measured_on_this_cpu(
    tmp_path: Path, study: StudyReading, taken: list[tuple[str, list[str]]]
) -> None:
    look(tmp_path, study, gpus=1.0)
    assert [call for call, _ in taken] == ["race", "read_test_images"]


def test_a_study_that_has_to_stop_reads_no_test_images(
    tmp_path: Path, study: StudyReading, taken: list[tuple[str, list[str]]]
) -> None:
    stopping = Stopping()
    stopping.because("the time is spent")
    look(tmp_path, study, stopping)
    assert [call for call, _ in taken] == ["race"], "which asks for itself"


def test_a_study_without_complete_trials_has_nothing_to_train_again(
    tmp_path: Path, taken: list[tuple[str, list[str]]]
) -> None:
    look(tmp_path, StudyReading(name="s", requested=3, states={"failed": 3}), confirm=2)
    assert taken == [("read_test_images", []), ("measure_slowdowns", [])]


def test_what_cannot_be_done_is_said_in_a_line(
    tmp_path: Path, study: StudyReading, taken: list[tuple[str, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*args: Any) -> None:
        raise ConfigError("test/cats/1.png: no picture")

    monkeypatch.setattr(looking_again, "read_test_images", refused)
    assert "test/cats/1.png: no picture" in look(tmp_path, study)
