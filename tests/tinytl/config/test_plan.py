import dataclasses
import math
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.support.cases import small
from tinytl.build import build_model
from tinytl.config.plan import (
    ALL_STOCK_KIB,
    NEARLY_LEAST,
    SLICES_MIB_ON_GPU,
    STOCK_BELOW_KIB,
    Needs,
    Plan,
    UnderFloorError,
    choices,
    describe,
    fast_plan,
    fastest_within,
    formats,
    formats_to_measure,
    is_planned,
    is_recorded,
    lean_plan,
    least_within,
    not_beaten,
    resolve,
)
from tinytl.config.train_config import TrainConfig
from tinytl.errors import ConfigError

OPEN = small(norm="frozen_bn", batch_size=8, resolution=224)
"""Leaves all to its plan; batches and checkpoints take turns in the order of time."""
Way = tuple[int | None, str, float | None]


def way(config: TrainConfig) -> Way:
    return config.micro_batch_size, config.checkpoint, config.stock_below_kib


class Asked:
    """Stands in for predictions; knows which were asked for."""

    def __init__(
        self, peak: Callable[[TrainConfig], float] | None = None, stock_needs: Sequence[float] = (1, 1.1, 1.2)
    ) -> None:
        self.peak = peak or self.usual
        self.time_of_format = dict(zip(STOCK_BELOW_KIB, stock_needs, strict=True))
        """Time of a step by the blocks that run as PyTorch's own: none, small ones, all."""
        self.ways: list[Way] = []

    def __call__(self, config: TrainConfig) -> Needs:
        assert is_planned(config)
        self.ways.append(way(config))
        return Needs(self.peak(config), lambda: self.seconds(config))

    @staticmethod
    def usual(config: TrainConfig) -> float:
        assert config.stock_below_kib is not None
        kept = {"none": 4, "depthwise": 3, "all": 2}[config.checkpoint]
        return 10 + config.samples_in_memory * kept + (config.stock_below_kib > 0)

    def seconds(self, config: TrainConfig) -> float:
        recomputed = {"none": 1.0, "depthwise": 1.05, "all": 1.3}[config.checkpoint]
        assert config.stock_below_kib is not None
        return self.time_of_format[config.stock_below_kib] * recomputed * (1 + 0.8 / config.samples_in_memory)


def refuse(config: TrainConfig) -> Needs:
    raise AssertionError(f"nobody needs what {config} needs")


SMALL = {"resolution": 64}
"""64 x 64 x 8 pixels are few: there lean blocks may be slower than PyTorch's own."""


@pytest.mark.parametrize(
    ("changes", "planned"),
    [
        ({}, (8, "none", 0.0)),
        ({"micro_batch_size": 7, "batch_size": 7}, (7, "none", 0.0)),
        ({"checkpoint": "all"}, (8, "all", 0.0)),
        ({**SMALL, "stock_below_kib": 64.0}, (8, "none", 64.0)),
        ({**SMALL, "engine": "stock"}, (8, "none", 0.0)),
        ({"norm": "batch_norm"}, (8, "none", 0.0)),
    ],
)
def test_fast_is_the_whole_batch_and_nothing_again_but_for_what_is_given(
    changes: dict[str, object], planned: Way
) -> None:
    config = dataclasses.replace(OPEN, **changes)
    assert way(resolve(config, refuse)) == way(lean_plan(config)) == planned
    assert fast_plan(lean_plan(config), refuse) == lean_plan(config)


@pytest.mark.parametrize("times", [(1, 1.1, 1.2), (1.1, 1, 1.2), (1.2, 1.1, 1)])
def test_fast_on_a_small_input_is_the_fastest_format(times: Sequence[float]) -> None:
    config = dataclasses.replace(OPEN, **SMALL)
    assert [choice.stock_below_kib for choice in formats(config)] == list(STOCK_BELOW_KIB)
    found = resolve(config, Asked(stock_needs=times))
    assert way(found) == (8, "none", STOCK_BELOW_KIB[times.index(1)])
    assert formats(OPEN) == [lean_plan(OPEN)]


