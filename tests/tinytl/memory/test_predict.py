import dataclasses
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.cases import SPREAD_CASES, settled, small
from tests.support.sampled import sampled
from tinytl.build import build_model
from tinytl.config.names import ALL_TRAINING_METHODS, FIELDS_WITHOUT_MEMORY
from tinytl.config.plan import lean_plan
from tinytl.config.train_config import LrRatio, TrainConfig
from tinytl.errors import ConfigError
from tinytl.memory import followed_steps
from tinytl.memory.fake_step import FakeStep
from tinytl.memory.measure import MIB
from tinytl.memory.measured_step import measure_memory
from tinytl.memory.predict import predict_memory, resolve_plan
from tinytl.memory.prediction import OF_AVERAGE, PARTS
from tinytl.memory.stock_inference import stock_inference_peak_mib
from tinytl.networks.backbones import BACKBONES
from tinytl.networks.stored_weights import train_channels_
from tinytl.networks.update_methods import apply_update_method_


@pytest.mark.parametrize("config", sampled(SPREAD_CASES.values(), 13), ids=SPREAD_CASES)
def test_prediction_is_what_the_allocator_measures(config: TrainConfig) -> None:
    config = lean_plan(config)
    predicted = predict_memory(config)
    assert predicted.peak_mib == pytest.approx(measure_memory(config), rel=0.02)

    assert tuple(predicted.parts_mib) == PARTS
    assert sum(predicted.parts_mib.values()) == pytest.approx(predicted.peak_mib, rel=1e-9)
    assert min(predicted.parts_mib.values()) >= 0

    net = build_model(config).net
    trained = sum(p.numel() for p in net.parameters() if p.requires_grad)
    assert predicted.parts_mib["parameters"] * MIB == 4 * sum(p.numel() for p in net.parameters())
    # Two moments, and a counter of 4 bytes for each tensor.
    counters = 4 * sum(p.requires_grad for p in net.parameters())
    assert predicted.parts_mib["optimizer"] * MIB == 8 * trained + counters
    assert predicted.parts_mib["gradients"] * MIB <= 4 * trained

    place, direction = predicted.peak_at.rsplit(" ", 1)
    assert direction in ("forward", "backward")
    assert place in {name for name, _ in net.named_modules()} | {"global mean", "input or loss"}


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_parts_of_full_fine_tuning(optimizer: str) -> None:
    config = settled(method="FT-Full", optimizer=optimizer, norm="frozen_bn", num_classes=10)
    parts = predict_memory(config).parts_mib
    net = build_model(config).net
    n = sum(p.numel() for p in net.parameters())
    assert parts["parameters"] * MIB == 4 * n
    n_tensors = len(list(net.parameters()))
    assert parts["optimizer"] * MIB == (8 * n + 4 * n_tensors if optimizer == "adam" else 4 * n)
    buffers = sum(b.numel() * b.element_size() for b in net.buffers())
    assert parts["batch_and_buffers"] * MIB == buffers + 4 * 3 * 32 * 32 + 4 * 8


@pytest.mark.parametrize(
    "changes",
    sampled(
        [
            {"method": "TinyTL-L+B"},
            {"method": "FT-Full"},
            {"method": "FT-Last", "precision": "float16", "num_classes": 10},
            {"method": "FT-Full", "optimizer": "adamw", "micro_batch_size": 1, "checkpoint": "all"},
        ],
        4,
    ),
    ids=str,
)
def test_prediction_of_moments_in_8_bits(changes: dict[str, Any]) -> None:
    config = settled(**{"norm": "frozen_bn", "resolution": 64, "moments": "int8"} | changes)
    predicted = predict_memory(config)
    assert predicted.peak_mib == pytest.approx(measure_memory(config), rel=0.02)
    plain = predict_memory(dataclasses.replace(config, moments="float32"))
    assert predicted.parts_mib["optimizer"] < 0.5 * plain.parts_mib["optimizer"]
    assert predicted.peak_mib < plain.peak_mib


