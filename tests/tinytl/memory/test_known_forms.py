from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from tinytl.memory.known_forms import dense_strides, elementwise_strides, forms_of, written

SHAPES = [(2, 8, 6, 6), (1, 8, 6, 6), (2, 1, 6, 6), (2, 8, 1, 1), (1, 8, 1, 1), (1, 1, 1, 1), (3, 8, 1, 5)]
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(2, 3),
    "sliced": lambda x: x[:, ::2],
}
ON_MAPS: dict[str, Callable[[Tensor], object]] = {
    "number": lambda x: x * 2,
    "whole number": lambda x: x - 1,
    "same": lambda x: x + x,
    "other layout": lambda x: x * torch.empty(x.shape),
    "other layout first": lambda x: torch.empty(x.shape) * x,
    "per channel": lambda x: x * torch.empty(1, x.shape[1], 1, 1),
    "per channel first": lambda x: torch.empty(1, x.shape[1], 1, 1) + x,
    "per sample and channel": lambda x: x / torch.empty(*x.shape[:2], 1, 1),
    "last axis": lambda x: x + torch.empty(x.shape[3]),
    "negative": lambda x: -x,
    "root": torch.rsqrt,
    "product on top": lambda x: torch.addcmul(torch.empty(1, x.shape[1], 1, 1), x, x, value=2),
    "compared": lambda x: x >= 0.5,
    "mask": lambda x: x * (x > 0),
    "integers": lambda x: x.to(torch.int64) * 3,
    "empty like": torch.empty_like,
    "zeros like": lambda x: torch.zeros_like(x, dtype=torch.int8),
    "ones like, laid out": lambda x: torch.ones_like(x, memory_format=torch.channels_last),
    "clone": torch.clone,
    "clone, laid out": lambda x: x.clone(memory_format=torch.contiguous_format),
    "new": lambda x: (x.new_empty((3, 4)), x.new_zeros(5, dtype=torch.uint8)),
    "sum": lambda x: (x.sum(), x.sum((0, 2, 3)), x.sum((2, 3), keepdim=True), (x > 0).sum()),
    "mean": lambda x: (x.mean((2, 3)), x.mean((2, 3), keepdim=True)),
    "padded": lambda x: F.pad(x, (0, 1, 0, 1)),
    "resized": lambda x: F.interpolate(x, (7, 5), mode="nearest"),
    "filled": lambda x: x.masked_fill(x > 0, 1.0),
    "filled in place": lambda x: x.masked_fill_(x > 0, 1.0).mul_(2).clamp_(0, 1),
    "written": lambda x: torch.mul(x, x, out=torch.empty_like(x)),
    "kink": lambda x: torch.ops.aten.threshold_backward(torch.empty(x.shape), x, 0),
    "two kinks": lambda x: torch.ops.aten.hardtanh_backward(x, torch.empty(x.shape), 0.0, 6.0),
}


class Compared(TorchDispatchMode):
    """Compares what is said to be known of each operation with what the mode below it answers."""

    def __init__(self) -> None:
        super().__init__()
        self.known: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs = kwargs or {}
        targets = written(func, args, kwargs)
        has_tensor = any(isinstance(arg, Tensor) for arg in args)
        forms = forms_of(func, args, kwargs) if has_tensor and targets is None else None
        out = func(*args, **kwargs)
        if targets is not None:
            assert [*(out if isinstance(out, tuple) else (out,))] == targets
            self.known.append(func.name())
        elif forms is not None:
            made = [*(out if isinstance(out, tuple) else (out,))]
            assert [(tuple(t.shape), t.stride(), t.dtype) for t in made] == list(forms), func
            self.known.append(func.name())
        return out


@pytest.mark.parametrize("operation", ON_MAPS.values(), ids=ON_MAPS)
def test_forms_of_maps_are_those_of_fake_tensors(operation: Callable[[Tensor], object]) -> None:
    with FakeTensorMode():
        for shape in SHAPES:
            for layout, lay_out in LAYOUTS.items():
                x = lay_out(torch.empty(shape))
                with Compared() as compared:
                    operation(x)
                assert compared.known or layout not in ("contiguous", "channels_last") or 1 in shape


@pytest.mark.parametrize("reduction", ["sum", "none", "mean"])
@pytest.mark.parametrize("n_samples", [1, 5])
def test_forms_of_a_head_and_its_loss_are_those_of_fake_tensors(n_samples: int, reduction: str) -> None:
    with FakeTensorMode():
        x = torch.empty(n_samples, 12)
        weight, bias = torch.empty(7, 12, requires_grad=True), torch.empty(7, requires_grad=True)
        labels = torch.empty(n_samples, dtype=torch.int64)
        with Compared() as compared:
            logits = F.linear(x, weight, bias)
            loss = F.cross_entropy(logits, labels, label_smoothing=0.1, reduction=reduction)
            loss.sum().backward()  # type: ignore[no-untyped-call]
            assert logits.detach().argmax(1).dtype == torch.int64
    expected = {"aten::addmm", "aten::mm", "aten::_log_softmax", "aten::nll_loss_forward", "aten::argmax"}
    assert expected <= set(compared.known)


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
def test_forms_of_a_pool_are_those_of_fake_tensors(last: bool) -> None:
    with FakeTensorMode():
        x = torch.empty(2, 8, 7, 9).contiguous(
            memory_format=torch.channels_last if last else torch.contiguous_format
        )
        x.requires_grad_(True)
        with Compared() as compared:
            F.avg_pool2d(x, 2).sum().backward()  # type: ignore[no-untyped-call]
            F.interpolate(x, (14, 20), mode="bilinear").sum().backward()  # type: ignore[no-untyped-call]
            F.avg_pool2d(x, (3, 2), stride=(2, 1))
    assert {"aten::avg_pool2d", "aten::avg_pool2d_backward"} <= set(compared.known)


def test_the_first_operand_that_has_an_order_decides() -> None:
    shape = (2, 3, 4, 5)
    last = dense_strides(shape, (0, 2, 3, 1))
    assert last == (60, 1, 15, 3)
    assert elementwise_strides(shape, [last, dense_strides(shape)]) == last
    assert elementwise_strides(shape, [dense_strides(shape), last]) == dense_strides(shape)
    assert elementwise_strides(shape, [(0, 1, 0, 0), last]) == last
