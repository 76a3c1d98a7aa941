import statistics
from dataclasses import replace

import pytest

from benchmarks.search.driven_study import Meter, Size, drive_apart, made_up_curve
from tinytl.config.train_config import TrainConfig

SIZE = Size(trials=12, epochs=3, workers=4, sampler="random", scheduler="pareto", storage="journal")


@pytest.mark.slow
def test_a_small_study_is_driven_to_its_end_and_its_calls_are_timed(tmp_path):
    found = drive_apart(SIZE, str(tmp_path), None)
    ended = found["trials_by_state"]
    assert ended["complete"] + ended["pruned"] + ended["failed"] == 12 and ended["pruned"]
    assert 12 < found["reports"] < 36
    assert {"report_ms", "find_ms", "propose_ms", "suggest_ms", "complete_ms"} <= found.keys()
    more = replace(SIZE, trials=16)
    assert drive_apart(more, str(tmp_path), None, resume=True).keys() >= {"resume_s"}


@pytest.mark.parametrize("norm", ["batch_norm", "frozen_bn"])
def test_a_made_up_curve_falls_in_memory_as_it_rises_in_time(norm):
    config = TrainConfig(num_classes=10, norm=norm, batch_size=16)
    curve = made_up_curve(config)
    memories, slowdowns = [p.peak_memory_mib for p in curve], [p.slowdown for p in curve]
    assert slowdowns[0] == 1.0 and slowdowns == sorted(slowdowns)
    assert memories[0] == max(memories) and memories[-1] == min(memories)
    for plan in curve:
        plan.of(config)  # raises for a plan that does not suit the configuration


def test_calls_are_timed_by_tenth_of_the_study():
    meter = Meter(trials=20)
    call = meter.timed("report", lambda: None)
    for _ in range(20):
        call()
        meter.trial_ended(warm_up=5)
    found = meter.figures()
    assert found["reports"] == 20 and len(found["report_ms_by_tenth"]) == 10
    assert statistics.fmean(found["report_ms_by_tenth"]) == pytest.approx(found["report_ms"], abs=1e-4)