@pytest.mark.parametrize(
    "changes",
    sampled(
        [
            {"method": "FT-Full", "norm": "batch_norm"},
            {"method": "FT-Full", "norm": "frozen_bn", "micro_batch_size": 1, "checkpoint": "all"},
            {"method": "TinyTL-L+B", "norm": "group_norm", "optimizer": "sgd"},
            {"method": "Sparse", "norm": "frozen_bn", "channel_ratio": 0.5, "update_blocks": 3},
            {"method": "FT-Last", "norm": "frozen_bn", "engine": "stock"},
        ],
        5,
    ),
    ids=lambda changes: changes["method"],
)
def test_an_average_of_weights_is_a_part_of_its_own(changes: dict[str, Any]) -> None:
    config = settled(**changes, weight_average=0.9)
    predicted, plain = predict_memory(config), predict_memory(dataclasses.replace(config, weight_average=0.0))
    assert predicted.peak_mib == pytest.approx(measure_memory(config), rel=0.02)
    assert sum(predicted.parts_mib.values()) == pytest.approx(predicted.peak_mib)
    net = build_model(config).net
    averaged = [p for p in net.parameters() if p.requires_grad]
    if config.norm == "batch_norm":
        averaged += [b for name, b in net.named_buffers() if "running" in name]
    assert predicted.parts_mib[OF_AVERAGE] * MIB == 4 * sum(tensor.numel() for tensor in averaged)
    assert predicted.peak_mib - plain.peak_mib == pytest.approx(predicted.parts_mib[OF_AVERAGE])
    assert OF_AVERAGE not in plain.parts_mib
    assert predict_memory(dataclasses.replace(config, weight_average=0.5)) is predicted


def test_mixed_pictures_need_more_numbers_per_label_however_they_are_mixed() -> None:
    config = settled(method="FT-Last", norm="frozen_bn", num_classes=10_000, micro_batch_size=2)
    mixed = [
        dataclasses.replace(config, **{name: alpha})
        for name in ("mixup_alpha", "cutmix_alpha")
        for alpha in (0.2, 1.0)
    ]
    predicted = predict_memory(mixed[0])
    assert all(predict_memory(other) is predicted for other in mixed)
    assert predicted.peak_mib == pytest.approx(measure_memory(mixed[0]), rel=0.02)
    more = predicted.parts_mib["batch_and_buffers"] - predict_memory(config).parts_mib["batch_and_buffers"]
    assert more * MIB == 4 * (4 * 10_000 - 2 * 4)


def test_memory_falls_with_the_micro_batch() -> None:
    peaks = [
        predict_memory(
            small(method="TinyTL-B", norm="frozen_bn", resolution=64, micro_batch_size=micro)
        ).peak_mib
        for micro in (None, 4, 2, 1)
    ]
    assert peaks[0] == peaks[1]
    assert peaks[1] > 1.2 * peaks[2] > 1.3 * peaks[3]


def test_nothing_is_executed_or_read() -> None:
    config = small(
        method="FT-Full", weights="/nowhere/weights.pt", batch_size=1024, resolution=512, norm="frozen_bn",
        slice_mib=1024.0,  # few to follow
    )  # fmt: skip
    state = torch.get_rng_state()
    assert predict_memory(config).peak_mib > 15_000
    assert torch.equal(torch.get_rng_state(), state)
    assert stock_inference_peak_mib(config) > 30_000


WITHOUT_EFFECT = {
    "dataset": "imagefolder",
    "data_dir": "/nowhere",
    "loading": "stream",
    "loader_workers": 3,
    "skip_broken": True,
    "exclude": "/nowhere/drop.csv",
    "min_per_class": 3,
    "weights": "/nowhere/weights.pt",
    "lite_weights": "/nowhere/lite.pt",
    "input_mean": (0.5, 0.5, 0.5),
    "input_std": (0.25, 0.5, 0.5),
    "base_lr": 0.1,
    "lr_ratio": LrRatio(bias=0.5),
    "lr_schedule": "exponential",
    "gamma": 0.5,
    "warmup_epochs": 0.5,
    "weight_decay": 0.1,
    "label_smoothing": 0.0,
    "sampling": "balanced",
    "metric": "macro_f1",
    "epochs": 3,
    "crop_scale_min": 0.9,
    "flip": True,
    "rand_augment": 9,
    "seed": 9,
    "data_seed": 8,
}


def test_fields_without_memory_hit_the_same_cache_entry() -> None:
    assert set(WITHOUT_EFFECT) == set(FIELDS_WITHOUT_MEMORY)
    config = settled(method="TinyTL-L+B")
    first = predict_memory(config)
    for name, value in WITHOUT_EFFECT.items():
        needed = {"lr_schedule": "exponential"} if name == "gamma" else {}
        assert predict_memory(dataclasses.replace(config, **{name: value}, **needed)) is first


