import dataclasses
from typing import Any

import pytest

from tests.support.cases import small
from tests.support.sampled import sampled
from tinytl.config.plan import choices, formats, lean_plan
from tinytl.errors import ConfigError
from tinytl.memory.curve import curve_under_plan, memory_curve
from tinytl.memory.predict import needs_of, predict_memory


@pytest.mark.parametrize(
    "changes",
    sampled(
        [
            {"method": "TinyTL-B", "norm": "frozen_bn"},
            {"method": "TinyTL-L+B", "norm": "group_norm"},
            {"method": "FT-Norm+Last", "norm": "frozen_bn"},
            {"method": "FT-Full", "norm": "batch_norm"},
            {"method": "FT-Full", "norm": "frozen_bn", "engine": "stock"},
        ],
        3,
    ),
    ids=lambda changes: "-".join(changes.values()),
)
def test_curve_has_every_plan_that_no_other_beats(changes: dict[str, Any]) -> None:
    config = small(**changes, resolution=64)
    curve = memory_curve(config)
    every = [needs_of(choice) for choice in (*formats(config), *choices(config))]
    fastest = min(needs.seconds for needs in every)
    kept = [(one.peak_memory_mib, one.slowdown) for one in curve]
    assert kept == sorted(kept, reverse=True)
    assert curve[0].slowdown == 1
    for needs in every:
        mib, slowdown = needs.peak_mib, needs.seconds / fastest
        # Of recomputation that saves nothing, not each number of samples is looked at.
        beaten = any(peak <= mib / 0.99 and time <= slowdown for peak, time in kept)
        assert beaten, f"{mib} MiB at {slowdown} is missing"


def test_what_is_given_stays_in_every_plan() -> None:
    config = small(method="FT-Full", norm="frozen_bn", micro_batch_size=2)
    assert {one.micro_batch_size for one in memory_curve(config)} == {2}
    config = dataclasses.replace(config, micro_batch_size=None, checkpoint="all")
    assert {one.checkpoint for one in memory_curve(config)} == {"all"}


def test_a_configuration_that_leaves_nothing_open_has_one_plan() -> None:
    config = lean_plan(small(method="FT-Last", norm="frozen_bn"))
    (only,) = memory_curve(config)
    assert (only.peak_memory_mib, only.slowdown) == (predict_memory(config).peak_mib, 1.0)


@pytest.mark.parametrize("changes", [{"plan": "smallest"}, {"plan": "budget", "budget_mib": 1.0}])
def test_the_curve_does_not_depend_on_the_rule_that_chooses_from_it(changes: dict[str, Any]) -> None:
    config = small(method="FT-Last", norm="frozen_bn")
    assert memory_curve(dataclasses.replace(config, **changes)) == memory_curve(config)


def test_a_plan_makes_a_configuration_that_leaves_nothing_open() -> None:
    config = small(method="TinyTL-B", norm="frozen_bn", plan="budget", budget_mib=5.0)
    for one in memory_curve(config):
        planned = one.of(config)
        assert (planned.plan, planned.budget_mib) == ("fast", None)
        assert predict_memory(planned).peak_mib == one.peak_memory_mib


@pytest.mark.parametrize("plan", ["smallest", "budget"])
def test_a_plan_that_is_pinned_is_the_only_one(plan: str) -> None:
    config = small(method="FT-Full", norm="frozen_bn")
    least = memory_curve(config)[-1]
    pinned = dataclasses.replace(
        config, plan=plan, budget_mib=least.peak_memory_mib if plan == "budget" else None
    )
    (only,) = curve_under_plan(pinned)
    assert only.peak_memory_mib == least.peak_memory_mib
    assert curve_under_plan(config) == memory_curve(config)


def test_curve_needs_the_number_of_classes() -> None:
    with pytest.raises(ConfigError, match="num_classes"):
        memory_curve(small(num_classes=None))
