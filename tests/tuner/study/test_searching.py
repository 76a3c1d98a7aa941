from pathlib import Path
from typing import Any

import optuna
import pytest

from tests.support import mlflow_studies as made
from tinytl.memory import curve
from tuner.record.writer import StudyRecords
from tuner.search import sampling
from tuner.stopping import Stopping
from tuner.study import searching


def records_of(study: optuna.Study) -> StudyRecords:
    return StudyRecords(study._storage, study.study_name)


def test_a_resumed_study_draws_other_numbers_than_at_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []

    class Kept(sampling.Proposals):
        def __init__(self, **fields: Any) -> None:
            seeds.append(fields["seed"])
            super().__init__(**fields)

    monkeypatch.setattr(sampling, "Proposals", Kept)
    prepared = made.prepared_study(tmp_path, seed=5)
    study = made.new_study(prepared)
    for state in (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.FAIL):
        values = [0.5, 40.0] if state == optuna.trial.TrialState.COMPLETE else None
        study.tell(made.start(study, len(seeds)), values, state)
        search = searching.search_of(prepared, records_of(study), 0, Stopping(), [], 100.0)
        search.close()
    assert seeds == [6, 7]


def test_rungs_are_of_the_studys_rule_and_know_earlier_trials(tmp_path: Path) -> None:
    plain = made.prepared_study(tmp_path)
    study = made.new_study(plain)
    assert searching.rungs_of(plain, records_of(study)) is None
    rungs = searching.rungs_of(made.prepared_study(tmp_path, scheduler="asha", epochs=9), records_of(study))
    assert rungs is not None and rungs.rule == "asha"


def test_two_configurations_are_predicted_while_ray_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predicted: list[Any] = []
    monkeypatch.setattr(curve, "memory_curve", predicted.append)
    searching.predict_first(made.prepared_study(tmp_path))
    assert len(predicted) == searching.FIRST
