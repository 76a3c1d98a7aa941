import dataclasses
from typing import Any

import pytest

from tests.support.cases import small
from tests.support.sampled import sampled
from tinytl.config.plan import lean_plan
from tinytl.errors import ConfigError
from tinytl.memory.largest_batch import max_batch_size
from tinytl.memory.predict import predict_memory
from tinytl.memory.prediction import PARTS


@pytest.mark.parametrize(
    "changes",
    sampled(
        [
            {"method": "FT-Last"},
            {"method": "FT-Last", "micro_batch_size": 3, "batch_size": 3},
            {"method": "TinyTL-B", "norm": "batch_norm"},
        ],
        3,
    ),
)
def test_max_batch_size_is_the_largest_that_fits(changes: dict[str, Any]) -> None:
    config = small(**{"norm": "frozen_bn", "stock_below_kib": 0.0} | changes)
    step = config.micro_batch_size or 1
    wanted = 7 * step

    def peak(batch_size: int) -> float:
        return predict_memory(dataclasses.replace(config, batch_size=batch_size)).peak_mib

    for budget in (peak(wanted), (peak(wanted) + peak(wanted + step)) / 2):
        assert max_batch_size(config, budget) == wanted


@pytest.mark.slow  # a plan for each batch size
def test_max_batch_size_under_a_plan() -> None:
    config = small(method="FT-Last", norm="frozen_bn", checkpoint="none", stock_below_kib=0.0)
    smallest = dataclasses.replace(config, plan="smallest")
    budget = predict_memory(dataclasses.replace(smallest, batch_size=6)).peak_mib
    assert max_batch_size(config, budget) < max_batch_size(smallest, budget) == 6
    assert max_batch_size(dataclasses.replace(config, plan="budget", budget_mib=1.0), budget) == 6


@pytest.mark.parametrize(("norm", "smallest"), [("frozen_bn", 1), ("batch_norm", 2)])
def test_max_batch_size_names_what_the_smallest_batch_takes(norm: str, smallest: int) -> None:
    config = small(method="FT-Full", norm=norm)
    predicted = predict_memory(lean_plan(dataclasses.replace(config, batch_size=smallest)))
    part = max(PARTS, key=lambda name: predicted.parts_mib[name])
    with pytest.raises(ConfigError) as caught:
        max_batch_size(config, 5.5)
    assert str(caught.value) == (
        f"budget_mib=5.5 is under what batch_size={smallest} needs: {predicted.peak_mib:.1f} MiB at "
        f"{predicted.peak_at}, most of it {part} ({predicted.parts_mib[part]:.1f} MiB)"
    )
    assert part == "optimizer"
