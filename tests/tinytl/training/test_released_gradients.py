import dataclasses
import itertools

import pytest
import torch
from torch import Tensor, nn

from tests.support.cases import SPREAD_CASES, small
from tests.support.sampled import sampled
from tinytl.build import build_model
from tinytl.config.plan import lean_plan, releases_gradients
from tinytl.config.train_config import LrRatio, TrainConfig
from tinytl.memory.measured_step import measure_memory
from tinytl.memory.predict import predict_memory
from tinytl.training import released_gradients
from tinytl.training.captured_step import planned_step
from tinytl.training.mixed_precision import MixedPrecision
from tinytl.training.released_gradients import gradients_released
from tinytl.training.step import InputNormalizer, build_optimizer, step_of, training_step

CPU = torch.device("cpu")
RECOMPUTING = {
    f"{name}-{optimizer}-{moments}-{engine}": dataclasses.replace(
        config,
        resolution=32 if config.norm != "batch_norm" else 64,
        micro_batch_size=None,
        checkpoint="all",
        optimizer=optimizer,
        moments=moments,
        engine=engine,
        weight_decay=0.01,
    )
    for (name, config), (optimizer, moments), engine in zip(
        SPREAD_CASES.items(),
        itertools.cycle((("adam", "float32"), ("sgd", "float32"), ("adamw", "int8"))),
        itertools.cycle(("lean", "lean", "lean", "stock")),
        strict=False,
    )
}


def _trained(config: TrainConfig, released: bool) -> tuple[dict[str, Tensor], list[float]]:
    """Returns weights and moments after three steps, the last with a smaller batch, and the losses."""
    torch.manual_seed(0)
    net = build_model(config).net
    optimizer = build_optimizer(net, config)
    losses = []
    for n in (4, 4, 3):
        images = torch.randint(0, 256, (n, 3, config.resolution, config.resolution), dtype=torch.uint8)
        loss, _ = training_step(
            net,
            optimizer,
            InputNormalizer(config, CPU),
            images.contiguous(memory_format=torch.channels_last),
            torch.arange(n) % 3,
            micro_batch_size=config.samples_in_memory,
            label_smoothing=0.1,
            releases_gradients=released,
        )
        losses.append(loss.item())
        assert all(parameter.grad is None for parameter in net.parameters())
        assert not any(parameter._post_accumulate_grad_hooks for parameter in net.parameters())
    state = {
        f"{number} {name}": value
        for number, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }
    return net.state_dict() | state, losses


@pytest.mark.parametrize("config", sampled(RECOMPUTING.values(), 7), ids=RECOMPUTING)
def test_it_is_the_step_after_the_pass_to_the_last_bit(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(released_gradients, "HELD_BYTES", 1 << 12)
    config = lean_plan(config)
    assert releases_gradients(config)
    (one, losses), (other, released_losses) = (_trained(config, released) for released in (False, True))
    assert losses == released_losses and one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_rates_of_groups_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(released_gradients, "HELD_BYTES", 0)
    ratios = LrRatio(late=0.5, early=0.25)
    config = lean_plan(small(method="FT-Full", norm="frozen_bn", checkpoint="all", lr_ratio=ratios))
    one, other = _trained(config, released=True)[0], _trained(config, released=False)[0]
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_few_gradients_exist_at_a_time() -> None:
    net = nn.Sequential(*(nn.Linear(128, 128, bias=False) for _ in range(20)))  # 64 KiB each
    optimizer = torch.optim.SGD(net.parameters(), 0.1, fused=True)
    held: list[int] = []

    def count(_: Tensor) -> None:
        held.append(sum(p.grad.nbytes for p in net.parameters() if p.grad is not None))

    for parameter in net.parameters():
        parameter.register_post_accumulate_grad_hook(count)
    before = [parameter.detach().clone() for parameter in net.parameters()]
    with gradients_released(optimizer):
        net(torch.randn(2, 128)).sum().backward()
    assert len(held) == 20 and max(held) == released_gradients.HELD_BYTES < 20 * 2**16
    assert not any(torch.equal(p, b) for p, b in zip(net.parameters(), before, strict=True))


def test_a_pass_that_fails_leaves_no_hook() -> None:
    layer = nn.Linear(2, 2)
    with pytest.raises(ZeroDivisionError), gradients_released(torch.optim.SGD(layer.parameters(), 0.1)):
        _ = 1 / 0
    assert not any(parameter._post_accumulate_grad_hooks for parameter in layer.parameters())


@pytest.mark.parametrize(
    ("changes", "released"),
    [
        ({}, True),
        ({"optimizer": "sgd"}, True),
        ({"checkpoint": "none"}, False),
        ({"checkpoint": "depthwise"}, False),
        ({"micro_batch_size": 2}, False),
        ({"precision": "bfloat16"}, True),
        ({"precision": "float16"}, False),
        ({"device": "cuda", "cuda_graph": True}, False),
        ({"device": "cuda"}, True),
    ],
    ids=str,
)
def test_a_plan_says_whether_it_is_done(changes: dict[str, object], released: bool) -> None:
    fields = {"method": "FT-Full", "norm": "frozen_bn", "checkpoint": "all"} | changes
    config = lean_plan(small(**fields))
    assert releases_gradients(config) == released
    net = build_model(dataclasses.replace(config, device="cpu")).net
    optimizer, normalize = build_optimizer(net, config), InputNormalizer(config, CPU)
    if config.device == "cpu":
        for step in (
            step_of(config, net, optimizer, CPU),
            planned_step(config, net, optimizer, normalize, MixedPrecision("float32", CPU)),
        ):
            assert step.keywords["releases_gradients"] == released  # type: ignore[attr-defined]


@pytest.mark.parametrize(("moments", "norm"), sampled([("int8", "frozen_bn"), ("float32", "batch_norm")], 2))
def test_a_prediction_knows_it(moments: str, norm: str) -> None:
    fields = {"method": "FT-Full", "norm": norm, "resolution": 64, "moments": moments, "checkpoint": "all"}
    config = lean_plan(small(**fields))
    predicted = predict_memory(config)
    assert predicted.peak_mib == pytest.approx(measure_memory(config), rel=0.02)
    kept = predict_memory(dataclasses.replace(config, precision="float16"))
    trained_mib = 4 * sum(p.numel() for p in build_model(config).net.parameters()) / 2**20
    assert predicted.parts_mib["gradients"] < 0.1 * trained_mib < 0.9 * kept.parts_mib["gradients"]