@pytest.mark.parametrize("optimizer", sampled(["adam", "sgd"], 2))
def test_fields_without_memory_have_no_effect(optimizer: str) -> None:
    # Many classes put the peak at the head, where label smoothing would show.
    config = small(
        method="TinyTL-B", optimizer=optimizer, num_classes=20_000, batch_size=64, stock_below_kib=1024.0
    )
    changed = {
        name: v
        for name, v in WITHOUT_EFFECT.items()
        if name not in ("weights", "lite_weights", "dataset", "data_dir")
    }
    uncached = followed_steps.predict_tensors
    one, other = uncached(config), uncached(dataclasses.replace(config, **changed))
    assert one.peak_at.startswith("classifier.1")
    assert one == other


@pytest.mark.parametrize(
    ("changes", "raises"),
    sampled(
        [
            ({"batch_size": 64}, True),
            ({"expand": 2.0}, True),
            ({"num_classes": 500}, True),
            ({"optimizer": "sgd"}, False),
            ({"n_groups": 8}, False),
        ],
        3,
    ),
)
def test_memory_depends_on_the_rest(changes: dict[str, Any], raises: bool) -> None:
    base, changed = (
        predict_memory(settled(method="TinyTL-L", norm="frozen_bn", **fields)).peak_mib
        for fields in ({}, changes)
    )
    assert changed > base if raises else changed < base


def test_mistakes() -> None:
    with pytest.raises(ConfigError, match=r"^num_classes is not set"):
        predict_memory(small(num_classes=None))
    with pytest.raises(
        ConfigError, match=r"^n_groups=5 does not divide the 16 input channels of features\.2"
    ):
        predict_memory(small(n_groups=5))


