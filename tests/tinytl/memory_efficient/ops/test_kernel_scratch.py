from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tinytl.memory.measure import MIB, PeakMeter, storage_bytes
from tinytl.memory_efficient.ops.kernel_scratch import scratch_bytes
from tinytl.memory_efficient.ops.measured_scratch import memory_profile, peak_of_events

CONVOLUTION = torch.ops.aten.convolution.default
BACKWARD = torch.ops.aten.convolution_backward.default
# in, out, kernel, stride, groups, map size
KNOWN = {
    "pointwise": (16, 32, 1, 1, 1, 8),
    "depthwise 3x3": (32, 32, 3, 1, 32, 8),
    "depthwise 3x3, stride 2": (32, 32, 3, 2, 32, 8),
    "depthwise 3x3, map of 2": (32, 32, 3, 1, 32, 2),
    "depthwise 5x5": (32, 32, 5, 1, 32, 8),
    "depthwise 7x7, stride 2": (32, 32, 7, 2, 32, 8),
    "two groups": (32, 64, 3, 1, 2, 8),
    "four groups of 12": (48, 48, 5, 2, 4, 8),
}


def _call(
    case: str, mask: tuple[bool, bool, bool] | None, dtype: torch.dtype = torch.float32
) -> tuple[Any, tuple[Any, ...]]:
    """The operator and its arguments; `mask` says which gradients the backward one is asked for."""
    n_in, n_out, kernel, stride, groups, size = KNOWN[case]
    image = torch.zeros(2, n_in, size, size, dtype=dtype).contiguous(memory_format=torch.channels_last)
    weight = torch.zeros(n_out, n_in // groups, kernel, kernel, dtype=dtype)
    weight = weight.contiguous(memory_format=torch.channels_last)
    rest = ([stride] * 2, [kernel // 2] * 2, [1, 1], False, [0, 0], groups)
    if mask is None:
        return CONVOLUTION, (image, weight, None, *rest)
    gradient = torch.zeros_like(CONVOLUTION(image, weight, None, *rest))
    return BACKWARD, (gradient, image, weight, None, *rest, list(mask))


def _measured(run: Callable[[], Any]) -> float:
    """Bytes that the allocator gave above what `run` returns."""
    run()
    net = torch.nn.Identity()
    net.register_parameter("none", torch.nn.Parameter(torch.zeros(1)))
    with PeakMeter(net, torch.optim.SGD(net.parameters()), []) as meter:
        out = run()
    returned = [t for t in (out if isinstance(out, tuple) else (out,)) if isinstance(t, Tensor)]
    return meter.peak_mib * MIB - 4 - storage_bytes(returned)


@pytest.mark.parametrize("mask", [None, (True, False, False), (False, True, False), (True, True, False)])
@pytest.mark.parametrize("case", KNOWN)
def test_a_kernel_of_onednn_agrees_with_the_allocator(
    case: str, mask: tuple[bool, bool, bool] | None
) -> None:
    func, args = _call(case, mask)
    assert _measured(lambda: func(*args)) == scratch_bytes(func, args)


@pytest.mark.parametrize("mask", [None, (True, False, False), (False, True, False)])
@pytest.mark.parametrize("case", KNOWN)
def test_what_onednn_does_not_convolve_agrees_with_the_allocator(
    case: str, mask: tuple[bool, bool, bool] | None
) -> None:
    """No CPU's oneDNN takes float64; most take no bfloat16 or float16, which then go the same way."""
    func, args = _call(case, mask, torch.float64)
    weight = args[1] if mask is None else args[2]
    # The weight itself may be copied, or not: a thousandth of a step.
    assert _measured(lambda: func(*args)) == pytest.approx(scratch_bytes(func, args), abs=weight.nbytes)


@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_transposed_convolution_by_columns_agrees_with_the_allocator(stride: int, groups: int) -> None:
    image = torch.zeros(2, 8, 6, 6, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    weight = torch.zeros(8, 8 // groups, 3, 3, dtype=torch.float64)
    args = (image, weight, None, [stride] * 2, [1, 1], [1, 1], True, [stride - 1] * 2, groups)
    found = scratch_bytes(CONVOLUTION, args)
    assert _measured(lambda: CONVOLUTION(*args)) == pytest.approx(found, abs=weight.nbytes)


def test_other_operators_take_nothing() -> None:
    assert scratch_bytes(torch.ops.aten.relu.default, (torch.zeros(3),)) == 0


def _one_pixel(stride: int) -> tuple[Any, tuple[Any, ...]]:
    """A depthwise 3x3 on a map of one pixel, whose strides say nothing and yet choose the kernel."""
    image = torch.zeros(2 * 32).as_strided((2, 32, 1, 1), (32, 1, stride, stride))
    weight = torch.zeros(32, 1, 3, 3).contiguous(memory_format=torch.channels_last)
    rest = ([1, 1], [1, 1], [1, 1], False, [0, 0], 32)
    return BACKWARD, (torch.zeros(2, 32, 1, 1), image, weight, None, *rest, [False, True, False])


@pytest.mark.parametrize("stride", [1, 32])
def test_one_pixel(stride: int) -> None:
    func, args = _one_pixel(stride)
    assert _measured(lambda: func(*args)) == scratch_bytes(func, args)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "formats", [("channels_last",) * 2, ("contiguous_format",) * 2, ("channels_last", "contiguous_format")]
)
def test_batch_norm_backward(formats: tuple[str, str], training: bool) -> None:
    image, grad = (torch.randn(2, 8, 16, 16).contiguous(memory_format=getattr(torch, f)) for f in formats)
    ones, zeros = torch.ones(8), torch.zeros(8)
    _, mean, inverse = torch.native_batch_norm(image, ones, zeros, zeros, ones, training, 0.1, 1e-5)
    backward = torch.ops.aten.native_batch_norm_backward.default
    args = (grad, image, ones, zeros, ones, mean, inverse, training, 1e-5, [True, False, False])
    assert scratch_bytes(backward, args) == (4 * image.numel() if formats[0] == formats[1] else 0)
    assert _measured(lambda: backward(*args)) == pytest.approx(scratch_bytes(backward, args), abs=200)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_a_fused_optimiser_copies_what_is_not_contiguous(
    kind: Callable[..., torch.optim.Optimizer], form: torch.memory_format
) -> None:
    sizes = [(24, 16, 3, 3), (64, 32, 3, 3), (128, 64, 1, 1), (64,)]
    weights = [torch.nn.Parameter(torch.randn(size)) for size in sizes]
    for weight in weights[:3]:
        weight.data = weight.data.contiguous(memory_format=form)
    optimizer = kind(weights, lr=0.1, fused=True)
    for weight in weights:
        weight.grad = torch.randn_like(weight)
    optimizer.step()
    with memory_profile() as events:
        optimizer.step()
    func = getattr(torch.ops.aten, f"_fused_{kind.__name__.lower()}_").default
    predicted = scratch_bytes(func, (weights, [weight.grad for weight in weights]))
    assert predicted == (weights[1].nbytes if form is torch.channels_last else 0)
    assert peak_of_events(events) == pytest.approx(predicted, abs=64)


SUMS: dict[str, Callable[[Tensor], Tensor]] = {
    "a bias's": lambda x: x.sum((0, 2, 3)),
    "wide": lambda x: x.sum((0, 2, 3), dtype=torch.float32),
    "of each map": lambda x: x.sum((2, 3), keepdim=True),
    "of everything": lambda x: x.sum(),
    "over samples": lambda x: x.sum(0),
    "mean of each map": lambda x: x.mean((2, 3)),
}


class Scratch(TorchDispatchMode):
    """Notes what is predicted of the operations inside."""

    n_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.n_bytes = max(self.n_bytes, scratch_bytes(func, args, kwargs))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", SUMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_a_sum_of_16_bits_may_be_made_of_a_copy(
    name: str, dtype: torch.dtype, form: torch.memory_format
) -> None:
    x = torch.randn(8, 16, 24, 24).to(dtype).contiguous(memory_format=form)
    with Scratch() as scratch:
        SUMS[name](x)
    with memory_profile() as events:
        made = SUMS[name](x)
    real = peak_of_events(events) - made.nbytes
    assert scratch.n_bytes == pytest.approx(real, abs=2048)
