import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from tests.tinytl.training.test_judgements import judgements
from tinytl.runs.directory import RunDirectory
from tinytl.runs.judgements_file import save_judgements
from tinytl.training.judgements import Judgements
from tuner.findings.sureness import Sureness, luck_of_the_best
from tuner.record.confirmed import FOLDER, ConfirmedResult, run_name
from tuner.record.reading import StudyReading
from tuner.record.results import pareto_front
from tuner.record.trials import Trial

LABELS = np.random.default_rng(0).integers(0, 4, 500)


def judged(wrong: slice) -> Judgements:
    """What a network says that has the images of a slice wrong."""
    predicted = LABELS.copy()
    predicted[wrong] = (predicted[wrong] + 1) % 4
    return judgements(LABELS, predicted)


def trial(folder: Path, name: str, wrong: slice, mib: float, **fields: object) -> Trial:
    found = judged(wrong)
    run = folder / name
    run.mkdir(parents=True)
    save_judgements(found, RunDirectory(run).val_judgements)
    figures = {"accuracy_top1": found.accuracy_top1, "standard_error": found.standard_error("accuracy_top1")}
    return Trial(name=name, params={}, peak_memory_mib=mib, **figures | fields)  # type: ignore[arg-type]


def study_of(folder: Path, *trials: Trial, budget_mib: float | None = None) -> StudyReading:
    on_front = {one.name for one in pareto_front(trials)}
    marked = [dataclasses.replace(one, on_front=one.name in on_front) for one in trials]
    return StudyReading(name=folder.name, runs_dir=str(folder.parent), trials=marked, budget_mib=budget_mib)


def test_contenders_are_those_within_two_errors_of_the_best(tmp_path: Path) -> None:
    s = tmp_path / "s"
    study = study_of(
        s,
        trial(s, "best", slice(0, 100), 50),  # 0.8
        trial(s, "nested", slice(0, 110), 40),  # 0.78: wrong on the same images and ten more, so surely worse
        trial(s, "apart", slice(200, 305), 30),  # 0.79, wrong on others
        trial(s, "bad", slice(0, 300), 20),
    )
    assert [one.name for one in Sureness(study).contenders] == ["best", "apart"]
    line = "Cannot be told apart from the best: apart (30.0 MiB)"
    assert Sureness(study).lines()[0] == line
    tight = dataclasses.replace(study, budget_mib=25.0)
    assert [one.name for one in Sureness(tight).contenders] == ["bad"]


def test_more_contenders_than_a_line_has_room_for(tmp_path: Path) -> None:
    s = tmp_path / "s"
    study = study_of(s, *(trial(s, f"t{i}", slice(90 * i, 90 * i + 90), 50.0 - i) for i in range(5)))
    found = Sureness(study)
    assert [one.name for one in found.contenders] == ["t4", "t3", "t2", "t1", "t0"]
    told = "Cannot be told apart from the best: t3, t2, t1 and 1 more, the least memory of them 47.0 MiB"
    assert found.lines()[0] == told


def test_a_training_that_failed_is_told_and_does_not_hide_a_trial(tmp_path: Path) -> None:
    s = tmp_path / "s"
    failed = ConfirmedResult(own=0.8, again={1: 0.8}, failures={2: "loss is not finite at step 3"})
    fine = ConfirmedResult(own=0.6, again={1: 0.6})
    study = study_of(
        s,
        trial(s, "fails", slice(0, 100), 50, confirmed=failed),
        trial(s, "weak", slice(0, 200), 40, confirmed=fine),
    )
    assert study.best is not None and study.best.name == "fails"
    told = (
        "fails failed with 1 other seed (loss is not finite at step 3): its mean is of those that ended, and "
        "a new training may fail, too"
    )
    assert told in Sureness(study).lines()


def test_a_front_says_what_memory_buys_nothing_sure(tmp_path: Path) -> None:
    s = tmp_path / "s"
    study = study_of(
        s,
        trial(s, "small", slice(0, 250), 10),
        trial(s, "middle", slice(0, 100), 20),
        trial(s, "large", slice(300, 398), 30),
    )
    found = Sureness(study)
    small, middle, large = study.front
    assert found.no_better(small) is None and found.no_better(middle) is None
    unsure = found.no_better(large)
    assert unsure is not None and unsure.name == "middle"
    assert "Not surely better than one with less memory: large (than middle)" in found.lines()


