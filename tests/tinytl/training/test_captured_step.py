"""Without a GPU: a tape stands in for CUDA's graphs (`tests.support.taped_graphs`)."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.cases import SPREAD_CASES, small
from tests.support.host_syncs import HostSyncs
from tests.support.sampled import sampled
from tests.support.taped_graphs import CalledAgain, TapedGraphs
from tinytl.build import build_model
from tinytl.config.plan import lean_plan
from tinytl.config.train_config import TrainConfig
from tinytl.device import gpu_emulated
from tinytl.memory import fake_step
from tinytl.memory.fake_step import FakeStep
from tinytl.training import captured_step
from tinytl.training.captured_step import (
    SEVERAL_PROCESSES,
    CapturedStep,
    Graphs,
    nearly_equal,
    planned_step,
    step_refusal,
    warm_up_optimizer,
)
from tinytl.training.data_parallel import Ranks
from tinytl.training.mixed_precision import MixedPrecision
from tinytl.training.mixing import as_mixed
from tinytl.training.step import InputNormalizer, build_optimizer

CPU = torch.device("cpu")
SIZES = (4, 4, 4, 3, 4)
"""Samples of each step: the second is recorded, the fourth is a short one."""
CONFIG = small(method="TinyTL-L+B", norm="frozen_bn", micro_batch_size=2, dropout=0.3)


@pytest.fixture(autouse=True)
def on_a_gpu_s_path() -> Iterator[None]:
    with gpu_emulated():
        yield


class Training:
    """A network and its optimiser, trained on random batches; `graphs`: what records its steps."""

    losses: list[tuple[float, int]]
    """Of the steps of a run that others are compared with."""

    def __init__(self, config: TrainConfig, graphs: Graphs | None = None) -> None:
        self.config = dataclasses.replace(lean_plan(config), cuda_graph=graphs is not None)
        torch.manual_seed(0)
        self.net = build_model(self.config).net
        self.optimizer = build_optimizer(self.net, self.config)
        self.normalize, self.precision = InputNormalizer(config, CPU), MixedPrecision(config.precision, CPU)
        parts = (self.config, self.net, self.optimizer, self.normalize, self.precision)
        self.step = planned_step(*parts) if graphs is None else CapturedStep(*parts, graphs)

    def run(self, sizes: tuple[int, ...] = SIZES) -> list[tuple[float, int]]:
        """Takes a step for each size, at another learning rate; returns losses and hits."""
        torch.manual_seed(1)
        found = []
        for turn, n in enumerate(sizes):
            for group in self.optimizer.param_groups:
                group["lr"] = 2.0 ** -(8 + turn)
            loss, hits = self.step(*batch(self.config, n, seed=turn))
            found.append((float(loss), int(hits)))
        return found

    def state(self) -> dict[str, Tensor]:
        moments = {
            f"{number} {name}": value
            for number, values in self.optimizer.state_dict()["state"].items()
            for name, value in values.items()
        }
        return self.net.state_dict() | moments


def batch(config: TrainConfig, n: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (n, 3, config.resolution, config.resolution)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    labels = torch.arange(n) % 3
    if config.mixes_pictures:
        labels = as_mixed(labels, config, 0, seed)
    return images.contiguous(memory_format=torch.channels_last), labels


def assert_same_bits(one: Training, other: Training) -> None:
    own, theirs = one.state(), other.state()
    assert own.keys() == theirs.keys()
    assert [name for name in own if not torch.equal(own[name], theirs[name])] == []


@pytest.fixture(scope="module")
def plain() -> Training:
    """A training of CONFIG after a run whose steps are not recorded: what several are compared with."""
    with gpu_emulated():
        training = Training(CONFIG)
        training.losses = training.run()
    return training


RECORDED = {
    f"{name}-{precision}-{optimizer}-{checkpoint}": dataclasses.replace(
        config, precision=precision, optimizer=optimizer, checkpoint=checkpoint
    )
    for (name, config), precision, optimizer, checkpoint in zip(
        SPREAD_CASES.items(),
        itertools.cycle(("float32", "bfloat16")),
        itertools.cycle(("adam", "sgd", "adamw")),
        itertools.cycle(("none", "depthwise", "none")),
        strict=False,
    )
}


@pytest.mark.parametrize("config", sampled(RECORDED.values(), 11), ids=RECORDED)
def test_replays_train_to_the_same_bits_as_steps_that_are_not_recorded(config: TrainConfig) -> None:
    graphs = TapedGraphs()
    recorded, plain = Training(config, graphs), Training(config)
    assert recorded.run() == plain.run()
    assert_same_bits(recorded, plain)
    passes, steps = (tape.plays for tape in graphs.tapes)
    n_passes = 4 // recorded.config.samples_in_memory
    assert (passes, steps) == (1 + 3 * n_passes, 3)  # one was compared with its like


@pytest.mark.parametrize(
    "changes", sampled([{"class_weighting": "inverse", "precision": "bfloat16"}, {}], 2), ids=str
)
def test_replays_of_mixed_labels_train_to_the_same_bits(changes: dict[str, Any]) -> None:
    config = dataclasses.replace(CONFIG, mixup_alpha=1.0, **changes)
    recorded, plain = Training(config, TapedGraphs()), Training(config)
    assert recorded.run() == plain.run()
    assert_same_bits(recorded, plain)
    assert isinstance(recorded.step, CapturedStep) and recorded.step.buffers is not None


@pytest.mark.parametrize("optimizer", sampled(["adam", "adamw"], 2))
def test_replays_of_8_bit_moments_train_to_the_same_bits(optimizer: str) -> None:
    config = small(
        method="FT-Full", norm="frozen_bn", optimizer=optimizer, moments="int8", micro_batch_size=2
    )
    recorded, plain = Training(config, TapedGraphs()), Training(config)
    assert recorded.run() == plain.run()
    assert_same_bits(recorded, plain)
    assert isinstance(recorded.step, CapturedStep) and recorded.step.buffers is not None


def test_a_tape_is_not_its_python(monkeypatch: pytest.MonkeyPatch) -> None:
    # What the tests of this file rest on: a change that is in no memory which the tape reads has no effect.
    graphs = TapedGraphs()
    recorded = Training(CONFIG, graphs)
    recorded.run((4, 4))
    monkeypatch.setattr(recorded.net, "forward", lambda *_: pytest.fail("Python ran"))
    recorded.run((4,))
    assert graphs.tapes[0].plays == 5


def test_masks_and_rates_of_each_step_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = Training(CONFIG, TapedGraphs())
    step = recorded.step
    recorded.run((4, 4))
    assert isinstance(step, CapturedStep) and step.buffers is not None
    seen: list[tuple[Tensor, float]] = []
    replay = step._replay_gradients
    assert replay is not None

    def looked_at() -> None:
        assert step.buffers is not None
        (mask,) = step.buffers.masks.values()
        seen.append((mask.clone(), float(step.buffers.images.float().mean())))
        replay()

    monkeypatch.setattr(step, "_replay_gradients", looked_at)
    recorded.run((4,))
    (first, images), (second, others) = seen
    assert not torch.equal(first, second) and images != others
    torch.manual_seed(1)
    assert torch.equal(first, torch.rand(first.shape) >= 0.3)
    assert [float(lr) for lr in step.buffers.lrs] == [2.0**-8] * len(recorded.optimizer.param_groups)
    assert all("drawn" not in vars(module) for module in recorded.net.modules())


def test_groups_and_checkpoints_are_those_of_a_step_that_is_not_recorded(plain: Training) -> None:
    recorded = Training(CONFIG, TapedGraphs())
    recorded.run()
    assert recorded.optimizer.state_dict()["param_groups"] == plain.optimizer.state_dict()["param_groups"]


def test_gradients_stay_and_are_zero_between_steps() -> None:
    recorded = Training(CONFIG, TapedGraphs())
    recorded.run((4,))
    trained = [p for p in recorded.net.parameters() if p.requires_grad]
    assert all(p.grad is None for p in trained)
    recorded.run((4, 3))
    kept = [p.grad for p in trained]
    recorded.run((4,))
    for parameter, gradient in zip(trained, kept, strict=True):
        assert gradient is not None and parameter.grad is gradient and not gradient.any()


def test_rates_are_rounded_as_graphs_read_them() -> None:
    recorded = Training(CONFIG, TapedGraphs())
    for group in recorded.optimizer.param_groups:
        group["lr"] = 0.1
    recorded.step(*batch(CONFIG, 4, 0))
    assert {group["lr"] for group in recorded.optimizer.param_groups} == {float(torch.tensor(0.1))}


def test_recording_leaves_running_statistics_and_random_numbers() -> None:
    config = small(method="FT-Full", norm="batch_norm")
    recorded = Training(config, TapedGraphs())
    recorded.run((4,))
    before = {name: buffer.clone() for name, buffer in recorded.net.named_buffers()}
    state = torch.get_rng_state()
    assert isinstance(recorded.step, CapturedStep)
    recorded.step._record(*batch(config, 4, 0))
    assert recorded.step.buffers is not None and len(before) > 0
    assert all(torch.equal(buffer, before[name]) for name, buffer in recorded.net.named_buffers())
    assert torch.equal(torch.get_rng_state(), state)


class Broken(TapedGraphs):
    """Fails at its `nth` recording as `fail` does, or returns that."""

    def __init__(self, nth: int, fail: Callable[[], Any]) -> None:
        super().__init__()
        self.left, self.fail = nth, fail

    def capture(self, run: Callable[[], object]) -> Callable[[], object]:
        self.left -= 1
        return super().capture(run) if self.left else self.fail()


def raising(error: Exception) -> Callable[[], Any]:
    def fail() -> Any:
        raise error

    return fail


def nothing() -> Callable[[], object]:
    return lambda: None


REFUSALS = {
    "no recording": (
        raising(RuntimeError("CUDA error: operation not permitted\nlong")),
        "recording it failed (CUDA error: operation not permitted)",
    ),
    "no memory": (
        raising(torch.OutOfMemoryError("CUDA out of memory")),
        "the GPU's memory has no room for it",
    ),
}


@pytest.mark.parametrize(("name", "nth"), sampled(itertools.product(REFUSALS, (1, 2)), 3))
def test_what_cannot_be_recorded_runs_as_it_is_and_says_why(
    name: str, nth: int, plain: Training, caplog: pytest.LogCaptureFixture
) -> None:
    fail, reason = REFUSALS[name]
    refused = Training(CONFIG, Broken(nth, fail))
    assert refused.run() == plain.losses
    assert_same_bits(refused, plain)
    assert isinstance(refused.step, CapturedStep) and refused.step.refusal == reason
    assert [record.message for record in caplog.records] == [f"steps run without a CUDA graph: {reason}"]
    assert all(parameter.grad is None for parameter in refused.net.parameters())


def test_a_graph_with_other_gradients_is_not_used(plain: Training) -> None:
    refused = Training(CONFIG, Broken(1, nothing))
    assert refused.run() == plain.losses
    assert_same_bits(refused, plain)
    assert isinstance(refused.step, CapturedStep)
    assert refused.step.refusal == "its gradients are not those of the same pass without one"


def test_a_mistake_in_a_network_is_not_one_of_recording() -> None:
    recorded = Training(CONFIG, TapedGraphs())
    recorded.run((4,))
    recorded.net.register_forward_hook(raising(RuntimeError("a mistake")))  # type: ignore[arg-type]
    with pytest.raises((RuntimeError, TypeError)):
        recorded.run((4,))
    assert isinstance(recorded.step, CapturedStep) and recorded.step.refusal is None


def test_reading_a_value_or_a_random_number_cannot_be_recorded() -> None:
    for run in (lambda: float(torch.ones(())), lambda: torch.rand(2)):
        with pytest.raises(RuntimeError, match="not permitted when stream is capturing"):
            TapedGraphs().capture(run)


@pytest.mark.parametrize(
    ("changes", "ranks", "reason"),
    [
        ({}, Ranks(), None),
        ({"cuda_graph": False, "precision": "float16"}, Ranks(), None),
        ({}, Ranks(0, 2), SEVERAL_PROCESSES),
        (
            {"precision": "float16"},
            Ranks(),
            "float16 scales its loss, and the host reads whether a step overflowed",
        ),
        (
            {"checkpoint": "all", "engine": "stock"},
            Ranks(),
            "PyTorch's way to recompute blocks reads the state of the GPU's random numbers",
        ),
    ],
    ids=["fine", "not asked", "ranks", "float16", "checkpoints"],
)
def test_what_is_known_beforehand_is_refused(
    changes: dict[str, Any], ranks: Ranks, reason: str | None
) -> None:
    config = lean_plan(small(**{"norm": "frozen_bn", "cuda_graph": True} | changes))
    assert step_refusal(config, ranks) == reason


def test_a_cpu_has_no_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    config = lean_plan(small(cuda_graph=True))
    assert step_refusal(config) is None
    monkeypatch.setattr("tinytl.device._Path.emulates_gpu", False)
    assert step_refusal(config) == "a CPU has none"
    assert step_refusal(dataclasses.replace(config, device="cuda")) is None


def test_nearly_equal_is_about_the_norm_of_all() -> None:
    one = [torch.tensor([3.0, 4.0]), torch.zeros(2)]
    assert nearly_equal([torch.tensor([3.0, 4.049]), torch.zeros(2)], one)
    assert not nearly_equal([torch.tensor([3.0, 4.0]), torch.full((2,), 0.05)], one)
    assert not nearly_equal([torch.tensor([3.0, torch.nan]), torch.zeros(2)], one)


@pytest.mark.parametrize(
    ("optimizer", "moments"),
    [*itertools.product(("adam", "adamw"), ("float32", "int8")), ("sgd", "float32")],
)
def test_warming_up_an_optimizer_leaves_it_alone(optimizer: str, moments: str) -> None:
    config = small(method="FT-Last", optimizer=optimizer, moments=moments)
    net = build_model(config).net
    built = build_optimizer(net, config)
    before = built.state_dict()
    warm_up_optimizer(built, CPU)
    assert built.state_dict() == before and all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize(
    ("method", "optimizer"),
    sampled(itertools.product(("TinyTL-L+B", "FT-Full"), ("adam", "sgd", "adam int8")), 5),
)
def test_the_host_does_not_wait_for_a_gpu_in_a_replay(
    method: str, optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, _, moments = optimizer.partition(" ")
    config = dataclasses.replace(CONFIG, device="cuda", method=method, optimizer=name, cuda_graph=True)
    config = dataclasses.replace(lean_plan(config), norm="frozen_bn", moments=moments or "float32")
    syncs, replayed = HostSyncs(), []

    def step_of(config: TrainConfig, net: nn.Module, optimizer: Any, device: torch.device) -> Any:
        normalize, precision = InputNormalizer(config, device), MixedPrecision(config.precision, device)
        step = CapturedStep(config, net, optimizer, normalize, precision, CalledAgain())

        def run(images: Tensor, labels: Tensor, **_: Any) -> Any:
            images, labels = images.repeat(2, 1, 1, 1), labels.repeat(2)
            step._prepare(images, labels)
            with syncs:
                replayed.append(step(images, labels))

        return run

    monkeypatch.setattr(fake_step, "step_of", step_of)
    monkeypatch.setattr(captured_step, "nearly_equal", lambda *_: True)  # fake tensors have no values
    FakeStep(config).run(config)
    assert replayed and syncs.found == []
