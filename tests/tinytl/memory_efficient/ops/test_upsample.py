import pytest
import torch
import torch.nn.functional as F

from tinytl.memory_efficient.ops.upsample import lean_resize


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize("size", [(8, 10), (7, 9), (4, 5), (3, 2)])
def test_equals_stock(assert_same, size, mode, dtype, layout):
    for wants in (True, False):
        x = torch.randn(2, 3, 4, 5).to(dtype).contiguous(memory_format=layout).requires_grad_(wants)
        assert_same(lambda t: lean_resize(t, size, mode), lambda t: F.interpolate(t, size, mode=mode), [x])


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest"])
def test_gradcheck(mode):
    x = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: lean_resize(t, (5, 7), mode), (x,))


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest"])
def test_harms_nobody(assert_harms_nobody, mode):
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    assert_harms_nobody(
        lambda t: lean_resize(t, (7, 9), mode), lambda t: F.interpolate(t, (7, 9), mode=mode), [x]
    )


def test_keeps_nothing(kept_bytes):
    x = torch.randn(2, 3, 4, 5, requires_grad=True)
    assert kept_bytes(lambda: lean_resize(x, (8, 10)), []) == 0