@pytest.mark.parametrize(
    "changes",
    sampled(
        [
            {"method": "FT-Full", "norm": "group_norm", "checkpoint": "depthwise"},
            {"method": "TinyTL-L+B", "checkpoint": "depthwise", "backbone": "proxylessnas_mobile"},
            {"method": "TinyTL-L+B", "checkpoint": "all", "micro_batch_size": 1},
            {
                "method": "FT-Full",
                "norm": "batch_norm",
                "checkpoint": "all",
                "backbone": "efficientnet_lite0",
            },
            {"method": "FT-Full", "norm": "batch_norm", "engine": "stock", "resolution": 32},
            {"method": "FT-Full", "engine": "stock", "resolution": 32},
            {"method": "FT-Full", "norm": "batch_norm", "resolution": 32, "stock_below_kib": 0.0},
            {"method": "FT-Full", "resolution": 32, "stock_below_kib": 0.0},
        ],
        5,
    ),
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_prediction_of_what_runs_again_and_of_maps_of_one_pixel(changes: dict[str, Any]) -> None:
    config = small(**{"norm": "frozen_bn", "resolution": 64} | changes)
    assert predict_memory(config).peak_mib == pytest.approx(measure_memory(config), rel=0.02)


@pytest.mark.parametrize(
    "changes",
    sampled(
        [
            {"upsample_type": "nearest", "downsample_ratio": 1, "expand": 2.0, "act_func": "h_swish"},
            {"upsample_type": "bicubic", "downsample_ratio": 4, "kernel_size": 5, "act_func": "h_sigmoid"},
            {"upsample_type": "bicubic", "engine": "stock", "act_func": "tanh", "norm": "batch_norm"},
            {"upsample_type": "nearest", "engine": "stock", "act_func": "sigmoid", "expand": 0.25},
            {"kernel_clipping": "reference", "kernel_size": 7, "act_func": "none", "norm": "frozen_bn"},
            {"weight_standardization": True},
            {"weight_standardization": True, "stock_below_kib": 1024.0},
            {"weight_standardization": True, "method": "FT-Full", "norm": "batch_norm"},
            {"weight_standardization": True, "method": "Scratch", "checkpoint": "depthwise"},
            {"weight_standardization": True, "method": "Last-3", "engine": "stock", "micro_batch_size": 2},
        ],
        7,
    ),
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_prediction_of_lite_options_and_of_weight_standardization(changes: dict[str, Any]) -> None:
    config = settled(**{"method": "TinyTL-L+B", "norm": "group_norm", "resolution": 64} | changes)
    assert predict_memory(config).peak_mib == pytest.approx(measure_memory(config), rel=0.02)


STORED_CASES = [
    pytest.param(
        dataclasses.replace(config, frozen_weights=form, micro_batch_size=config.samples_in_memory, **way),
        id=f"{name}-{form}-{'-'.join(map(str, way.values()))}",
    )
    for (name, config), form, way in zip(
        SPREAD_CASES.items(),
        itertools.cycle(("int8", "bfloat16")),
        itertools.cycle(
            (
                {"checkpoint": "none", "stock_below_kib": 0.0},
                {"checkpoint": "depthwise", "stock_below_kib": 0.0},
                {"checkpoint": "all", "stock_below_kib": 0.0},
                {"checkpoint": "none", "stock_below_kib": 1024.0},
                {"checkpoint": "none", "engine": "stock"},
            )
        ),
        strict=False,
    )
    if config.method not in ALL_TRAINING_METHODS
]


@pytest.mark.parametrize("config", [STORED_CASES[n] for n in (0, 6, 18)])
def test_prediction_of_stored_weights(config: TrainConfig) -> None:
    check_stored(config)


@pytest.mark.slow
@pytest.mark.parametrize("config", STORED_CASES)
def test_prediction_of_stored_weights_of_every_method_and_norm(config: TrainConfig) -> None:
    check_stored(config)


def check_stored(config: TrainConfig) -> None:
    predicted = predict_memory(config)
    assert predicted.peak_mib == pytest.approx(measure_memory(config), rel=0.02)
    assert tuple(predicted.parts_mib) == PARTS
    assert sum(predicted.parts_mib.values()) == pytest.approx(predicted.peak_mib, rel=1e-9)
    float32 = predict_memory(dataclasses.replace(config, frozen_weights="float32"))
    assert predicted.parts_mib["parameters"] < float32.parts_mib["parameters"]
    assert predicted.parts_mib["optimizer"] == float32.parts_mib["optimizer"]


@pytest.mark.parametrize(
    ("norm", "form", "checkpoint"),
    [
        ("frozen_bn", "int8", "none"),
        pytest.param("group_norm", "float32", "depthwise", marks=pytest.mark.slow),
        pytest.param("batch_norm", "bfloat16", "all", marks=pytest.mark.slow),
    ],
)
def test_prediction_of_convolutions_that_train_in_part(
    norm: str, form: str, checkpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_parts(net: nn.Module, method: str, _: object) -> None:
        apply_update_method_(net, method)
        for block in range(10, 16):
            for name in ("conv.0.0", "conv.1.0", "conv.2"):
                conv = net.get_submodule(f"features.{block}.{name}")
                assert isinstance(conv, nn.Conv2d)
                train_channels_(conv, range(0, conv.in_channels, 3))

    config = small(
        method="TinyTL-B", norm=norm, frozen_weights=form, checkpoint=checkpoint, resolution=64, plan="fast",
        stock_below_kib=0.0, micro_batch_size=4,
    )  # fmt: skip
    whole = FakeStep(config).run(config).prediction()
    monkeypatch.setattr("tinytl.build.apply_update_method_", with_parts)
    predicted = FakeStep(config).run(config).prediction()
    assert predicted.peak_mib == pytest.approx(measure_memory(config), rel=0.02)
    assert predicted.parts_mib["optimizer"] > whole.parts_mib["optimizer"]


@pytest.mark.parametrize("layers", ["pw2", "pw1+dw+pw2"])
def test_prediction_of_half_the_channels_in_stock(layers: str) -> None:
    # The peak is at the largest weight of which a part trains.
    config = small(
        method="Sparse", norm="batch_norm", update_layers=layers, channel_ratio=0.5,
        engine="stock", resolution=96,
    )  # fmt: skip
    assert predict_memory(config).peak_mib == pytest.approx(measure_memory(config), rel=0.002)


def test_scratch_takes_what_full_fine_tuning_does() -> None:
    config = settled(method="FT-Full", norm="group_norm")
    assert predict_memory(dataclasses.replace(config, method="Scratch")) is predict_memory(config)


@pytest.mark.parametrize(
    ("changes", "checkpoints"),
    sampled(
        [
            ({"norm": "frozen_bn"}, ("none", "depthwise", "all")),
            ({"norm": "batch_norm"}, ("none", "all")),
            ({"norm": "frozen_bn", "engine": "stock"}, ("none", "all")),
        ],
        3,
    ),
)
def test_what_runs_again_is_not_kept(changes: dict[str, Any], checkpoints: tuple[str, ...]) -> None:
    config = small(method="FT-Full", optimizer="sgd", resolution=64, batch_size=8, stock_below_kib=0.0)
    kept = [
        predict_memory(dataclasses.replace(config, **changes, checkpoint=checkpoint)).peak_mib
        for checkpoint in checkpoints
    ]
    assert all(kept[0] > 1.03 * less for less in kept[1:]), kept


def _gradients(config: TrainConfig) -> dict[str, Tensor]:
    torch.manual_seed(0)
    net = build_model(config).net.double()
    images = torch.randn(config.batch_size, 3, config.resolution, config.resolution).double()
    for rows in images.split(config.samples_in_memory):
        net(rows).log_softmax(1)[:, 1].sum().backward()
    return {name: p.grad for name, p in net.named_parameters() if p.grad is not None}


FAST = small(method="TinyTL-B", norm="frozen_bn", resolution=64, dropout=0.0)


def test_the_smallest_plan_needs_less_and_leaves_gradients() -> None:
    smallest = resolve_plan(dataclasses.replace(FAST, plan="smallest"))
    least = predict_memory(smallest).peak_mib
    assert smallest.micro_batch_size == 1
    assert least == predict_memory(dataclasses.replace(FAST, plan="smallest")).peak_mib
    assert least < 0.8 * predict_memory(FAST).peak_mib
    _assert_same_gradients(smallest, FAST)


@pytest.mark.slow  # each plan between the two is predicted
def test_the_plan_of_a_budget_fits_and_leaves_gradients() -> None:
    least = predict_memory(dataclasses.replace(FAST, plan="smallest")).peak_mib
    between = 0.9 * least + 0.1 * predict_memory(FAST).peak_mib
    budget = resolve_plan(dataclasses.replace(FAST, plan="budget", budget_mib=between))
    assert least < predict_memory(budget).peak_mib <= between
    assert dataclasses.replace(budget, plan="fast", budget_mib=None) != resolve_plan(FAST)
    _assert_same_gradients(budget, FAST)


def _assert_same_gradients(one: TrainConfig, other: TrainConfig) -> None:
    found, expected = _gradients(one), _gradients(other)
    assert len(expected) > 50
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-9, atol=1e-12)


@pytest.mark.slow  # tests/tinytl/commands/test_memory.py has the whole line
def test_a_budget_that_nothing_fits_names_the_least() -> None:
    config = small(method="FT-Last", norm="frozen_bn", batch_size=2)
    least = predict_memory(dataclasses.replace(config, plan="smallest")).peak_mib
    with pytest.raises(ConfigError, match=rf"needs at 32 px: {least:.1f} MiB with micro-batches of 1, "):
        predict_memory(dataclasses.replace(config, plan="budget", budget_mib=least - 0.01))
    fitting = dataclasses.replace(config, plan="budget", budget_mib=least)
    assert predict_memory(fitting).peak_mib == least


class _Reads(nn.Module):
    """Asks for values, which fake tensors do not have."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def forward(self, x: Tensor) -> Tensor:
        if self.what == "shape":
            return x + x[x > 0].sum()
        return x * float(x.sum().detach())


@pytest.mark.parametrize(
    ("what", "operation"), [("shape", "aten.nonzero.default"), ("value", "aten._local_scalar_dense.default")]
)
def test_an_operation_that_fake_tensors_cannot_run_is_named(
    what: str, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = BACKBONES["mobilenet_v2"]

    def build(num_classes: int) -> nn.Module:
        net = backbone.build(num_classes)
        features = net.get_submodule("features")
        assert isinstance(features, nn.Sequential)
        features.append(_Reads(what))
        return net

    monkeypatch.setitem(BACKBONES, "mobilenet_v2", dataclasses.replace(backbone, build=build))
    monkeypatch.setattr(followed_steps, "_BUILT", followed_steps._LastBuilt())
    config = small(method="FT-Last", norm="frozen_bn", num_classes=77)  # not in the cache
    with pytest.raises(ConfigError) as caught:
        predict_memory(config)
    assert str(caught.value) == (
        f"{operation} at features.19 forward does not run on fake tensors, so the memory of mobilenet_v2 "
        "cannot be predicted: compute it from shapes, not from values"
    )
