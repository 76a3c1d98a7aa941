import json

import pytest

from tinytl.errors import ConfigError
from tuner.record.confirmed import (
    ConfirmedResult,
    confirmed_result,
    read_outcomes,
    write_outcomes,
)
from tuner.record.results import best_confirmed
from tuner.record.trials import Trial

OUTCOMES = {
    "a": {1: {"accuracy_top1": 0.5}, 2: {"accuracy_top1": 0.7}},
    "b": {1: {"failure": "loss is not finite at step 3 of epoch 1 (base_lr=1)"}},
}


def result(name: str, accuracy: float, memory: float, confirmed: ConfirmedResult | None = None) -> Trial:
    return Trial(name=name, params={}, accuracy_top1=accuracy, peak_memory_mib=memory, confirmed=confirmed)


def confirmed(own: float, *again: float, failures: int = 0) -> ConfirmedResult:
    return ConfirmedResult(
        own=own,
        again=dict(enumerate(again, start=1)),
        failures={seed: "loss" for seed in range(90, 90 + failures)},
    )


def test_what_is_written_is_read_again(tmp_path):
    assert read_outcomes(tmp_path) == {}
    write_outcomes(tmp_path, OUTCOMES)
    assert read_outcomes(tmp_path) == OUTCOMES
    assert [path.name for path in tmp_path.iterdir()] == ["confirm.json"]


def test_results_join_the_study_and_the_seeds(tmp_path):
    write_outcomes(tmp_path, OUTCOMES)
    outcomes = read_outcomes(tmp_path)
    assert confirmed_result(0.7, outcomes.get("c", {})) is None
    a, b = confirmed_result(0.9, outcomes["a"]), confirmed_result(0.8, outcomes["b"])
    assert (a.own, a.again, a.failures, a.seeds) == (0.9, {1: 0.5, 2: 0.7}, {}, 3)
    assert a.mean == pytest.approx(0.7) and a.deviation == pytest.approx(0.2)
    assert (b.mean, b.seeds, list(b.failures)) == (0.8, 1, [1])


def test_the_best_is_so_by_its_mean_within_the_budget():
    a = result("a", 0.7, 10, confirmed(0.7, 0.7))
    b = result("b", 0.8, 20, confirmed(0.8, 0.5))
    c = result("c", 0.9, 30, confirmed(0.9, 0.9, failures=1))
    again = [result(trial.name, trial.accuracy_top1, trial.peak_memory_mib) for trial in (a, b, c)]
    assert best_confirmed([a, b, c], 20).name == "a"
    assert best_confirmed([a, b, c], None).name == "c", "a seed that failed is no accuracy"
    equal = result("d", 0.9, 40, confirmed(0.9, 0.9))
    assert best_confirmed([c, equal], None).name == "d", "of equals the one that did not fail"
    assert best_confirmed([again[0], b, again[2]], None).name == "b"
    assert best_confirmed([*again[:2], c], None).name == "c"
    assert best_confirmed([a, b, c], 5) is None
    assert best_confirmed(again, None) is None


def test_of_equal_means_the_one_with_less_memory():
    front = [result("a", 0.7, 10, confirmed(0.7, 0.7)), result("b", 0.8, 20, confirmed(0.8, 0.6))]
    assert best_confirmed(front, None).name == "a"


@pytest.mark.parametrize("content", ["", "[1]", '{"a": 1}', '{"a": {"x": {}}}', '{"a": {"1": 3}}'])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "confirm.json").write_text(content)
    with pytest.raises(ConfigError, match=r"confirm\.json is damaged"):
        read_outcomes(tmp_path)


def test_the_file_is_the_same_whichever_run_ended_first(tmp_path):
    write_outcomes(tmp_path, {"b": OUTCOMES["b"], "a": dict(reversed(OUTCOMES["a"].items()))})
    content = json.loads((tmp_path / "confirm.json").read_text())
    assert [(trial, list(seeds)) for trial, seeds in content.items()] == [("a", ["1", "2"]), ("b", ["1"])]
    assert content["a"]["2"] == {"accuracy_top1": 0.7}