@pytest.mark.parametrize("missing", ["micro_batch_size", "checkpoint", "stock_below_kib"])
def test_is_planned_takes_all_three(missing: str) -> None:
    planned = lean_plan(OPEN)
    assert is_planned(planned)
    assert not is_planned(dataclasses.replace(planned, **{missing: getattr(OPEN, missing)}))


def test_choices_of_frozen_norms_are_each_divisor_and_checkpoint() -> None:
    found = choices(OPEN)
    assert [way(choice)[:2] for choice in found] == [
        (micro, checkpoint) for micro in (8, 4, 2, 1) for checkpoint in ("none", "depthwise", "all")
    ]
    assert {choice.stock_below_kib for choice in found} == {0.0}


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


def test_a_gpu_has_smaller_slices_as_well() -> None:
    config = dataclasses.replace(OPEN, device="cuda", micro_batch_size=8, checkpoint="none")
    assert [choice.slice_mib for choice in choices(config)] == list(SLICES_MIB_ON_GPU)
    for settled in ({"slice_mib": 2.0}, {"engine": "stock"}, {"norm": "batch_norm"}, {"device": "cpu"}):
        found = choices(dataclasses.replace(config, **settled))  # type: ignore[arg-type]
        assert [choice.slice_mib for choice in found] == [settled.get("slice_mib")]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, [None, None, None, "contiguous"]),
        ({"memory_format": "channels_last"}, ["channels_last"] * 3),
        ({"engine": "stock", "memory_format": "contiguous"}, ["contiguous"]),
        ({"stock_below_kib": ALL_STOCK_KIB}, [None]),
    ],
    ids=str,
)
def test_contiguous_maps_are_a_format_that_is_measured_unless_something_is_given(
    given: dict[str, object], expected: list[str | None]
) -> None:
    config = dataclasses.replace(OPEN, **SMALL, **given)  # type: ignore[arg-type]
    assert [choice.memory_format for choice in formats_to_measure(config)] == expected
    assert all(choice.memory_format == config.memory_format for choice in formats(config))


def test_a_plan_says_that_maps_are_contiguous() -> None:
    plan = dataclasses.replace(plan_of(1.0, 1.0), memory_format="contiguous", stock_below_kib=ALL_STOCK_KIB)
    assert plan.describe() == "1 at a time, nothing recomputed, all as PyTorch's own, contiguous maps"
    assert plan.of(OPEN).memory_format == "contiguous"


ON_GPU = dataclasses.replace(OPEN, device="cuda")


def test_a_gpu_runs_short_passes_as_a_graph() -> None:
    lean = dataclasses.replace(ON_GPU, stock_below_kib=0.0)
    found = formats_to_measure(lean)
    assert found == [lean_plan(lean), dataclasses.replace(lean_plan(lean), cuda_graph=True)]
    assert fast_plan(lean, refuse) == found[1]
    # A GPU is asked about stock at any size.
    assert len(formats_to_measure(ON_GPU)) == 2 * (len(STOCK_BELOW_KIB) + 1)
    small_input = fast_plan(dataclasses.replace(ON_GPU, **SMALL), Asked(stock_needs=(1.1, 1, 1.2)))
    assert (small_input.stock_below_kib, small_input.cuda_graph) == (1024.0, True)


@pytest.mark.parametrize(
    "changes",
    [
        {"cuda_graph": False},
        {"device": "cpu"},
        {"precision": "float16"},
        {"batch_size": 65},
        {"engine": "stock", "checkpoint": "all"},
        {"norm": "batch_norm", "checkpoint": "all"},
    ],
    ids=str,
)
def test_no_graph_is_planned_if_refused_long_or_not_wanted(changes: dict[str, object]) -> None:
    config = dataclasses.replace(ON_GPU, stock_below_kib=0.0, **changes)
    assert formats_to_measure(config) == [lean_plan(config)]
    assert not fast_plan(config, refuse).cuda_graph


def test_a_graph_that_is_given_stays_and_counts_if_it_is_possible() -> None:
    config = dataclasses.replace(OPEN, cuda_graph=True)
    assert fast_plan(config, refuse).cuda_graph and not is_recorded(fast_plan(config, refuse))
    on_gpu = dataclasses.replace(config, device="cuda", stock_below_kib=0.0)
    assert is_recorded(fast_plan(on_gpu, refuse))
    assert {choice.cuda_graph for choice in choices(on_gpu)} == {True}
    assert not is_recorded(lean_plan(ON_GPU)), "left open, as in plans of older versions: no"


