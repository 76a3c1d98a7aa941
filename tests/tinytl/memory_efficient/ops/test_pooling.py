import functools

import pytest
import torch
import torch.nn.functional as F

from tinytl.memory_efficient.ops.pooling import (
    PoolSpec,
    lean_adaptive_average_pool,
    lean_average_pool,
    lean_max_pool,
)
from tinytl.networks.lite_residual import AvgPoolWithinMap

AVERAGE = [
    PoolSpec(kernel=(2, 2), stride=(2, 2)),
    PoolSpec(kernel=(3, 2), stride=(3, 2)),
    PoolSpec(kernel=(3, 3), stride=(2, 1), padding=(1, 1)),
    PoolSpec(kernel=(3, 3), stride=(2, 2), padding=(1, 1), ceil_mode=True, count_include_pad=False),
    PoolSpec(kernel=(2, 2), stride=(2, 2), divisor_override=3),
]
MAXIMUM = [
    PoolSpec(kernel=(2, 2), stride=(2, 2)),
    PoolSpec(kernel=(3, 3), stride=(2, 2), padding=(1, 1)),
    PoolSpec(kernel=(3, 2), stride=(1, 2), padding=(1, 0), dilation=(2, 3)),
    PoolSpec(kernel=(3, 3), stride=(2, 2), ceil_mode=True),
    PoolSpec(kernel=(17, 17), stride=(5, 5), padding=(8, 8)),
]
LAYOUTS = pytest.mark.parametrize(
    "layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"]
)


def stock_average(spec):
    return lambda x: F.avg_pool2d(
        x,
        spec.kernel,
        spec.stride,
        spec.padding,
        spec.ceil_mode,
        spec.count_include_pad,
        spec.divisor_override,
    )


def stock_maximum(spec):
    return lambda x: F.max_pool2d(x, spec.kernel, spec.stride, spec.padding, spec.dilation, spec.ceil_mode)


@LAYOUTS
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("spec", AVERAGE)
def test_average_equals_stock(assert_same, spec, dtype, layout):
    for wants in (True, False):
        x = torch.randn(2, 3, 11, 14).to(dtype).contiguous(memory_format=layout).requires_grad_(wants)
        assert_same(lambda t: lean_average_pool(t, spec), stock_average(spec), [x])


@LAYOUTS
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("spec", MAXIMUM)
def test_maximum_equals_stock(assert_same, spec, dtype, layout):
    for wants in (True, False):
        x = torch.randn(2, 3, 11, 14).to(dtype).contiguous(memory_format=layout).requires_grad_(wants)
        assert_same(lambda t: lean_max_pool(t, spec), stock_maximum(spec), [x])


def test_window_within_the_map(assert_same):
    spec = PoolSpec(kernel=(4, 4), stride=(4, 4), within_map=True)
    for size in ((8, 8), (3, 5), (9, 2), (1, 1)):
        x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
        assert_same(lambda t: lean_average_pool(t, spec), AvgPoolWithinMap(4), [x])


def test_ties_go_where_stock_sends_them(assert_same):
    x = torch.ones(1, 2, 6, 6, dtype=torch.float64, requires_grad=True)
    assert_same(lambda t: lean_max_pool(t, MAXIMUM[1]), stock_maximum(MAXIMUM[1]), [x])


@pytest.mark.parametrize("spec", AVERAGE)
def test_gradcheck_of_average(spec):
    x = torch.randn(1, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: lean_average_pool(t, spec), (x,))


@pytest.mark.parametrize("spec", MAXIMUM)
def test_gradcheck_of_maximum(spec):
    # Distinct values: a step of gradcheck must not change which one is the largest.
    x = torch.randperm(2 * 7 * 8).double().view(1, 2, 7, 8).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: lean_max_pool(t, spec), (x,))


@LAYOUTS
def test_harms_nobody(assert_harms_nobody, layout):
    x = torch.randn(2, 3, 11, 14, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    for spec in AVERAGE:
        assert_harms_nobody(lambda t, s=spec: lean_average_pool(t, s), stock_average(spec), [x])
    for spec in MAXIMUM:
        assert_harms_nobody(lambda t, s=spec: lean_max_pool(t, s), stock_maximum(spec), [x])


def test_keeps_no_input(kept_bytes):
    x = torch.randn(2, 4, 8, 8, requires_grad=True)
    assert kept_bytes(lambda: lean_average_pool(x, AVERAGE[0]), []) == 0
    assert kept_bytes(lambda: lean_max_pool(x, MAXIMUM[0]), []) == x.numel() // 4


@LAYOUTS
@pytest.mark.parametrize("size", [2, (3, 5), (None, 4), 20, 1])
def test_adaptive_averages(assert_same, assert_harms_nobody, kept_bytes, size, layout):
    x = torch.randn(2, 3, 9, 7, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    stock = functools.partial(F.adaptive_avg_pool2d, output_size=size)
    assert_same(lambda x: lean_adaptive_average_pool(x, size), stock, [x])
    assert_harms_nobody(lambda x: lean_adaptive_average_pool(x, size), stock, [x])
    assert kept_bytes(lambda: lean_adaptive_average_pool(x, size), []) == 0
    assert lean_adaptive_average_pool(x, size).stride() == stock(x).stride()
