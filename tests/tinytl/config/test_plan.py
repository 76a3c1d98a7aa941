import dataclasses
import math
from collections.abc import Callable

import pytest

from tests.support.cases import small
from tinytl.build import build_model
from tinytl.config.plan import (
    NEARLY_LEAST,
    Plan,
    choices,
    describe,
    fast_plan,
    fastest_within,
    is_planned,
    least_within,
    not_beaten,
    relative_time,
    resolve,
)
from tinytl.config.train_config import TrainConfig
from tinytl.errors import ConfigError

OPEN = small(norm="frozen_bn", batch_size=8, resolution=224)
"""Leaves all to its plan; batches and checkpoints take turns in the order of time."""
Way = tuple[int | None, str, float | None]


def way(config: TrainConfig) -> Way:
    return config.micro_batch_size, config.checkpoint, config.stock_below_kib


class Peaks:
    """Stands in for predictions; knows which were asked for."""

    def __init__(self, peak: Callable[[TrainConfig], float] | None = None) -> None:
        self.peak = peak or self.usual
        self.asked: list[Way] = []

    def __call__(self, config: TrainConfig) -> float:
        assert is_planned(config)
        self.asked.append(way(config))
        return self.peak(config)

    @staticmethod
    def usual(config: TrainConfig) -> float:
        assert config.stock_below_kib is not None
        kept = {"none": 4, "depthwise": 3, "all": 2}[config.checkpoint]
        return 10 + config.samples_in_memory * kept + (config.stock_below_kib > 0)


def refuse(config: TrainConfig) -> float:
    raise AssertionError(f"nobody needs the memory of {config}")


@pytest.mark.parametrize(
    ("changes", "planned"),
    [
        ({}, (8, "none", 0.0)),
        # 30,000 pixels in memory at once make an input large; 86 x 86 x 4 are 29,584 and 87 x 87 x 4 30,276.
        ({"resolution": 86, "batch_size": 4}, (4, "none", 1024.0)),
        ({"resolution": 87, "batch_size": 4}, (4, "none", 0.0)),
        ({"resolution": 87, "batch_size": 4, "micro_batch_size": 2}, (2, "none", 1024.0)),
        ({"micro_batch_size": 2}, (2, "none", 0.0)),
        ({"checkpoint": "all"}, (8, "all", 0.0)),
        ({"stock_below_kib": 0.0}, (8, "none", 0.0)),
        ({"norm": "batch_norm"}, (8, "none", 0.0)),
    ],
)
def test_fast_is_the_whole_batch_and_nothing_again_but_for_what_is_given(
    changes: dict[str, object], planned: Way
) -> None:
    config = dataclasses.replace(OPEN, **changes)
    assert way(resolve(config, refuse)) == way(fast_plan(config)) == planned
    assert fast_plan(fast_plan(config)) == fast_plan(config)


@pytest.mark.parametrize("missing", ["micro_batch_size", "checkpoint", "stock_below_kib"])
def test_is_planned_takes_all_three(missing: str) -> None:
    planned = fast_plan(OPEN)
    assert is_planned(planned)
    assert not is_planned(dataclasses.replace(planned, **{missing: getattr(OPEN, missing)}))


def test_choices_of_frozen_norms_are_each_divisor_and_checkpoint_the_fastest_first() -> None:
    found = choices(OPEN)
    assert [way(choice)[:2] for choice in found] == [
        (8, "none"),
        (8, "depthwise"),
        (4, "none"),
        (4, "depthwise"),
        (2, "none"),
        (8, "all"),
        (2, "depthwise"),
        (4, "all"),
        (1, "none"),
        (2, "all"),
        (1, "depthwise"),
        (1, "all"),
    ]
    assert {choice.stock_below_kib for choice in found} == {0.0}
    times = [relative_time(choice) for choice in found]
    assert times == sorted(times)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"norm": "batch_norm"}, {(8, "none"), (8, "depthwise"), (8, "all")}),
        ({"engine": "stock", "batch_size": 2}, {(n, c) for n in (1, 2) for c in ("none", "all")}),
        ({"micro_batch_size": 4}, {(4, "none"), (4, "depthwise"), (4, "all")}),
        ({"checkpoint": "depthwise", "batch_size": 6}, {(n, "depthwise") for n in (1, 2, 3, 6)}),
        ({"checkpoint": "all", "micro_batch_size": 1}, {(1, "all")}),
    ],
)
def test_choices_leave_what_is_given_and_what_would_have_no_meaning(
    changes: dict[str, object], expected: set[Way]
) -> None:
    found = choices(dataclasses.replace(OPEN, **changes))
    assert {way(choice)[:2] for choice in found} == expected
    assert len(found) == len(expected)


def test_given_threshold_stays_in_every_choice() -> None:
    config = dataclasses.replace(OPEN, stock_below_kib=64.0)
    assert {choice.stock_below_kib for choice in choices(config)} == {64.0}


def test_smallest_asks_for_both_ends_of_the_micro_batches() -> None:
    peaks = Peaks()
    config = dataclasses.replace(OPEN, plan="smallest")
    assert way(resolve(config, peaks)) == (1, "all", 0.0)
    assert {(micro, checkpoint) for micro, checkpoint, _ in peaks.asked} == {
        (micro, checkpoint) for micro in (1, 8) for checkpoint in ("none", "depthwise", "all")
    }


