import math
import random

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from tuner.findings.importance import MIN_TRIALS, MOST_TRIALS, looked_at, parameter_importance
from tuner.record import schema
from tuner.record.reading import read_study

SPACE = {
    "method": CategoricalDistribution(["FT-Last", "FT-Full", "TinyTL-L"]),
    "resolution": IntDistribution(32, 96, step=32),
    "n_groups": CategoricalDistribution([1, 8]),
    "base_lr": FloatDistribution(1e-4, 1e-2, log=True),
    "optimizer": CategoricalDistribution(["adam"]),
}


def make_study(count, accuracy, memory, directions=("maximize", "minimize")):
    """Random trials and one that was stopped, where `n_groups` exists for TinyTL-L alone."""
    study = optuna.create_study(directions=directions)
    rng = random.Random(0)
    for number in range(count):
        params = {
            "method": rng.choice(SPACE["method"].choices),
            "resolution": rng.choice([32, 64, 96]),
            "base_lr": 10 ** rng.uniform(-4, -2),
            "optimizer": "adam",
        }
        if params["method"] == "TinyTL-L":
            params["n_groups"] = rng.choice([1, 8])
        values = [accuracy(params), memory(params)][: len(directions)]
        distributions = {name: SPACE[name] for name in params}
        name = {schema.NAME: f"s-{number:03d}", schema.PEAK_MEMORY_MIB: memory(params)}
        study.add_trial(
            optuna.create_trial(values=values, params=params, distributions=distributions, user_attrs=name)
        )
    study.add_trial(
        optuna.create_trial(state=TrialState.PRUNED, user_attrs={schema.NAME: "s-900", schema.PRUNED_AT: 1})
    )
    return read_study(study)


def of_lr(params):
    return 0.9 - 0.2 * abs(math.log10(params["base_lr"]) + 3)


def of_method(params):
    of = {"FT-Last": 20, "FT-Full": 90, "TinyTL-L": 80 if params.get("n_groups") == 1 else 30}
    return of[params["method"]] + params["resolution"] / 32


def test_each_objective_has_the_shares_of_what_decides_it():
    shares = parameter_importance(make_study(40, of_lr, of_method))
    assert list(shares) == ["accuracy_top1", "peak_memory_mib"]
    (accuracy, accuracy_spread), (memory, memory_spread) = shares.values()
    assert next(iter(accuracy)) == "base_lr" and accuracy["base_lr"] > 0.8
    # A learning rate cannot change memory, however the samples fell; a single choice changes nothing.
    assert set(memory) == {"method", "n_groups", "resolution"}
    assert list(memory)[:2] == ["method", "n_groups"]
    assert accuracy_spread.keys() == accuracy.keys() and memory_spread.keys() == memory.keys()
    for of_objective, _ in shares.values():
        assert sum(of_objective.values()) == pytest.approx(1)
        assert list(of_objective.values()) == sorted(of_objective.values(), reverse=True)


def test_too_few_complete_trials_have_none():
    assert parameter_importance(make_study(MIN_TRIALS - 1, of_lr, of_method)) is None
    assert parameter_importance(make_study(MIN_TRIALS, of_lr, of_method)) is not None


def test_an_objective_that_is_always_the_same_has_no_shares():
    shares = parameter_importance(make_study(20, lambda params: 1.0, of_method))
    assert shares["accuracy_top1"] == ({}, {}) and shares["peak_memory_mib"].shares


def test_few_trials_leave_more_doubt_than_many():
    few, many = (parameter_importance(make_study(count, of_lr, of_method)) for count in (8, 60))
    for objective in few:
        assert max(few[objective].spread.values()) > 1.5 * max(many[objective].spread.values())


def test_a_search_for_accuracy_alone_has_one_objective():
    assert list(parameter_importance(make_study(20, of_lr, of_method, ("maximize",)))) == ["accuracy_top1"]


def test_the_same_trials_have_the_same_shares():
    assert parameter_importance(make_study(20, of_lr, of_method)) == parameter_importance(
        make_study(20, of_lr, of_method)
    )


def test_fits_look_at_no_more_trials_however_many_there_are(monkeypatch):
    sizes = []

    def fit(study, evaluator):
        sizes.append(len(study.get_trials(deepcopy=False)))
        return {}

    monkeypatch.setattr(optuna.importance, "get_param_importances", fit)
    parameter_importance(make_study(3 * MOST_TRIALS, of_lr, of_method))
    assert set(sizes) == {MOST_TRIALS}


def test_one_more_trial_seldom_changes_which_are_looked_at():
    many = make_study(500, of_lr, of_method)
    before = {trial.name for trial in looked_at(many)}
    after = {trial.name for trial in looked_at(make_study(520, of_lr, of_method))}
    assert len(before) == len(after) == MOST_TRIALS
    # Each of 20 more is drawn in one case of five, and puts one out.
    assert len(before - after) < 12
    early = sum(int(name.removeprefix("s-")) < 250 for name in before)
    assert 30 < early < 70  # as good as at random: not the first ones


def test_all_of_few_trials_are_looked_at():
    few = make_study(MOST_TRIALS, of_lr, of_method)
    assert looked_at(few) == few.complete