def test_a_budget_without_room_for_a_graph_runs_without_one() -> None:
    asked = Asked(lambda c: Asked.usual(c) + 5 * bool(c.cuda_graph))
    for budget, recorded in ((47.0, True), (46.0, None)):
        config = dataclasses.replace(ON_GPU, stock_below_kib=0.0, plan="budget", budget_mib=budget)
        found = resolve(config, asked)
        assert (way(found), found.cuda_graph) == ((8, "none", 0.0), recorded)


def test_a_plan_says_that_it_is_a_graph() -> None:
    config = fast_plan(dataclasses.replace(ON_GPU, stock_below_kib=0.0), refuse)
    assert describe(config) == "micro-batches of 8, nothing recomputed, as a CUDA graph"
    plan = dataclasses.replace(plan_of(1.0, 1.0), cuda_graph=True)
    assert plan.describe().endswith(", as a CUDA graph") and plan.of(ON_GPU).cuda_graph is True
    on_cpu = dataclasses.replace(config, device="cpu")
    assert describe(on_cpu) == "micro-batches of 8, nothing recomputed"


def test_given_threshold_stays_in_every_choice() -> None:
    config = dataclasses.replace(OPEN, stock_below_kib=64.0)
    assert {choice.stock_below_kib for choice in choices(config)} == {64.0}


def test_smallest_asks_for_both_ends_of_the_micro_batches() -> None:
    asked = Asked()
    config = dataclasses.replace(OPEN, plan="smallest")
    assert way(resolve(config, asked)) == (1, "all", 0.0)
    assert {(micro, checkpoint) for micro, checkpoint, _ in asked.ways} == {
        (micro, checkpoint) for micro in (1, 8) for checkpoint in ("none", "depthwise", "all")
    }


@pytest.mark.parametrize("changes", [{"plan": "smallest"}, {"plan": "budget", "budget_mib": 1000.0}])
def test_a_plan_that_compares_no_times_measures_no_machine(changes: dict[str, Any]) -> None:
    def peak_alone(config: TrainConfig) -> Needs:
        return Needs(Asked.usual(config), lambda: pytest.fail("the machine was measured"))

    assert is_planned(resolve(dataclasses.replace(OPEN, **changes), peak_alone))


def test_smallest_is_the_whole_batch_where_gradients_outweigh_activations() -> None:
    asked = Asked(lambda c: 40.0 - c.samples_in_memory)
    assert way(resolve(dataclasses.replace(OPEN, plan="smallest"), asked))[0] == 8


@pytest.mark.parametrize(("more", "checkpoint"), [(0.99, "depthwise"), (1.01, "all")])
def test_smallest_takes_the_faster_of_two_that_take_nearly_the_same(more: float, checkpoint: str) -> None:
    tolerance = 1 + (NEARLY_LEAST - 1) * more
    asked = Asked(lambda c: {"none": 200.0, "depthwise": 100.0 * tolerance, "all": 100.0}[c.checkpoint])
    assert resolve(dataclasses.replace(OPEN, plan="smallest"), asked).checkpoint == checkpoint


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
    asked = Asked()
    config = dataclasses.replace(OPEN, plan="budget", budget_mib=budget)
    found = resolve(config, asked)
    assert way(found) == planned
    assert Asked.usual(found) <= budget
    assert (found.plan, found.budget_mib) == ("budget", budget)
    # Nothing where fast fits but itself; else each choice.
    fast = way(lean_plan(config))
    assert set(asked.ways) == ({fast} if budget >= 42 else {way(choice) for choice in choices(config)})


def test_a_small_input_over_budget_has_every_block_lean_first() -> None:
    config = dataclasses.replace(OPEN, **SMALL, plan="budget", budget_mib=43.0)
    assert way(resolve(config, Asked(stock_needs=(1.1, 1, 1.2)))) == (8, "none", 1024.0)
    config = dataclasses.replace(config, budget_mib=42.0)
    assert way(resolve(config, Asked(stock_needs=(1.1, 1, 1.2)))) == (8, "none", 0.0)


