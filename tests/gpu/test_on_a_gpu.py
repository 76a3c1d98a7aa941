"""What only a GPU can say; not collected without one."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.gpu.graph import recorded_step
from tests.support.cases import small
from tinytl.build import build_model
from tinytl.config.plan import lean_plan
from tinytl.device import copy_into, sent
from tinytl.memory.fake_step import FakeStep
from tinytl.memory.gpu_scratch import ask_gpu
from tinytl.memory.measure import MIB
from tinytl.memory.measured_step import measure_memory
from tinytl.memory.predict import predict_memory
from tinytl.memory_efficient.ops.bit_mask_triton import apply_by_triton, kernels_work, pack_by_triton
from tinytl.memory_efficient.ops.pointwise import product_forward, product_input_grad, product_weight_grad
from tinytl.step_time.measure import prepared_step
from tinytl.step_time.own_process import in_own_process
from tinytl.training.captured_step import CapturedStep, CudaGraphs
from tinytl.training.mixed_precision import MixedPrecision
from tinytl.training.step import InputNormalizer, build_optimizer, random_batch
from tuner.trial import gpu_share
from tuner.trial.gpu_share import CUDA_CONTEXT_MIB, keep_to_share

GPU = torch.device("cuda")
CONFIG = lean_plan(small(method="TinyTL-L+B", norm="frozen_bn", resolution=64, device="cuda"))


@pytest.fixture
def waiting_is_an_error() -> Iterator[Callable[[], None]]:
    """Called, it makes everything an error that waits for the GPU, until the test ends."""
    yield lambda: torch.cuda.set_sync_debug_mode("error")
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_step_does_not_wait_for_the_gpu(
    precision: str, recorded: bool, waiting_is_an_error: Callable[[], None]
) -> None:
    config = dataclasses.replace(CONFIG, precision=precision, cuda_graph=recorded, micro_batch_size=2)
    step = prepared_step(config, waits=False)
    step()
    waiting_is_an_error()
    step()


@pytest.mark.parametrize("method", ["TinyTL-L+B", "FT-Full"])
def test_a_step_as_a_graph_needs_the_memory_that_is_predicted(method: str) -> None:
    config = small(method=method, norm="frozen_bn", resolution=128, batch_size=8, device="cuda")
    planned = dataclasses.replace(lean_plan(config), cuda_graph=True)
    first, second = measure_memory(planned), measure_memory(planned)
    assert first == pytest.approx(second, rel=0.01)  # whoever came first has paid for the workspace
    assert predict_memory(planned).peak_mib == pytest.approx(second, rel=0.02)


def test_a_gpu_says_of_operations_what_it_says_again_in_another_process() -> None:
    planned = dataclasses.replace(CONFIG, precision="tf32")
    calls = sorted(FakeStep(planned).run(planned).calls)
    found = ask_gpu(calls)
    assert found.keys() == set(calls) and min(found.values()) >= 0
    assert in_own_process(ask_gpu, calls) == found


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_product_is_the_1_x_1_convolution_and_allocates_nothing_inside(dtype: torch.dtype) -> None:
    MixedPrecision("float32", GPU)
    torch.manual_seed(0)
    x = torch.randn(8, 96, 56, 56, device=GPU).to(dtype, memory_format=torch.channels_last)
    grad = torch.randn(8, 24, 56, 56, device=GPU).to(dtype, memory_format=torch.channels_last)
    weight, bias = torch.randn(24, 96, 1, 1, device=GPU).to(dtype), torch.randn(24, device=GPU).to(dtype)
    wide = [t.clone().double().requires_grad_() for t in (x, weight)]
    y = nn.functional.conv2d(*wide, bias.double())
    expected = (y, *torch.autograd.grad(y, wide, grad.double()))
    ways = (
        lambda: product_forward(x, weight, bias),
        lambda: product_input_grad(grad, weight),
        lambda: product_weight_grad(grad, x),
    )
    off = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}[dtype]
    for way, other in zip(ways, expected, strict=True):
        way()
        torch.cuda.reset_peak_memory_stats()
        found = way()
        counted = torch.cuda.memory_stats()
        assert counted["requested_bytes.all.peak"] == counted["requested_bytes.all.current"]
        assert float((found - other.detach()).abs().max()) <= off * float(other.detach().abs().max())


def test_replays_need_no_new_memory() -> None:
    step = recorded_step(CONFIG)
    step()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
    for _ in range(3):
        step()
    assert torch.cuda.memory_allocated() == before[0] and torch.cuda.memory_reserved() == before[1]


class Reads(nn.Module):
    """Adds nothing, and reads a value, which no graph records."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 0.0 * float(x.detach().sum())


