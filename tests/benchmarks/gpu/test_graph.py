"""What a benchmark calls a graph is one, or says why it is none."""

import dataclasses

import pytest
import torch

from benchmarks.gpu.check import METHODS
from benchmarks.gpu.graph import NEEDS_GPU, recorded_step, trained_alike, trained_apart
from tests.support.cases import small
from tests.support.taped_graphs import TapedGraphs
from tinytl.config.plan import lean_plan
from tinytl.device import gpu_emulated
from tinytl.training import captured_step

CONFIG = lean_plan(small(method="FT-Last", norm="frozen_bn", base_lr=2.0**-10))


def test_without_a_gpu_nothing_is_called_a_graph() -> None:
    with pytest.raises(RuntimeError, match=NEEDS_GPU):
        recorded_step(CONFIG)
    assert trained_alike(METHODS, torch.device("cpu")) == {"why": NEEDS_GPU}


def test_a_step_that_is_refused_is_not_timed_as_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(run: object) -> None:
        raise RuntimeError("no")

    graphs = TapedGraphs()
    monkeypatch.setattr(graphs, "capture", refuse)
    monkeypatch.setattr(captured_step, "new_graphs", lambda: graphs)
    with gpu_emulated():
        with pytest.raises(RuntimeError, match=r"^recording it failed \(no\)$"):
            recorded_step(CONFIG)
        assert trained_apart(CONFIG) == (0.0, "recording it failed (no)")


def test_other_numbers_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captured_step, "new_graphs", TapedGraphs)
    with gpu_emulated():
        off, refusal = trained_apart(dataclasses.replace(CONFIG, base_lr=3e-4))  # which graphs round
    assert refusal is None and 0.0 < off < 1e-4