def test_what_the_search_gained_over_each_baseline(tmp_path: Path) -> None:
    s = tmp_path / "s"
    study = study_of(
        s,
        trial(s, "best", slice(0, 100), 50),
        trial(s, "b0", slice(0, 200), 40, source="baseline user_report"),
        trial(s, "b1", slice(250, 355), 40, source="baseline one_lr"),
    )
    gains = Sureness(study).gains
    assert gains["user_report"].mean == pytest.approx(0.2) and gains["user_report"].is_sure
    assert not gains["one_lr"].is_sure
    (line,) = [line for line in Sureness(study).lines() if line.startswith("The search gained")]
    assert line.startswith("The search gained 20.0 ± 1.8 points over user_report, 1.0 ± ")
    assert line.endswith("over one_lr (not sure)")


def test_other_seeds_count_with_their_own_judgements(tmp_path: Path) -> None:
    s = tmp_path / "s"
    first, second = trial(s, "a", slice(0, 100), 50), trial(s, "b", slice(200, 310), 50)
    assert len(Sureness(study_of(s, first, second)).contenders) == 2
    raced = []
    for one, wrong in ((first, slice(0, 100)), (second, slice(0, 160))):
        again = s / FOLDER / run_name(one.name, 1)
        again.mkdir(parents=True)
        save_judgements(judged(wrong), RunDirectory(again).val_judgements)
        score = judged(wrong).accuracy_top1
        raced.append(dataclasses.replace(one, confirmed=ConfirmedResult(own=one.score, again={1: score})))
    found = Sureness(study_of(s, *raced))
    assert found.seed_variance == pytest.approx(((0.78 - 0.73) ** 2 + (0.68 - 0.73) ** 2) / 2)
    runs = found.runs("b")
    assert runs.mean == pytest.approx(0.73) and runs.influence is not None
    both = [judged(wrong).influence("accuracy_top1") for wrong in (slice(200, 310), slice(0, 160))]
    np.testing.assert_allclose(runs.influence, (both[0] + both[1]) / 2)
    assert found.luck is None, "means were not chosen as the best of many"


def test_an_older_study_has_nothing_to_say(tmp_path: Path) -> None:
    old = Trial(name="t", params={}, peak_memory_mib=9)
    trials = [dataclasses.replace(old, name=f"t{i}", accuracy_top1=0.7 + i / 1000) for i in range(3)]
    found = Sureness(study_of(tmp_path / "s", *trials))
    assert [one.name for one in found.contenders] == ["t2"] and found.lines() == [] and found.luck is None
    assert Sureness(StudyReading(name="none")).to_json() == {
        "cannot_be_told_from_best": [],
        "gains": {},
        "luck_of_the_best": None,
    }


def test_a_damaged_file_leaves_the_errors_of_the_record(tmp_path: Path) -> None:
    s = tmp_path / "s"
    trials = trial(s, "a", slice(0, 100), 50), trial(s, "b", slice(0, 110), 50)
    RunDirectory(s / "b").val_judgements.write_bytes(b"half")
    found = Sureness(study_of(s, *trials))
    assert found.difference(*trials).standard_error == pytest.approx(
        math.hypot(trials[0].standard_error, trials[1].standard_error)
    )


def test_luck_is_what_the_best_of_equals_gains_by_chance() -> None:
    rng = np.random.default_rng(1)
    n_images, truth, gaps, told = 300, 0.7, [], []
    for _ in range(20):
        right = rng.random((12, n_images)) < truth
        scores = right.mean(1)
        told.append(luck_of_the_best(scores, (right - scores[:, None]) / n_images))
        gaps.append(scores.max() - truth)
    assert np.mean(told) == pytest.approx(np.mean(gaps), rel=0.2)
    assert luck_of_the_best(np.array([0.9, 0.1]), np.zeros((2, 50))) == 0.0
