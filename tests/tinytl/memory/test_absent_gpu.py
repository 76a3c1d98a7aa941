"""16 bits on a GPU are predicted on a machine without one."""

import dataclasses
import itertools
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.support.sampled import sampled
from tinytl.config.train_config import TrainConfig
from tinytl.memory.absent_gpu import AutocastOfAbsentGpu
from tinytl.memory.predict import predict_memory

CONFIG = TrainConfig(
    weights="none", method="TinyTL-L+B", norm="frozen_bn", num_classes=10, resolution=96, batch_size=8,
    micro_batch_size=8, checkpoint="none", stock_below_kib=0.0, device="cuda",
)  # fmt: skip


def test_functions_cast_as_on_a_gpu_while_autocast_is_on() -> None:
    x, weight = torch.ones(2, 4, 3, 3), torch.ones(4, 4, 1, 1)
    with AutocastOfAbsentGpu():
        assert F.conv2d(x, weight).dtype == torch.float32
        with torch.autocast("cpu", torch.bfloat16):
            y = F.conv2d(x, weight)
            assert y.dtype == torch.bfloat16
            assert F.group_norm(y, 2).dtype == torch.float32
            assert F.relu(y).dtype == torch.bfloat16
            assert F.linear(y.mean((2, 3)), torch.ones(5, 4)).dtype == torch.bfloat16


def test_a_forward_that_backward_recomputes_casts_again() -> None:
    seen = []

    def forward(x: torch.Tensor) -> torch.Tensor:
        y = F.linear(x, torch.ones(5, 4))
        seen.append(y.dtype)
        return y.exp()

    x = torch.ones(2, 4, requires_grad=True)
    with AutocastOfAbsentGpu():
        with torch.autocast("cpu", torch.bfloat16):
            out = torch.utils.checkpoint.checkpoint(forward, x, use_reentrant=False)
        out.float().sum().backward()
    assert seen == [torch.bfloat16, torch.bfloat16]
    assert x.grad is not None and x.grad.dtype == torch.float32


IN_16_BITS = itertools.product(("lean", "stock"), ("frozen_bn", "batch_norm"), ("none", "all"))


@pytest.mark.parametrize(("engine", "norm", "checkpoint"), sampled(IN_16_BITS, 5))
def test_16_bits_need_less_than_32_and_one_kind_as_much_as_the_other(
    engine: str, norm: str, checkpoint: str
) -> None:
    config = dataclasses.replace(CONFIG, engine=engine, norm=norm, checkpoint=checkpoint)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        peaks = {
            precision: predict_memory(dataclasses.replace(config, precision=precision)).peak_mib
            for precision in ("float32", "bfloat16", "float16")
        }
    assert peaks["bfloat16"] <= peaks["float16"] < 0.95 * peaks["float32"], peaks
    # Loss scaling first looks at all gradients, which otherwise are freed as backward makes them.
    assert (peaks["bfloat16"] == peaks["float16"]) == (checkpoint == "none")


def test_a_cast_of_fake_tensors_of_a_gpu_stays_there_in_both_directions() -> None:
    from tinytl.memory.storage_tracker import StorageTracker

    with FakeTensorMode(), StorageTracker(on_cpu=False):
        x = torch.ones(3, device="cuda", requires_grad=True)
        x.to(torch.bfloat16).sum().backward()
        assert x.grad is not None and x.grad.device.type == "cuda" and x.grad.dtype == torch.float32