def test_budget_under_the_least_says_so() -> None:
    config = dataclasses.replace(OPEN, plan="budget", budget_mib=11.9, method="TinyTL-B")
    with pytest.raises(ConfigError) as caught:
        resolve(config, Asked())
    assert str(caught.value) == (
        "budget_mib=11.9 is under the least that TinyTL-B with frozen_bn on mobilenet_v2 needs at 224 px: "
        "12.0 MiB with micro-batches of 1, every block recomputed"
    )


def test_budget_of_what_is_given_is_checked_too() -> None:
    given = dataclasses.replace(lean_plan(OPEN), plan="budget", budget_mib=42.0)
    assert resolve(given, Asked()) == given
    with pytest.raises(ConfigError, match=r"42\.0 MiB with micro-batches of 8, nothing recomputed$"):
        resolve(dataclasses.replace(given, budget_mib=41.9), Asked())


@pytest.mark.parametrize(
    ("checkpoint", "words"),
    [("none", "nothing"), ("depthwise", "depthwise convolutions"), ("all", "every block")],
)
def test_describe(checkpoint: str, words: str) -> None:
    config = lean_plan(dataclasses.replace(OPEN, micro_batch_size=2, checkpoint=checkpoint))
    assert describe(config) == f"micro-batches of 2, {words} recomputed"


def test_build_does_not_predict() -> None:
    with pytest.raises(ConfigError, match=r"^plan=smallest is open: tinytl\.memory\."):
        build_model(dataclasses.replace(OPEN, plan="smallest"))


def plan_of(peak_mib: float, slowdown: float) -> Plan:
    return Plan(
        micro_batch_size=1,
        checkpoint="none",
        stock_below_kib=0.0,
        peak_memory_mib=peak_mib,
        slowdown=slowdown,
    )


CURVE = [plan_of(30.0, 1.0), plan_of(20.0, 1.3), plan_of(10.0, 2.5)]


@pytest.mark.parametrize(
    ("max_slowdown", "mib"), [(1.0, 30.0), (1.29, 30.0), (1.3, 20.0), (2.4, 20.0), (math.inf, 10.0)]
)
def test_least_within_a_slowdown(max_slowdown: float, mib: float) -> None:
    assert least_within(CURVE, max_slowdown).peak_memory_mib == mib


@pytest.mark.parametrize(
    ("budget_mib", "mib"), [(100.0, 30.0), (30.0, 30.0), (29.9, 20.0), (10.0, 10.0), (9.9, None)]
)
def test_fastest_within_a_budget(budget_mib: float, mib: float | None) -> None:
    found = fastest_within(CURVE, budget_mib)
    assert (found and found.peak_memory_mib) == mib


def test_plans_that_another_beats_are_left_out_of_a_curve() -> None:
    beaten = [plan_of(31.0, 1.0), plan_of(20.0, 1.4), plan_of(25.0, 1.35), plan_of(10.0, 3.0)]
    assert not_beaten([*beaten, *reversed(CURVE)]) == CURVE


@pytest.mark.parametrize(
    ("stock_below_kib", "words"),
    [(0.0, ""), (1024.0, ", small blocks as PyTorch's own"), (ALL_STOCK_KIB, ", all as PyTorch's own")],
)
def test_a_plan_says_what_runs_as_pytorchs_own(stock_below_kib: float, words: str) -> None:
    config = dataclasses.replace(lean_plan(small(batch_size=8)), stock_below_kib=stock_below_kib)
    assert describe(config) == f"micro-batches of 8, nothing recomputed{words}"
    plan = Plan(
        micro_batch_size=8,
        checkpoint="none",
        stock_below_kib=stock_below_kib,
        peak_memory_mib=1.0,
        slowdown=1.0,
    )
    assert plan.describe() == f"8 at a time, nothing recomputed{words}"


def test_an_error_of_a_budget_travels_between_processes() -> None:
    error = pickle.loads(pickle.dumps(UnderFloorError("too little", small())))
    assert (str(error), error.smallest) == ("too little", small())
