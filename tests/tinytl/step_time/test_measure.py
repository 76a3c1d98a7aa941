"""Real steps, and the estimate beside them."""

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch

from tests.support.cases import small
from tests.support.taped_graphs import TapedGraphs
from tinytl.config.plan import lean_plan
from tinytl.config.train_config import TrainConfig
from tinytl.device import gpu_emulated
from tinytl.step_time import measure
from tinytl.step_time.measure import measured_seconds, prepared_step
from tinytl.training import captured_step


def test_steps_are_measured_in_turns_and_nothing_else_changes() -> None:
    fast = lean_plan(small(method="TinyTL-B", norm="frozen_bn", batch_size=8, resolution=64))
    slow = dataclasses.replace(fast, micro_batch_size=1)
    torch.manual_seed(5)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    seconds, of_slow = measured_seconds([fast, slow], rounds=2)
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads
    assert of_slow > 1.5 * seconds > 0  # eight passes; 2.5 to 5 times on machines seen so far


def test_a_step_as_a_graph_is_recorded_before_it_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = TapedGraphs()
    monkeypatch.setattr(captured_step, "new_graphs", lambda: graphs)
    with gpu_emulated():
        step = prepared_step(lean_plan(small(method="FT-Last", norm="frozen_bn", cuda_graph=True)))
        before = [tape.plays for tape in graphs.tapes]
        step()
    assert before == [2, 1] and [tape.plays for tape in graphs.tapes] == [3, 2]


def test_what_a_gpu_has_no_room_for_takes_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    def prepared(config: TrainConfig) -> Callable[[], None]:
        if config.batch_size == 64:
            full()
        return full if config.batch_size == 32 else lambda: None

    monkeypatch.setattr(measure, "prepared_step", prepared)
    configs = [small(batch_size=n) for n in (8, 32, 64)]
    seconds = measured_seconds(configs)
    assert seconds[0] < 1 and seconds[1:] == [math.inf, math.inf]
