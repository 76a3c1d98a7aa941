import contextlib
import copy
import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from tests.support.cases import SPREAD_CASES, small
from tests.support.host_syncs import HostSyncs
from tests.support.repeatable import LEFT_TO_CUDNN, UnrepeatableOperations
from tests.support.sampled import sampled
from tinytl.build import build_model
from tinytl.config.names import LITE_METHODS, METHOD_GROUPS, RANDOM_BRANCHES_LR_RATIO
from tinytl.config.train_config import LrRatio, TrainConfig
from tinytl.memory import fake_step
from tinytl.memory.fake_step import FakeStep
from tinytl.memory.predict import resolve_plan
from tinytl.networks.frozen_batch_norm import FrozenBatchNorm2d
from tinytl.training.int8_adam import Int8Adam
from tinytl.training.step import (
    InputNormalizer,
    build_optimizer,
    lay_out_moments_,
    step_of,
    training_step,
)

CPU = torch.device("cpu")


class _Recorder(torch.optim.SGD):
    """Keeps the gradients that it is given, and changes nothing."""

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        self.gradients = [
            p.grad.clone() for g in self.param_groups for p in g["params"] if p.grad is not None
        ]


def _batch(config: TrainConfig) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    size = (config.batch_size, 3, config.resolution, config.resolution)
    images = torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)
    return images, torch.arange(config.batch_size) % 3


def _step(
    config: TrainConfig, net: nn.Module, optimizer: torch.optim.Optimizer, seed: int
) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    images, labels = _batch(config)
    return training_step(
        net,
        optimizer,
        InputNormalizer(config, CPU),
        images,
        labels,
        micro_batch_size=config.samples_in_memory,
        label_smoothing=config.label_smoothing,
    )