def test_smallest_is_the_whole_batch_where_gradients_outweigh_activations() -> None:
    peaks = Peaks(lambda c: 40.0 - c.samples_in_memory)
    assert way(resolve(dataclasses.replace(OPEN, plan="smallest"), peaks))[0] == 8


@pytest.mark.parametrize(("more", "checkpoint"), [(0.99, "depthwise"), (1.01, "all")])
def test_smallest_takes_the_faster_of_two_that_take_nearly_the_same(more: float, checkpoint: str) -> None:
    tolerance = 1 + (NEARLY_LEAST - 1) * more
    peaks = Peaks(lambda c: {"none": 200.0, "depthwise": 100.0 * tolerance, "all": 100.0}[c.checkpoint])
    assert resolve(dataclasses.replace(OPEN, plan="smallest"), peaks).checkpoint == checkpoint


@pytest.mark.parametrize(
    ("budget", "planned"),
    [
        (1000.0, (8, "none", 0.0)),
        (42.0, (8, "none", 0.0)),
        (41.0, (8, "depthwise", 0.0)),
        (33.0, (4, "none", 0.0)),
        (25.0, (4, "depthwise", 0.0)),
        (21.0, (2, "none", 0.0)),
        (17.0, (2, "depthwise", 0.0)),
        (15.0, (1, "none", 0.0)),  # as little as (2, "all"), and faster
        (13.0, (1, "depthwise", 0.0)),
        (12.0, (1, "all", 0.0)),
    ],
)
def test_budget_takes_the_fastest_that_fits(budget: float, planned: Way) -> None:
    peaks = Peaks()
    config = dataclasses.replace(OPEN, plan="budget", budget_mib=budget)
    found = resolve(config, peaks)
    assert way(found) == planned
    assert Peaks.usual(found) <= budget
    assert (found.plan, found.budget_mib) == ("budget", budget)
    # One where fast fits; else also the least, and then no more than up to the one that fits.
    if budget >= 42:
        assert peaks.asked == [way(fast_plan(config))]
    else:
        in_order = [way(choice) for choice in choices(config)]
        ends = {choice for choice in in_order if choice[0] in (1, 8)}
        assert set(peaks.asked[1:]) == ends | set(in_order[: in_order.index(planned) + 1])


def test_a_small_input_over_budget_has_every_block_lean_first() -> None:
    config = dataclasses.replace(OPEN, resolution=32, plan="budget", budget_mib=43.0)
    assert way(resolve(config, Peaks())) == (8, "none", 1024.0)
    assert way(resolve(dataclasses.replace(config, budget_mib=42.0), Peaks())) == (8, "none", 0.0)


def test_budget_under_the_least_says_so() -> None:
    config = dataclasses.replace(OPEN, plan="budget", budget_mib=11.9, method="TinyTL-B")
    with pytest.raises(ConfigError) as caught:
        resolve(config, Peaks())
    assert str(caught.value) == (
        "budget_mib=11.9 is under the least that TinyTL-B with frozen_bn on mobilenet_v2 needs at 224 px: "
        "12.0 MiB with micro-batches of 1, every block recomputed"
    )


def test_budget_of_what_is_given_is_checked_too() -> None:
    given = dataclasses.replace(fast_plan(OPEN), plan="budget", budget_mib=42.0)
    assert resolve(given, Peaks()) == given
    with pytest.raises(ConfigError, match=r"42\.0 MiB with micro-batches of 8, nothing recomputed$"):
        resolve(dataclasses.replace(given, budget_mib=41.9), Peaks())


@pytest.mark.parametrize(
    ("checkpoint", "words"),
    [("none", "nothing"), ("depthwise", "depthwise convolutions"), ("all", "every block")],
)
def test_describe(checkpoint: str, words: str) -> None:
    config = fast_plan(dataclasses.replace(OPEN, micro_batch_size=2, checkpoint=checkpoint))
    assert describe(config) == f"micro-batches of 2, {words} recomputed"


def test_build_does_not_predict() -> None:
    with pytest.raises(ConfigError, match=r"^plan=smallest is open: tinytl\.memory\."):
        build_model(dataclasses.replace(OPEN, plan="smallest"))


def plan_of(peak_mib: float, slowdown: float) -> Plan:
    return Plan(
        micro_batch_size=1, checkpoint="none", stock_below_kib=0.0, peak_mib=peak_mib, slowdown=slowdown
    )


CURVE = [plan_of(30.0, 1.0), plan_of(20.0, 1.3), plan_of(10.0, 2.5)]


@pytest.mark.parametrize(
    ("max_slowdown", "mib"), [(1.0, 30.0), (1.29, 30.0), (1.3, 20.0), (2.4, 20.0), (math.inf, 10.0)]
)
def test_least_within_a_slowdown(max_slowdown: float, mib: float) -> None:
    assert least_within(CURVE, max_slowdown).peak_mib == mib


@pytest.mark.parametrize(
    ("budget_mib", "mib"), [(100.0, 30.0), (30.0, 30.0), (29.9, 20.0), (10.0, 10.0), (9.9, None)]
)
def test_fastest_within_a_budget(budget_mib: float, mib: float | None) -> None:
    found = fastest_within(CURVE, budget_mib)
    assert (found and found.peak_mib) == mib


def test_plans_that_another_beats_are_left_out_of_a_curve() -> None:
    beaten = [plan_of(31.0, 1.0), plan_of(20.0, 1.4), plan_of(25.0, 1.35), plan_of(10.0, 3.0)]
    assert not_beaten([*beaten, *reversed(CURVE)]) == CURVE
