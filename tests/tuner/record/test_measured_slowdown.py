"""The slowdown of the front's plans, measured once and kept."""

import json
import math
from pathlib import Path

import pytest

from tests.support.cases import small
from tinytl.config.plan import Plan, lean_plan
from tinytl.config.train_config import TrainConfig
from tinytl.errors import ConfigError
from tuner.record.measured_slowdown import FILE, known_slowdowns, measure_slowdowns
from tuner.record.trials import Trial

CURVE = [
    Plan(micro_batch_size=n, checkpoint="none", stock_below_kib=0.0, peak_memory_mib=mib, slowdown=slowdown)
    for n, mib, slowdown in [(4, 40.0, 1.0), (2, 25.0, 1.6), (1, 20.0, 3.0)]
]


def trial(name: str, peak_mib: float, curve: list[Plan] = CURVE) -> Trial:
    return Trial(name=name, params={}, accuracy_top1=0.5, peak_memory_mib=peak_mib, curve=curve)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[list[TrainConfig]]:
    """What was run; a step needs a second per pass."""
    asked: list[list[TrainConfig]] = []

    def seconds(configs: list[TrainConfig]) -> list[float]:
        asked.append(configs)
        return [config.batch_size / config.samples_in_memory for config in configs]

    monkeypatch.setattr("tinytl.step_time.measure.measured_seconds", seconds)
    return asked


CONFIG = lean_plan(small(batch_size=4))


def test_the_plan_of_the_front_is_compared_with_the_fastest(
    measured: list[list[TrainConfig]], tmp_path: Path
) -> None:
    front = [trial("a", 25.0), trial("b", 20.0), trial("fast", 40.0), trial("old", 9.0, [])]
    measure_slowdowns(tmp_path, front, {one.name: CONFIG for one in front})
    assert known_slowdowns(tmp_path) == {"a": 2.0, "b": 4.0, "fast": 1.0}
    assert [[config.micro_batch_size for config in pair] for pair in measured] == [[2, 4], [1, 4]]
    measure_slowdowns(tmp_path, [*front, trial("new", 25.0)], {"new": CONFIG})
    assert len(measured) == 3 and list(known_slowdowns(tmp_path)) == ["a", "b", "fast", "new"]


def test_a_real_step_is_measured(tmp_path: Path) -> None:
    measure_slowdowns(tmp_path, [trial("a", 20.0)], {"a": CONFIG})
    assert 1 < json.loads((tmp_path / FILE).read_text())["a"] < 10


def test_nothing_was_measured_or_the_file_is_damaged(tmp_path: Path) -> None:
    assert known_slowdowns(tmp_path) == {}
    (tmp_path / FILE).write_text("[]")
    with pytest.raises(ConfigError, match=r"slowdown\.json is damaged: remove it"):
        known_slowdowns(tmp_path)


def test_another_plan_has_another_slowdown() -> None:
    one = Trial(name="a", params={}, peak_memory_mib=25.0, curve=CURVE, measured_slowdown=1.7)
    assert one.under(30.0).measured_slowdown == 1.7
    assert math.isnan(one.under(21.0).measured_slowdown)
