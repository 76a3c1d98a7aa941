import dataclasses
from pathlib import Path

import pytest

from tests.tuner.findings.test_sureness import study_of, trial
from tuner.record import schema
from tuner.record.confirmed import ConfirmedResult
from tuner.record.reading import StudyReading
from tuner.record.trials import Trial
from tuner.study.race import MOST_SEEDS, next_round, seeds_of


def raced(one: Trial, *scores: float, failures: int = 0) -> Trial:
    again = {seed: score for seed, score in enumerate(scores, 1)}
    failed = {len(scores) + 1 + i: "its process died" for i in range(failures)}
    return dataclasses.replace(one, confirmed=ConfirmedResult(own=one.score, again=again, failures=failed))


@pytest.fixture
def alike(tmp_path: Path) -> list[Trial]:
    """Five trials that cannot be told apart, the first the best, and one that is worse."""
    s = tmp_path / "s"
    trials = [trial(s, f"t{i}", slice(80 * i, 80 * i + 80 + i), 50) for i in range(5)]
    return [*trials, trial(s, "bad", slice(0, 400), 40)]


def study(tmp_path: Path, trials: list[Trial], epochs: int = 4) -> StudyReading:
    return dataclasses.replace(study_of(tmp_path / "s", *trials), attributes={schema.EPOCHS: epochs})


def names(trials: list[Trial]) -> list[str]:
    return [one.name for one in trials]


def test_a_round_is_of_as_many_contenders_as_can_train_twice(alike: list[Trial], tmp_path: Path) -> None:
    found = study(tmp_path, alike)
    assert names(next_round(found, 2.0)) == ["t0", "t1", "t2", "t3", "t4"]  # 12 runs
    assert names(next_round(found, 1.0)) == ["t0", "t1", "t2"]  # 6 runs
    assert names(next_round(found, 0.4)) == ["t0", "t1"]  # 2 runs
    assert next_round(found, 0.3) == [] and next_round(found, 0.0) == []  # 1 run, which tells nothing


def test_epochs_of_trials_that_stopped_early_count(alike: list[Trial], tmp_path: Path) -> None:
    stopped = [Trial(name=f"p{i}", state="pruned", params={}, stopped_at=1) for i in range(4)]
    assert len(next_round(study(tmp_path, [*alike, *stopped]), 2 / 7)) == 2  # of 7 whole runs
    assert next_round(study(tmp_path, [*alike, *stopped[:3]]), 2 / 7) == []


def test_those_with_the_fewest_seeds_are_next_and_what_was_trained_counts(
    alike: list[Trial], tmp_path: Path
) -> None:
    first = [raced(alike[0], 0.84), raced(alike[1], 0.84), *alike[2:]]
    assert names(next_round(study(tmp_path, first), 0.8)) == ["t0", "t1"], "the others stay out"
    assert next_round(study(tmp_path, first), 0.6) == [], "two need more than the run that is left"
    uneven = [raced(alike[0], 0.84, 0.84), raced(alike[1], 0.84), *alike[2:]]
    assert names(next_round(study(tmp_path, uneven), 2.0)) == ["t1"], "it has fewer seeds"
    level = [raced(one, 0.84) for one in alike[:5]]
    assert len(next_round(study(tmp_path, [*level, alike[5]]), 2.0)) == 5
    assert next_round(study(tmp_path, [*level, alike[5]]), 1.0) == []


def test_who_is_surely_worse_drops_out(alike: list[Trial], tmp_path: Path) -> None:
    assert len(next_round(study(tmp_path, alike[:2]), 9.0)) == 2
    apart = [raced(alike[0], *[0.84] * 4), raced(alike[1], *[0.75] * 4)]
    assert next_round(study(tmp_path, apart), 9.0) == [], "the others have parted"


def test_failures_count_as_tries_and_there_is_an_end(alike: list[Trial], tmp_path: Path) -> None:
    assert seeds_of(alike[0]) == 0 and seeds_of(raced(alike[0], 0.8, failures=2)) == 3
    ended = [raced(one, *[0.84] * MOST_SEEDS) for one in alike[:2]]
    assert next_round(study(tmp_path, ended), 99.0) == []


def test_a_study_without_trials_or_epochs_has_no_race(tmp_path: Path) -> None:
    assert next_round(StudyReading(name="s"), 1.0) == []
    assert next_round(study(tmp_path, []), 1.0) == []
