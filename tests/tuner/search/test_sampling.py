import pytest

from search_spaces.space import load_space
from tuner.config import SAMPLERS
from tuner.search.sampling import REFUSED_BEFORE_RANDOM, Proposals

SPACE = load_space("joint")


def proposals(sampler="tpe", seed=0):
    return Proposals(sampler=sampler, seed=seed, space=SPACE, searches_memory=True)


def searched(sampler, seed, n=16):
    """Values of `n` candidates of which some end, some are stopped, refused or fail."""
    asked = proposals(sampler, seed)
    found = []
    for index in range(n):
        number, values = asked.propose()
        found.append(values)
        memory_mib = values["resolution"] * values["batch_size"] / 10
        if index % 5 == 1:
            asked.infeasible(number, memory_mib, memory_mib / 2)
        elif index % 5 == 2:
            asked.reject(number)
        else:
            asked.start(number)
            if index % 5 == 3:
                asked.stopped(number, 0.3, memory_mib)
            elif index % 10 == 4:
                asked.failed(number)
            else:
                asked.complete(number, (index * 7 % 10) / 10, memory_mib)
    return found


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_seed_and_the_same_answers_repeat_the_proposals(sampler):
    assert searched(sampler, 3) == searched(sampler, 3)
    if sampler != "qmc":
        assert searched(sampler, 3) != searched(sampler, 4)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_who_is_refused_for_long_proposes_something_else(sampler):
    asked = proposals(sampler)
    for index in range(12):
        number, values = asked.propose()
        asked.start(number)
        asked.complete(number, 0.1 + index / 20, 50.0 + index)
    found = []
    for _ in range(REFUSED_BEFORE_RANDOM + 4):
        number, values = asked.propose()
        found.append(str(values))
        asked.infeasible(number, 90.0, 40.0)
    assert len(set(found[REFUSED_BEFORE_RANDOM:])) == 4


def test_values_that_were_given_are_adopted():
    asked = proposals()
    point = dict(SPACE.baselines["user_report"])
    number = asked.adopt(point)
    params, distributions = asked.params(number)
    assert params == point and set(distributions) == set(point)
    asked.start(number)
    asked.complete(number, 0.5, 10.0)


def test_tpe_avoids_what_was_stopped_and_what_exceeds_the_budget():
    """Half of the methods are always refused or stopped: TPE proposes them less and less, random does not."""

    def bad_share(sampler):
        asked = proposals(sampler, seed=1)
        bad = 0
        for index in range(120):
            number, values = asked.propose()
            good = values["method"].startswith("TinyTL")
            bad += index >= 60 and not good
            if values["method"] == "FT-Full":
                asked.infeasible(number, 90.0, 40.0)
            elif not good:
                asked.start(number)
                asked.stopped(number, 0.1, 30.0)
            else:
                asked.start(number)
                asked.complete(number, 0.5 + (index % 7) / 20, 20.0 + index % 5)
        return bad / 60

    assert bad_share("tpe") < 0.25 < bad_share("random")


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_under_a_budget_memory_below_it_is_worth_nothing(sampler):
    def proposed(memories):
        asked = Proposals(sampler=sampler, seed=0, space=SPACE, searches_memory=True, budget_mib=60.0)
        found = []
        for memory_mib in memories:
            number, values = asked.propose()
            found.append(values)
            asked.complete(number, values["base_lr"], memory_mib)
        return found

    falling = [50.0 - index for index in range(14)]
    assert proposed(falling) == proposed(falling[::-1])