def test_what_cannot_be_recorded_goes_on_without_a_graph_on_the_stream_that_it_had() -> None:
    config = dataclasses.replace(CONFIG, cuda_graph=True)
    net = build_model(config).net
    net.classifier = nn.Sequential(Reads(), net.get_submodule("classifier"))
    net = net.to(GPU)
    optimizer = build_optimizer(net, config)
    normalize, precision = InputNormalizer(config, GPU), MixedPrecision(config.precision, GPU)
    step = CapturedStep(config, net, optimizer, normalize, precision, CudaGraphs())
    batch, stream = random_batch(config, GPU), torch.cuda.current_stream()
    losses = [float(step(*batch)[0]) for _ in range(3)]
    assert step.refusal is not None and step.refusal.startswith("recording it failed (")
    assert torch.cuda.current_stream() == stream and all(map(math.isfinite, losses))


def test_training_repeats_its_bits() -> None:
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        net = build_model(CONFIG).net.to(GPU)
        optimizer = build_optimizer(net, CONFIG)
        normalize, precision = InputNormalizer(CONFIG, GPU), MixedPrecision(CONFIG.precision, GPU)
        step = CapturedStep(CONFIG, net, optimizer, normalize, precision, CudaGraphs())
        torch.manual_seed(1)
        batch = random_batch(CONFIG, GPU)
        for _ in range(4):
            step(*batch)
        found.append([parameter.detach().clone() for parameter in net.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


SIZES, TYPES = (1, 7, 8, 2047, 2049, 1_000_003), (torch.float32, torch.bfloat16, torch.float16)


@pytest.mark.parametrize(("n", "dtype", "high"), itertools.product(SIZES, TYPES, (6.0, math.inf)))
def test_triton_s_masks_are_torch_s(n: int, dtype: torch.dtype, high: float) -> None:
    assert kernels_work(GPU)
    torch.manual_seed(0)
    values = 6 * torch.randn(n, device=GPU)
    values[::5], values[::7], values[::11] = 0.0, math.nan, math.inf
    values, grad = values.to(dtype), torch.randn(n, device=GPU).to(dtype)
    bits = torch.empty((n + 7) // 8, dtype=torch.uint8, device=GPU)
    out = torch.empty_like(grad)
    pack_by_triton(values, bits, 0.0, high)
    apply_by_triton(grad, bits, out)
    inside = values.isnan() | ((values > 0) & ((values < high) | (high == math.inf)))
    assert torch.equal(out, torch.where(inside, grad, 0))


def test_a_process_keeps_to_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    total_mib = torch.cuda.get_device_properties(GPU).total_memory / MIB
    allowed_mib = 256.0
    torch.cuda.empty_cache()
    held_mib = torch.cuda.memory_reserved() / MIB
    part = (allowed_mib + held_mib + CUDA_CONTEXT_MIB) / total_mib
    monkeypatch.setattr(gpu_share, "assigned_gpus", lambda: part)
    share = keep_to_share(GPU)
    try:
        assert share is not None and share.allowed_mib == pytest.approx(allowed_mib + held_mib)
        kept = torch.empty(int(0.9 * allowed_mib * MIB), dtype=torch.uint8, device=GPU)
        with pytest.raises(torch.OutOfMemoryError) as full:
            torch.empty(int(0.2 * allowed_mib * MIB), dtype=torch.uint8, device=GPU)
        assert share.neighbours_fault(full.value, need_mib=2 * allowed_mib + held_mib) is None
        assert share.neighbours_fault(full.value, need_mib=0.0) is not None
        del kept
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.parametrize("copy", [lambda t: sent(t, GPU), lambda t: filled(t)])
def test_copies_to_the_gpu_arrive_and_do_not_wait(
    copy: Callable[[torch.Tensor], Any], waiting_is_an_error: Callable[[], None]
) -> None:
    tensor = torch.arange(1 << 20, dtype=torch.int32)
    copy(tensor)  # the first pinned memory is made
    waiting_is_an_error()
    found = copy(tensor)
    torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(found.cpu(), tensor)


def filled(tensor: torch.Tensor) -> torch.Tensor:
    target = torch.zeros_like(tensor, device=GPU)
    copy_into(target, tensor)
    return target
