import dataclasses

import pytest
import torch

from tests.cases import SPREAD_CASES, small
from tinytl import memory
from tinytl.build import build_model
from tinytl.config import FIELDS_WITHOUT_MEMORY, LrRatio, TrainConfig
from tinytl.errors import ConfigError
from tinytl.measure import MIB
from tinytl.memory import measure_memory, predict_memory, stock_inference_peak_mib
from tinytl.storage_tracker import PARTS

on_known_kernels = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() != "AVX512",
    reason="tinytl/kernel_scratch.py knows AVX-512 kernels",
)


@on_known_kernels
@pytest.mark.parametrize("config", SPREAD_CASES.values(), ids=SPREAD_CASES)
def test_prediction_is_what_the_allocator_measures(config: TrainConfig) -> None:
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
    config = small(method="FT-Full", optimizer=optimizer, norm="frozen_bn", num_classes=10)
    parts = predict_memory(config).parts_mib
    net = build_model(config).net
    n = sum(p.numel() for p in net.parameters())
    assert parts["parameters"] * MIB == 4 * n
    n_tensors = len(list(net.parameters()))
    assert parts["optimizer"] * MIB == (8 * n + 4 * n_tensors if optimizer == "adam" else 4 * n)
    buffers = sum(b.numel() * b.element_size() for b in net.buffers())
    assert parts["batch_and_buffers"] * MIB == buffers + 4 * 3 * 32 * 32 + 4 * 8


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
        method="FT-Last", weights="/nowhere/weights.pt", batch_size=4096, resolution=1024, norm="frozen_bn"
    )
    state = torch.get_rng_state()
    assert predict_memory(config).peak_mib > 250_000  # a quarter of a tebibyte
    assert torch.equal(torch.get_rng_state(), state)
    assert stock_inference_peak_mib(config) > 500_000


WITHOUT_EFFECT = {
    "dataset": "imagefolder",
    "data_dir": "/nowhere",
    "weights": "/nowhere/weights.pt",
    "input_mean": (0.5, 0.5, 0.5),
    "input_std": (0.25, 0.5, 0.5),
    "base_lr": 0.1,
    "lr_ratio": LrRatio(bias=0.5),
    "weight_decay": 0.1,
    "label_smoothing": 0.0,
    "epochs": 3,
    "crop_scale_min": 0.9,
    "flip": True,
    "seed": 9,
}


def test_fields_without_memory_hit_the_same_cache_entry() -> None:
    assert set(WITHOUT_EFFECT) == set(FIELDS_WITHOUT_MEMORY)
    config = small(method="TinyTL-B")
    first = predict_memory(config)
    for name, value in WITHOUT_EFFECT.items():
        assert predict_memory(dataclasses.replace(config, **{name: value})) is first


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_fields_without_memory_have_no_effect(optimizer: str) -> None:
    # Many classes put the peak at the head, where label smoothing would show.
    config = small(method="TinyTL-B", optimizer=optimizer, num_classes=20_000, batch_size=64)
    changed = {
        name: v for name, v in WITHOUT_EFFECT.items() if name not in ("weights", "dataset", "data_dir")
    }
    uncached = memory._predict
    one, other = uncached(config), uncached(dataclasses.replace(config, **changed))
    assert one.peak_at.startswith("classifier.1")
    assert one == other


def test_memory_depends_on_the_rest() -> None:
    config = small(method="TinyTL-L", norm="frozen_bn")
    base = predict_memory(config).peak_mib
    for changes in ({"batch_size": 64}, {"expand": 2.0}, {"num_classes": 500}):
        assert predict_memory(dataclasses.replace(config, **changes)).peak_mib > base, changes
    for changes in ({"optimizer": "sgd"}, {"n_groups": 8}):
        assert predict_memory(dataclasses.replace(config, **changes)).peak_mib < base, changes


def test_stock_inference() -> None:
    config = small(method="FT-Full", norm="group_norm", micro_batch_size=1, resolution=64)
    inference = stock_inference_peak_mib(config)
    parameters = 4 * sum(p.numel() for p in build_model(config).net.parameters()) / MIB
    assert parameters < inference < predict_memory(config).peak_mib
    # It is the whole batch's, and that of the plain network, whatever is trained and how.
    assert inference == stock_inference_peak_mib(small(method="TinyTL-L", resolution=64))
    assert inference < stock_inference_peak_mib(dataclasses.replace(config, batch_size=8))


def test_mistakes() -> None:
    with pytest.raises(ConfigError, match=r"^num_classes is not set"):
        predict_memory(small(num_classes=None))
    with pytest.raises(
        ConfigError, match=r"^n_groups=5 does not divide the 16 input channels of features\.2"
    ):
        predict_memory(small(n_groups=5))