@torch.no_grad()
def _awake(config: TrainConfig) -> nn.Module:
    """A network in which every parameter matters, as in a trained one.

    Lite branches start at zero, where their gradients vanish; so do activations behind random weights with
    frozen statistics of 0 and 1: here those are the batch's.
    """
    torch.manual_seed(0)
    net = build_model(config).net
    for name, parameter in net.named_parameters():
        if name.endswith("final_bn.weight"):
            nn.init.constant_(parameter, 0.5)

    def take_statistics(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        variance, mean = torch.var_mean(inputs[0], (0, 2, 3))
        norm.get_buffer("running_mean").copy_(mean)
        norm.get_buffer("running_var").copy_(variance)

    frozen = [module for module in net.modules() if isinstance(module, FrozenBatchNorm2d)]
    hooks = [module.register_forward_pre_hook(take_statistics) for module in frozen]
    net(InputNormalizer(config, CPU)(_batch(config)[0]))
    for hook in hooks:
        hook.remove()
    return net


@pytest.mark.parametrize("norm", ["frozen_bn", "batch_norm", "group_norm"])
def test_contiguous_maps_give_the_gradients_of_channels_last(norm: str) -> None:
    found = []
    for form in ("channels_last", "contiguous"):
        config = resolve_plan(small(norm=norm, method="FT-Full", engine="stock", memory_format=form))
        torch.manual_seed(0)
        net = build_model(config).net.double()
        images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
        maps = InputNormalizer(config, torch.device("cpu"))(images)
        assert maps.is_contiguous() == (form == "contiguous")
        weight = net.get_parameter("features.0.0.weight")
        assert weight.is_contiguous() == (form == "contiguous")
        F.cross_entropy(net(maps.double()), torch.zeros(4, dtype=torch.int64)).backward()
        found.append([parameter.grad for parameter in net.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-10)


def test_moments_of_another_memory_format_are_laid_out_as_their_parameters() -> None:
    def stepped(parameter: nn.Parameter, optimizer: torch.optim.Optimizer) -> Tensor:
        parameter.grad = torch.arange(24.0).view(2, 3, 2, 2).to(memory_format=form_of(parameter))
        optimizer.step()
        return parameter.detach().clone()

    def form_of(tensor: Tensor) -> torch.memory_format:
        return torch.contiguous_format if tensor.is_contiguous() else torch.channels_last

    values = torch.randn(2, 3, 2, 2)
    one = nn.Parameter(values.clone().contiguous(memory_format=torch.channels_last))
    first = torch.optim.Adam([one], 0.1, fused=True)
    stepped(one, first)
    other = nn.Parameter(one.detach().contiguous())
    second = torch.optim.Adam([other], 0.1, fused=True)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    lay_out_moments_(second)
    assert second.state[other]["exp_avg"].is_contiguous()
    torch.testing.assert_close(stepped(other, second), stepped(one, first))


@pytest.mark.parametrize(
    ("norm", "method"),
    sampled(itertools.product(("frozen_bn", "group_norm"), ("FT-Full", "TinyTL-L+B")), 3),
)
def test_micro_batches_give_the_gradient_of_the_whole(norm: str, method: str) -> None:
    config = small(norm=norm, method=method, dropout=0.3, label_smoothing=0.1, batch_size=5)
    net = _awake(config).double()  # so that no kink of ReLU6 lies within rounding
    found = []
    for micro in (5, 2, 1):  # 2 leaves a last slice of one
        optimizer = _Recorder([p for p in net.parameters() if p.requires_grad], 1.0)
        torch.manual_seed(7)
        images, labels = _batch(config)
        loss, correct = training_step(
            net,
            optimizer,
            InputNormalizer(config, CPU),
            images,
            labels,
            micro_batch_size=micro,
            label_smoothing=config.label_smoothing,
        )
        assert all(p.grad is None for p in net.parameters())
        found.append((optimizer.gradients, loss.item(), correct.item()))
    whole, whole_loss, whole_correct = found[0]
    largest = max(gradient.norm() for gradient in whole)
    assert sum(bool(gradient.any()) for gradient in whole) == len(whole)
    for gradients, loss_sum, correct_sum in found[1:]:
        # One kink of ReLU6 within rounding, and some torch has one, moves a gradient by 2e-4 of it.
        assert loss_sum == pytest.approx(whole_loss, rel=1e-4)
        assert correct_sum == whole_correct
        for one, other in zip(whole, gradients, strict=True):
            assert (one - other).norm() <= 1e-9 * (one.norm() + largest)


def test_loss_and_gradient_are_those_of_the_mean_cross_entropy() -> None:
    config = small(norm="frozen_bn", method="FT-Full", dropout=0.0, label_smoothing=0.2)
    net = _awake(config)
    images, labels = _batch(config)
    logits = net(InputNormalizer(config, CPU)(images))
    F.cross_entropy(logits, labels, label_smoothing=0.2).backward()
    expected = [p.grad for p in net.parameters()]
    net.zero_grad()
    optimizer = _Recorder(net.parameters(), 1.0)
    loss_sum, correct = _step(config, net, optimizer, seed=0)
    assert loss_sum.item() == pytest.approx(
        F.cross_entropy(logits, labels, label_smoothing=0.2, reduction="sum").item(), rel=1e-5
    )
    assert correct.item() == (logits.argmax(1) == labels).sum().item()
    for one, other in zip(expected, optimizer.gradients, strict=True):
        assert one is not None
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("optimizer", "ratio"), [("adam", RANDOM_BRANCHES_LR_RATIO), ("sgd", 1.0)])
def test_random_branches_train_at_their_own_rate(optimizer: str, ratio: float) -> None:
    config = small(method="TinyTL-L+B", optimizer=optimizer, base_lr=1e-3)
    built = build_optimizer(_awake(config), config)
    rates = {group["name"]: group["lr"] for group in built.param_groups}
    assert rates == {"classifier": 1e-3, "lite_residual": 1e-3 * ratio, "bias": 1e-3}


@pytest.mark.parametrize(
    ("optimizer", "kind", "state"),
    [
        ("adam", torch.optim.Adam, {"step", "exp_avg", "exp_avg_sq"}),
        ("adamw", torch.optim.AdamW, {"step", "exp_avg", "exp_avg_sq"}),
        ("sgd", torch.optim.SGD, {"momentum_buffer"}),
    ],
)
def test_optimizers(optimizer: str, kind: type[torch.optim.Optimizer], state: set[str]) -> None:
    config = small(optimizer=optimizer, method="TinyTL-B", weight_decay=0.01, base_lr=1e-3)
    net = _awake(config)
    built = build_optimizer(net, config)
    assert isinstance(built, kind)
    assert [g["name"] for g in built.param_groups] == list(METHOD_GROUPS["TinyTL-B"])
    assert {(g["lr"], g["weight_decay"], g["fused"]) for g in built.param_groups} == {(1e-3, 0.01, True)}
    if optimizer == "sgd":
        assert {g["momentum"] for g in built.param_groups} == {0.9}
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    _step(config, net, built, seed=0)
    trained = {id(p) for p in net.parameters() if p.requires_grad}
    assert {id(p) for p in built.state} == trained
    assert all(set(s) == state for s in built.state.values())
    moved = {name for name, p in net.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name, p in net.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("optimizer", sampled(["adamw", "adam"], 2))
def test_moments_in_8_bits(optimizer: str) -> None:
    config = small(optimizer=optimizer, method="FT-Full", moments="int8", weight_decay=0.01, base_lr=1e-3)
    net = _awake(config)
    built = build_optimizer(net, config)
    assert isinstance(built, Int8Adam)
    assert [g["name"] for g in built.param_groups] == list(METHOD_GROUPS["FT-Full"])
    found = {(g["lr"], g["weight_decay"], g["decoupled"]) for g in built.param_groups}
    assert found == {(1e-3, 0.01, optimizer == "adamw")}
    _step(config, net, built, seed=0)
    kinds = {name: state["exp_avg"].dtype for name, state in _by_name(net, built).items()}
    assert kinds["features.18.0.weight"] is torch.int8 and kinds["features.0.0.weight"] is torch.float32
    before = built.state_dict()
    lay_out_moments_(built)
    assert str(before) == str(built.state_dict())


def _by_name(net: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    return {name: optimizer.state[parameter] for name, parameter in net.named_parameters()}


def test_groups_learn_at_their_own_rate() -> None:
    config = small(method="FT-Full", base_lr=1e-2, lr_ratio=LrRatio(late=0.6, early=0.4))
    net = _awake(config)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    _step(config, net, build_optimizer(net, config), seed=0)
    # Adam's first step is the learning rate, whatever the gradient.
    longest = {
        name: (p - before[name]).abs().max().item()
        for name, p in net.named_parameters()
        if name in ("classifier.1.weight", "features.18.0.weight", "features.0.0.weight")
    }
    assert longest == {
        "features.0.0.weight": pytest.approx(4e-3, rel=1e-3),
        "features.18.0.weight": pytest.approx(6e-3, rel=1e-3),
        "classifier.1.weight": pytest.approx(1e-2, rel=1e-3),
    }


def test_after_forward_is_called_for_each_micro_batch() -> None:
    config = small(batch_size=4, micro_batch_size=1, method="FT-Last")
    net = build_model(config).net
    images, labels = _batch(config)
    calls: list[bool] = []
    training_step(
        net,
        build_optimizer(net, config),
        InputNormalizer(config, CPU),
        images,
        labels,
        micro_batch_size=1,
        label_smoothing=0.0,
        after_forward=lambda: calls.append(net.get_parameter("classifier.1.bias").grad is None),
    )
    assert calls == [True, False, False, False]


@pytest.mark.parametrize(
    ("fields", "mean", "std"),
    [
        ({}, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ({"backbone": "efficientnet_lite0"}, (127 / 255,) * 3, (128 / 255,) * 3),
        ({"input_mean": (0.1, 0.2, 0.3)}, (0.1, 0.2, 0.3), (0.229, 0.224, 0.225)),
        ({"input_mean": (0.0, 0.0, 0.0), "input_std": (1.0, 1.0, 1.0)}, (0, 0, 0), (1, 1, 1)),
    ],
)
def test_input_normalizer(fields: dict[str, object], mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    config = small(**fields)
    images, _ = _batch(config)
    out = InputNormalizer(config, CPU)(images)
    expected = (images / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    assert torch.allclose(out, expected, atol=1e-5)
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert images.dtype == torch.uint8


GPU_CASES = {
    f"{name}-{precision}": dataclasses.replace(
        config, device="cuda", precision=precision, checkpoint=checkpoint, optimizer=optimizer
    )
    for (name, config), precision, checkpoint, optimizer in zip(
        SPREAD_CASES.items(),
        itertools.cycle(("float32", "tf32")),
        itertools.cycle(("none", "all")),
        itertools.cycle(("adam", "sgd", "adamw")),
        strict=False,
    )
}


def _follow_on_a_fake_gpu(
    config: TrainConfig, mode: TorchDispatchMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs one pass and the optimiser's step under `mode`."""
    steps = []

    def counted(*given: Any) -> Callable[..., Any]:
        step = step_of(*given)

        def run(*args: Any, **more: Any) -> Any:
            with mode:
                steps.append(step(*args, **more))

        return run

    monkeypatch.setattr(fake_step, "step_of", counted)
    planned = resolve_plan(config)
    FakeStep(planned).run(planned)
    assert steps


@pytest.mark.parametrize("config", sampled(GPU_CASES.values(), 13), ids=GPU_CASES)
def test_the_host_does_not_wait_for_a_gpu_in_a_step(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs = HostSyncs()
    _follow_on_a_fake_gpu(config, syncs, monkeypatch)
    assert syncs.found == []


REPEATED_CASES = {
    f"{name}-{engine}-{upsample_type}": dataclasses.replace(
        config, engine=engine, upsample_type=upsample_type if config.method in LITE_METHODS else "bilinear"
    )
    for (name, config), engine, upsample_type in zip(
        GPU_CASES.items(),
        itertools.cycle(("lean", "stock", "lean", "lean", "stock")),
        itertools.cycle(("bilinear", "bicubic", "nearest")),
        strict=False,
    )
}


@pytest.mark.parametrize("config", sampled(REPEATED_CASES.values(), 13), ids=REPEATED_CASES)
def test_a_step_on_a_gpu_leaves_only_convolutions_to_chance(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    operations = UnrepeatableOperations()
    _follow_on_a_fake_gpu(config, operations, monkeypatch)
    assert operations.found <= LEFT_TO_CUDNN


@pytest.mark.parametrize(
    "waits",
    [Tensor.nonzero, Tensor.cpu, lambda t: torch.zeros(3).copy_(t), lambda t: t.add_(torch.zeros(3).to(t))],
)
def test_what_waits_for_a_gpu_is_found(waits: Callable[[Tensor], Any]) -> None:
    with FakeTensorMode(allow_non_fake_inputs=True), HostSyncs() as syncs:
        with contextlib.suppress(DynamicOutputShapeException):
            waits(torch.zeros(3, device="cuda"))
    assert len(syncs.found) == 1


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_what_is_left_to_chance_is_found(mode: str) -> None:
    x = torch.randn(1, 2, 3, 3, requires_grad=True)
    with UnrepeatableOperations() as operations:
        F.interpolate(x, (6, 6), mode=mode).sum().backward()
    assert operations.found == {f"upsample_{mode}2d_backward"}
