"""A step that is predicted for a GPU holds what real steps on its path hold."""

import dataclasses
from typing import Any

import pytest
import torch

from benchmarks.gpu.emulated_path import followed_step
from tests.support.cases import small
from tests.support.sampled import sampled
from tinytl.config.plan import lean_plan
from tinytl.device import gpu_emulated, takes_cpu_path
from tinytl.memory.predict import predict_memory


@pytest.mark.parametrize(
    "changes",
    sampled(
        [
            {"method": "TinyTL-L+B", "norm": "frozen_bn"},
            {"method": "TinyTL-B", "norm": "group_norm", "micro_batch_size": 2, "checkpoint": "all"},
            {"method": "FT-Full", "norm": "batch_norm", "checkpoint": "depthwise"},
            {"method": "FT-Full", "norm": "group_norm", "engine": "stock", "optimizer": "sgd"},
            {"method": "FT-Last", "norm": "frozen_bn", "slice_mib": 0.05},
        ],
        3,
    ),
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_a_prediction_for_a_gpu_is_what_a_step_on_its_path_holds(changes: dict[str, Any]) -> None:
    config = lean_plan(small(**changes, resolution=64, device="cuda"))
    predicted = predict_memory(config)
    assert predicted.peak_mib == pytest.approx(followed_step(config).peak_mib, rel=0.01)
    assert sum(predicted.parts_mib.values()) == pytest.approx(predicted.peak_mib)


def test_a_gpu_needs_its_larger_slices_and_less_with_smaller_ones() -> None:
    config = lean_plan(small(method="TinyTL-B", norm="frozen_bn", resolution=128, batch_size=8))
    on_gpu = dataclasses.replace(config, device="cuda")
    peaks = [
        predict_memory(one).peak_mib for one in (config, dataclasses.replace(on_gpu, slice_mib=5.0), on_gpu)
    ]
    assert peaks[0] < peaks[2] and peaks[1] < 0.9 * peaks[2]


def test_emulation_ends() -> None:
    x = torch.zeros(1)
    with pytest.raises(ZeroDivisionError), gpu_emulated():
        assert not takes_cpu_path(x)
        _ = 1 / 0
    assert takes_cpu_path(x)
