import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.cases import small
from tests.support.sampled import sampled
from tinytl.build import build_model
from tinytl.config.train_config import TrainConfig
from tinytl.memory.measured_step import measure_memory
from tinytl.memory.predict import predict_memory
from tinytl.training.mixed_precision import MixedPrecision, backends_restored
from tinytl.training.step import InputNormalizer, build_optimizer, training_step

CPU = torch.device("cpu")
SCALE = 64.0


def _gradients(config: TrainConfig) -> dict[str, Tensor]:
    torch.manual_seed(0)
    net = build_model(config).net
    images = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    found: dict[str, Tensor] = {}
    precision = MixedPrecision(config.precision, CPU)
    if precision.state_dict():  # a scale at which nothing overflows; training finds it by itself
        precision.load_state_dict(precision.state_dict() | {"scale": SCALE})

    class Recorder(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:
            found.update({n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None})

    training_step(
        net,
        Recorder([p for p in net.parameters() if p.requires_grad]),
        InputNormalizer(config, CPU),
        images,
        torch.arange(4) % 3,
        micro_batch_size=2,
        label_smoothing=0.1,
        precision=precision,
    )
    return found


@pytest.mark.parametrize("engine", ["lean", "stock"])
@pytest.mark.parametrize(("precision", "nearness"), [("bfloat16", 0.98), ("float16", 0.999)])
def test_gradients_are_float32_and_near_those_of_float32(
    precision: str, nearness: float, engine: str
) -> None:
    config = small(
        backbone="efficientnet_lite0", weights="imagenet", method="TinyTL-B", norm="frozen_bn", engine=engine
    )
    exact, rough = _gradients(config), _gradients(dataclasses.replace(config, precision=precision))
    assert rough.keys() == exact.keys() != set()
    assert {g.dtype for g in rough.values()} == {torch.float32}
    one, other = (torch.cat([g.flatten() for g in found.values()]) for found in (exact, rough))
    assert not torch.equal(one, other)
    assert torch.cosine_similarity(one, other, dim=0) > nearness
    assert float(other.norm()) == pytest.approx(float(one.norm()), rel=0.05)  # without the loss's scale


def test_a_step_that_overflows_is_left_out_and_the_scale_falls() -> None:
    precision = MixedPrecision("float16", CPU)
    net = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, fused=True)
    before, scale = net.weight.detach().clone(), precision.scaler.get_scale()  # type: ignore[union-attr]
    precision.backward(net(torch.full((1, 2), torch.inf)).sum())
    precision.step(optimizer)
    assert torch.equal(net.weight, before)
    assert precision.scaler is not None and precision.scaler.get_scale() == scale / 2

    other = MixedPrecision("float16", CPU)
    other.load_state_dict(precision.state_dict())
    assert other.scaler is not None and other.scaler.get_scale() == scale / 2


def test_float32_is_left_alone() -> None:
    precision = MixedPrecision("float32", CPU)
    with precision.autocast():
        assert not torch.is_autocast_enabled("cpu")
    assert precision.state_dict() == {}


PREDICTED = itertools.product(("TinyTL-L+B", "FT-Full"), ("bfloat16", "float16"), ("lean", "stock"))


@pytest.mark.parametrize(("method", "precision", "engine"), sampled(PREDICTED, 8))
def test_predicted_memory_is_measured_memory(method: str, precision: str, engine: str) -> None:
    config = small(method=method, norm="frozen_bn", engine=engine, precision=precision, resolution=32)
    assert predict_memory(config).peak_mib == pytest.approx(measure_memory(config), rel=0.02)


def test_the_optimizer_of_the_step_is_the_configured_one() -> None:
    net = build_model(small(method="FT-Last")).net
    optimizer = build_optimizer(net, small(method="FT-Last", optimizer="sgd", momentum=0.3))
    assert optimizer.param_groups[0]["momentum"] == 0.3


def test_sgd_s_first_step_may_be_one_that_overflows() -> None:
    config = small(method="FT-Last", optimizer="sgd", precision="float16", base_lr=0.5)
    net = build_model(config).net
    optimizer, precision = build_optimizer(net, config), MixedPrecision("float16", CPU)
    weight = net.get_parameter("classifier.1.weight")
    before = weight.detach().clone()
    for factor in (torch.inf, 1.0):
        precision.backward((weight * factor).sum())
        precision.step(optimizer)
        optimizer.zero_grad()
    assert torch.allclose(weight, before - 0.5)  # one step with a gradient of ones


@pytest.fixture
def rounding() -> Iterator[Callable[[], list[bool]]]:
    """Says whether convolutions and products round to tf32; what the process had comes back."""

    def now() -> list[bool]:
        return [torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32]

    with backends_restored():
        yield now


@pytest.mark.parametrize(("precision", "tf32"), [("float32", False), ("tf32", True), ("bfloat16", False)])
def test_a_gpu_rounds_32_bit_products_as_it_is_told(
    precision: str, tf32: bool, rounding: Callable[[], list[bool]]
) -> None:
    MixedPrecision(precision, torch.device("cuda"))
    assert rounding() == [tf32, tf32]
    MixedPrecision("float32" if precision == "tf32" else "tf32", CPU)
    assert rounding() == [tf32, tf32]


SETTINGS = [
    (torch.backends.cudnn, "benchmark", False),
    (torch.backends.cudnn, "deterministic", True),
    (torch.backends.cuda.matmul, "allow_bf16_reduced_precision_reduction", False),
    (torch.backends.cuda.matmul, "allow_fp16_reduced_precision_reduction", False),
]


def test_a_gpu_s_libraries_repeat_their_numbers_and_the_process_gets_its_own_settings_back(
    rounding: Callable[[], list[bool]],
) -> None:
    for place, name, value in SETTINGS:  # `rounding` gives back what was there
        setattr(place, name, not value)
    before = rounding()
    with pytest.raises(ZeroDivisionError), backends_restored():
        MixedPrecision("float32", CPU)
        assert [getattr(place, name) for place, name, _ in SETTINGS] == [not value for *_, value in SETTINGS]
        MixedPrecision("float32", torch.device("cuda"))
        assert [getattr(place, name) for place, name, _ in SETTINGS] == [value for *_, value in SETTINGS]
        _ = 1 / 0
    assert [getattr(place, name) for place, name, _ in SETTINGS] == [not value for *_, value in SETTINGS]
    assert rounding() == before


@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_torch_export_works_after_a_gpu_was_told_how_to_round(
    precision: str, rounding: Callable[[], list[bool]]
) -> None:
    MixedPrecision(precision, torch.device("cuda"))
    torch.export.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),))
    torch.get_float32_matmul_precision()  # torch.compile asks it; it raises if flags disagree


def test_tf32_is_float32_on_a_cpu() -> None:
    assert MixedPrecision("tf32", CPU).dtype is None
    config = small(method="TinyTL-B", norm="frozen_bn")
    assert all(
        torch.equal(one, other)
        for one, other in zip(
            _gradients(config).values(),
            _gradients(dataclasses.replace(config, precision="tf32")).values(),
            strict=True,
        )
    )
