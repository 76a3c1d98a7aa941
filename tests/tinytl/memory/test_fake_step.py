import dataclasses
from typing import Any

import pytest
import torch

from tests.support.cases import small
from tests.support.sampled import sampled
from tests.support.taped_graphs import CalledAgain
from tinytl.build import build_model
from tinytl.config.plan import choices, lean_plan
from tinytl.device import gpu_emulated
from tinytl.memory.fake_step import FakeStep
from tinytl.memory.measure import MIB
from tinytl.memory.predict import predict_memory
from tinytl.memory.prediction import OF_GRAPHS, PARTS
from tinytl.memory.storage_tracker import StorageTracker
from tinytl.training.captured_step import CapturedStep
from tinytl.training.mixed_precision import MixedPrecision
from tinytl.training.step import InputNormalizer, build_optimizer, random_batch

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "changes",
    sampled(
        [
            {"method": "FT-Full", "norm": "batch_norm"},
            {"method": "TinyTL-L+B", "norm": "group_norm"},
            {"method": "FT-Norm+Last", "norm": "frozen_bn", "engine": "stock"},
        ],
        3,
    ),
    ids=lambda changes: "-".join(changes.values()),
)
def test_one_network_serves_all_plans_in_any_order(changes: dict[str, Any]) -> None:
    plans = choices(small(**changes, batch_size=2))
    alone = [FakeStep(plan).run(plan).prediction() for plan in plans]
    step = FakeStep(plans[0])
    assert [step.run(plan).prediction() for plan in reversed(plans)] == alone[::-1]


def test_a_later_pass_adds_to_gradients_that_exist() -> None:
    plan = next(p for p in choices(small(method="FT-Full", norm="frozen_bn")) if p.micro_batch_size == 1)
    step = FakeStep(plan)
    parts = step.run(plan).prediction().parts_mib
    trained = sum(p.numel() * 4 for p in step.net.parameters())
    assert parts["gradients"] * MIB == trained
    one_pass = dataclasses.replace(plan, micro_batch_size=4)
    assert step.run(one_pass).prediction().parts_mib["gradients"] * MIB < trained


def test_nothing_is_left_of_a_run() -> None:
    plan = choices(small(method="TinyTL-B", norm="frozen_bn"))[0]
    step = FakeStep(plan)
    first = step.run(plan).prediction()
    assert all(parameter.grad is None for parameter in step.net.parameters())
    assert not any(parameter._post_accumulate_grad_hooks for parameter in step.net.parameters())
    assert step.run(plan).prediction() == first
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    "changes",
    sampled(
        [
            {"method": "TinyTL-L+B", "norm": "frozen_bn", "micro_batch_size": 2},
            {"method": "FT-Full", "norm": "group_norm", "engine": "stock"},
            {"method": "FT-Last", "norm": "frozen_bn"},
            {"method": "FT-Full", "norm": "batch_norm", "optimizer": "sgd"},
        ],
        3,
    ),
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_a_recorded_step_holds_what_is_predicted(changes: dict[str, Any]) -> None:
    plan = lean_plan(small(**changes, dropout=0.0, resolution=64, device="cuda", cuda_graph=True))
    predicted = FakeStep(plan).run(plan).prediction()
    with gpu_emulated():
        config = dataclasses.replace(plan, device="cpu")
        net = build_model(config).net
        optimizer = build_optimizer(net, config)
        normalize, precision = InputNormalizer(config, CPU), MixedPrecision("float32", CPU)
        step = CapturedStep(config, net, optimizer, normalize, precision, CalledAgain())
        batch = random_batch(config, CPU)
        step(*batch)
        step(*batch)
        tracker = StorageTracker(on_cpu=False)
        tracker.add_state(net, optimizer, batch)
        tracker.add_existing("gradients", [p.grad for p in net.parameters() if p.grad is not None])
        assert step.buffers is not None
        tracker.add_existing(OF_GRAPHS, step.buffers.tensors)
        with tracker.modules, tracker:
            step(*batch)
    followed = tracker.prediction()
    assert predicted.peak_mib == pytest.approx(followed.peak_mib, rel=0.01)
    for part in ("gradients", OF_GRAPHS):
        assert predicted.parts_mib[part] == pytest.approx(followed.parts_mib[part])
    assert sum(predicted.parts_mib.values()) == pytest.approx(predicted.peak_mib)


def test_a_recorded_step_needs_its_gradients_and_buffers_more() -> None:
    plan = lean_plan(small(method="FT-Full", norm="frozen_bn", device="cuda"))
    recorded = dataclasses.replace(plan, cuda_graph=True)
    step = FakeStep(plan)
    plain, graph = step.run(plan).prediction(), step.run(recorded).prediction()
    trained = sum(p.numel() * 4 for p in step.net.parameters())
    assert plain.parts_mib.keys() == set(PARTS) and graph.parts_mib.keys() == {*PARTS, OF_GRAPHS}
    assert graph.parts_mib["gradients"] * MIB > trained
    images = 4 * 3 * 32 * 32
    assert images < graph.parts_mib[OF_GRAPHS] * MIB < images + 4 * 1280 + 20 * 512
    assert graph.peak_mib > plain.peak_mib
    assert step.run(plan).prediction().peak_mib == pytest.approx(plain.peak_mib, rel=1e-3)


def test_a_graph_that_a_cpu_does_not_have_needs_nothing() -> None:
    config = lean_plan(small(method="FT-Last", norm="frozen_bn"))
    asked = dataclasses.replace(config, cuda_graph=True)
    assert predict_memory(asked) == predict_memory(config)
    on_gpu, asked_on_gpu = (dataclasses.replace(c, device="cuda") for c in (config, asked))
    assert predict_memory(asked_on_gpu).peak_mib > predict_memory(on_gpu).peak_mib


def test_a_prediction_for_a_gpu_does_not_depend_on_what_was_predicted_before() -> None:
    config = lean_plan(small(method="TinyTL-B", norm="frozen_bn", dropout=0.2, resolution=64, device="cuda"))
    step = FakeStep(config)
    peaks = [step.run(config).prediction().peak_mib for _ in range(2)]
    assert {*peaks, FakeStep(config).run(config).prediction().peak_mib} == {peaks[0]}
