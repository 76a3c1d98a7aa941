"""Kernels are asked what they need, whatever the processor: here, too, those of one without AVX-512."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tinytl.device import with_threads
from tinytl.memory_efficient.ops.measured_scratch import (
    AllocatedPeak,
    measured_scratch_bytes,
    memory_profile,
    peak_of_events,
    product_scratch_bytes,
)

CONVOLUTION = torch.ops.aten.convolution.default
BACKWARD = torch.ops.aten.convolution_backward.default

PROGRAM = """
from tests.support.cases import small
from tinytl.memory.measured_step import measure_memory
from tinytl.memory.predict import predict_memory
import torch
torch.set_num_threads(1)
assert torch.backends.cpu.get_cpu_capability() == "AVX2"
for engine, norm, n in (("stock", "batch_norm", 2), ("lean", "frozen_bn", 5)):
    config = small(
        method="FT-Full", norm=norm, engine=engine, resolution=64, batch_size=n, checkpoint="none",
        stock_below_kib=0.0,
    )
    print(predict_memory(config).peak_mib / measure_memory(config))
"""


@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"), reason="no AVX2 here")
def test_predicted_memory_is_measured_memory_on_a_processor_without_avx512() -> None:
    env = dict(os.environ, ATEN_CPU_CAPABILITY="avx2", ONEDNN_MAX_CPU_ISA="AVX2", PYTHONPATH=str(Path.cwd()))
    ran = subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, check=True)
    assert [float(line) for line in ran.stdout.split()] == pytest.approx([1, 1], abs=0.01)


def fake_arguments(n: int, backward: bool = False) -> tuple[object, ...]:
    """Those of a dense 3x3 convolution."""
    with FakeTensorMode():
        image = torch.empty(n, 8, 12, 12).contiguous(memory_format=torch.channels_last)
        grad = torch.empty(n, 16, 12, 12).contiguous(memory_format=torch.channels_last)
        weight = torch.empty(16, 8, 3, 3).contiguous(memory_format=torch.channels_last)
    rest = ([1, 1], [1, 1], [1, 1], False, [0, 0], 1)
    return (
        (grad, image, weight, None, *rest, [True, True, False]) if backward else (image, weight, None, *rest)
    )


@pytest.mark.parametrize(("func", "backward"), [(CONVOLUTION, False), (BACKWARD, True)])
def test_a_large_batch_follows_from_two_small_ones(func: object, backward: bool) -> None:
    found = [measured_scratch_bytes(func, fake_arguments(n, backward)) for n in (1, 2, 3, 4, 100_000)]
    assert all(isinstance(n_bytes, int) and n_bytes >= 0 for n_bytes in found)
    fewer, more, four, many = found[1:]
    assert four == fewer + 2 * (more - fewer)
    assert many == fewer + 99_998 * (more - fewer)


@pytest.mark.parametrize("side", [1, 6])
@pytest.mark.parametrize("n", [1, 2, 8, 15, 16, 17, 24])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_pointwise_kernel_is_asked_as_it_will_run(threads: int, n: int, side: int) -> None:
    """Torch chooses other kernels for many samples, and on several threads; some return more than they were
    asked for.
    """
    with with_threads(threads):
        grad = torch.randn(n, 160, side, side).contiguous(memory_format=torch.channels_last)
        image = torch.randn(n, 96, side, side).contiguous(memory_format=torch.channels_last)
        weight = torch.randn(160, 96, 1, 1).contiguous(memory_format=torch.channels_last)
        rest = ([160], [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [True, False, True])
        BACKWARD(grad, image, weight, *rest)
        with memory_profile() as events:
            made = BACKWARD(grad, image, weight, *rest)
        given = made[0].untyped_storage().nbytes() + made[2].untyped_storage().nbytes()
        with FakeTensorMode() as mode:
            fake = [mode.from_tensor(one) for one in (grad, image, weight)]
        assert measured_scratch_bytes(BACKWARD, (*fake, *rest)) == peak_of_events(events) - given


def test_what_a_kernel_gives_back_is_no_scratch() -> None:
    n_bytes = measured_scratch_bytes(CONVOLUTION, fake_arguments(2))
    assert n_bytes < 2 * 16 * 12 * 12 * 4  # its output


def test_what_an_earlier_profile_has_seen_is_not_freed_again() -> None:
    with memory_profile():
        seen = [torch.empty(1000) for _ in range(50)]
    addresses = {block.data_ptr() for block in seen}
    del seen
    before = [torch.empty(1000) for _ in range(50)]
    assert addresses & {block.data_ptr() for block in before}
    with memory_profile() as events:
        del before
        torch.empty(3000)
    assert peak_of_events(events) == 4 * 3000


def test_profiles_that_follow_one_another_see_what_one_sees() -> None:
    peak = AllocatedPeak()
    with memory_profile() as first:
        kept = torch.empty(2000)
        freed = torch.empty(5000)
        del freed
    peak.add(first)
    with memory_profile() as second:
        more = torch.empty(4000)
        del kept
        last = torch.empty(3500)
    peak.add(second)
    assert len(more) + len(last) == 7500
    assert peak.n_bytes == 4 * (4000 + 3500)  # 2000 + 5000 before, and 2000 + 4000


@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="no bfloat16 here")
@pytest.mark.parametrize("n_samples", [4, 9, 12])
def test_in_16_bits_floats_of_the_weight_do_not_hide_the_maps(n_samples: int) -> None:
    with FakeTensorMode():
        image = torch.empty(n_samples, 24, 28, 28, dtype=torch.bfloat16)
        weight = torch.empty(144, 24, 1, 1, dtype=torch.bfloat16)
    rest = (None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1)
    predicted = measured_scratch_bytes(CONVOLUTION, (image, weight, *rest))
    real = [torch.zeros(one.shape, dtype=one.dtype) for one in (image, weight)]
    with torch.no_grad(), with_threads(torch.get_num_threads()):
        CONVOLUTION(*real, *rest)
        with memory_profile() as events:
            made = CONVOLUTION(*real, *rest)
    assert predicted == pytest.approx(peak_of_events(events) - made.nbytes, rel=0.01)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("n", [1, 4, 200])
@pytest.mark.parametrize("given", ["input", "grad", "expanded grad"])
def test_a_product_in_16_bits_is_asked_as_it_will_run(n: int, given: str, dtype: torch.dtype) -> None:
    """Processors with matrix units pack a weight, others do not."""
    x, weight = torch.randn(n, 96, dtype=dtype), torch.randn(160, 96, dtype=dtype)
    grad = torch.randn(n, 160, dtype=dtype)
    if given == "expanded grad":
        grad = torch.ones(1, dtype=dtype).expand(n, 160)
    calls: list[tuple[Any, tuple[torch.Tensor, ...]]] = [
        (torch.ops.aten.mm.default, (grad, weight)),
        (torch.ops.aten.mm.default, (grad.t(), x)),
    ]
    if given == "input":
        bias = torch.randn(160, dtype=dtype)
        calls = [
            (torch.ops.aten.mm.default, (x, weight.t())),
            (torch.ops.aten.addmm.default, (bias, x, weight.t())),
        ]
    with with_threads(1):
        for func, args in calls:
            func(*args)
            with memory_profile() as events:
                out = func(*args)
            with FakeTensorMode() as mode:
                fakes = tuple(mode.from_tensor(arg) for arg in args)
            assert product_scratch_bytes(func, fakes) == peak_of_events(events) - out.nbytes


def test_a_product_of_very_many_rows_is_not_run_whole() -> None:
    with FakeTensorMode():
        x, weight = torch.empty(10**7, 96, dtype=torch.bfloat16), torch.empty(96, 160, dtype=torch.bfloat16)
    with with_threads(1):
        assert 0 <= product_scratch_bytes(torch.ops.aten.mm.default, (x, weight)) < 10**7 * 512
