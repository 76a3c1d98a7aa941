"""Times of operations from times of steps, on made-up machines whose times are known."""

import random

import pytest

from tinytl.step_time.operations import Cost, Work
from tinytl.step_time.step_times import StepTimes, TimedStep, fit

MACHINE = StepTimes(
    per_kind={"add": (2e-6, 5e-11, 0.0), "mm": (1e-5, 0.0, 2e-11), "lean mm": (1e-5, 1e-10, 1e-11)},
    scale=1.1,
    per_lean_product=4e-5,
)


def step(seed: int) -> TimedStep:
    """One on that machine, its operations timed."""
    rng = random.Random(seed)
    costs = [
        Cost(kind, rng.randrange(10**4, 10**7), 0 if kind == "add" else rng.randrange(10**5, 10**9))
        for kind in MACHINE.per_kind
        for _ in range(rng.randrange(5, 20))
    ]
    work = Work()
    for cost in costs:
        work.add(cost)
    timed = []
    for cost in costs:
        alone = Work()
        alone.add(cost)
        timed.append((cost, MACHINE.of_operations(alone)))
    return TimedStep(timed, work, MACHINE.seconds(work))


def test_a_machine_whose_times_are_linear_is_found() -> None:
    found = fit([step(seed) for seed in range(6)])
    assert found.scale == pytest.approx(MACHINE.scale, rel=1e-6)
    assert found.per_lean_product == pytest.approx(MACHINE.per_lean_product, rel=1e-6)
    for kind, times in MACHINE.per_kind.items():
        assert found.per_kind[kind] == pytest.approx(times, rel=1e-6, abs=1e-20)
    new = step(99)
    assert found.seconds(new.work) == pytest.approx(new.seconds, rel=1e-6)


def test_no_time_is_negative_and_a_step_is_explained() -> None:
    # More bytes in less time: no line with positive slopes explains that.
    odd = [(Cost("add", 100), 3e-6), (Cost("add", 1_000_000), 1e-6)]
    work = Work()
    for cost, _ in odd:
        work.add(cost)
    found = fit([TimedStep(odd, work, 4e-6)])
    assert all(value >= 0 for value in found.per_kind["add"])
    assert found.seconds(work) == pytest.approx(4e-6)


def test_what_nobody_measured_costs_as_much_as_its_like() -> None:
    work = Work({"erf": [2, 10**6, 0]})
    times = StepTimes(per_kind={"mul": (1e-6, 1e-10, 0.0)})
    assert times.seconds(work) == pytest.approx(2e-6 + 1e-4)
    assert StepTimes(per_kind={}).seconds(work) == 0
