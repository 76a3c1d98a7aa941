import optuna
import pytest

from search_spaces.space import parse_space
from search_spaces.values import Choices, Range, read_values


@pytest.fixture(autouse=True)
def quiet_optuna():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


RANGES = [
    {"low": 1, "high": 9, "step": 2},
    {"low": 1, "high": 64, "log": True},
    {"low": 0.1, "high": 1.0, "step": 0.3},
    {"low": 0.0, "high": 0.5},
    {"low": 1e-4, "high": 1e-2, "log": True},
    {"low": 1, "high": 2.5, "step": 0.5},
    {"low": 0.0, "high": 1.1, "step": 0.25},
]


@pytest.mark.parametrize("raw", RANGES, ids=str)
def test_a_range_holds_what_optuna_samples_and_nothing_else(raw):
    (parameter,) = parse_space({"parameters": {"seed": raw}}, "mine", "mine.yaml").parameters
    distribution = parameter.distribution
    assert parameter.values.high == distribution.high
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    sampled = [study.ask({"seed": distribution}).params["seed"] for _ in range(40)]
    for value in [
        *sampled,
        raw["low"],
        raw["high"],
        raw["low"] - 1,
        raw["high"] + 1,
        1.37,
        3,
        4,
        0.4,
        True,
        "a",
    ]:
        try:
            optuna.create_trial(value=0, params={"seed": value}, distributions={"seed": distribution})
            inside = not isinstance(value, bool)
        except ValueError:
            inside = False
        assert parameter.contains(value) == inside, value


def test_keys_are_read_as_choices_or_a_range():
    assert read_values({"choices": [1, "a", None]}, "mine.yaml") == Choices((1, "a", None))
    assert read_values({"low": 1, "high": 9}, "mine.yaml") == Range(low=1, high=9, step=1)


def test_choices_hold_values_of_their_own_type_only():
    choices = Choices((1, "a", None))
    assert all(choices.contains(value) for value in (1, "a", None))
    assert not any(choices.contains(value) for value in (1.0, True, "A", 2))
