"""Comparison of a lean computation with stock's, shared by the tests of this folder."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 3e-2}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def relative_error(mine: Tensor, stock: Tensor) -> float:
    difference = (mine.double() - stock.double()).norm().item()
    return difference / max(stock.double().norm().item(), 1e-12)


@pytest.fixture
def assert_same():
    """Checks outputs and the gradients of all `inputs` that want one, with a random output gradient."""

    def check(
        lean: Callable[..., Tensor], stock: Callable[..., Tensor], inputs: Sequence[Tensor | None]
    ) -> None:
        results = []
        for function in (lean, stock):
            copies = [
                None if t is None else t.detach().clone().requires_grad_(t.requires_grad) for t in inputs
            ]
            y = function(*copies)
            if y.requires_grad:
                generator = torch.Generator().manual_seed(1)
                y.backward(torch.randn(y.shape, generator=generator).to(y.dtype))
            results.append((y.detach(), [None if t is None else t.grad for t in copies], y.requires_grad))
        (mine, my_grads, mine_wants), (theirs, their_grads, theirs_wants) = results
        assert mine_wants == theirs_wants
        assert mine.dtype == theirs.dtype and mine.shape == theirs.shape
        limit = TOLERANCE[mine.dtype]
        assert relative_error(mine, theirs) <= limit
        for my_grad, their_grad in zip(my_grads, their_grads, strict=True):
            assert (my_grad is None) == (their_grad is None)
            if my_grad is not None:
                assert my_grad.dtype == their_grad.dtype
                assert relative_error(my_grad, their_grad) <= limit

    return check


@pytest.fixture
def assert_harms_nobody():
    """Checks that backward edits neither the gradient that it is handed nor what forward was handed.

    First directly, with a gradient in each memory format and one without memory of its own (a sum's); then by
    what stock gives to others that hold the same tensors: the other term of a sum, a second consumer, and
    whoever retains gradients.
    """

    def check(
        lean: Callable[..., Tensor], stock: Callable[..., Tensor], inputs: Sequence[Tensor | None]
    ) -> None:
        held = [None if t is None else t.detach().clone() for t in inputs]
        leaves = [t for t in inputs if t is not None and t.requires_grad]
        y = lean(*inputs)
        for grad in _gradients_like(y):
            before = grad.clone()
            first = torch.autograd.grad(y, leaves, grad, retain_graph=True)
            again = torch.autograd.grad(y, leaves, grad, retain_graph=True)
            assert torch.equal(grad, before)
            assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
        for now, before in zip(inputs, held, strict=True):
            assert now is None or torch.equal(now, before)

        x, *rest = held
        assert x is not None
        found = []
        for function in (lean, stock):
            start = x.clone().requires_grad_()
            middle = start * 1
            y = function(middle, *rest)
            other = torch.ones_like(y, requires_grad=True)
            total = y + other  # hands one gradient to both
            twice = total + y.detach() * y
            kept = (middle, y, total, twice)
            for tensor in kept:
                tensor.retain_grad()
            ((twice + twice.cos()).sum() + (middle * middle).sum()).backward()
            found.append([start.grad, other.grad, *(tensor.grad for tensor in kept)])
        for mine, theirs in zip(*found, strict=True):
            assert relative_error(mine, theirs) <= TOLERANCE[x.dtype]

    return check


def _gradients_like(y: Tensor) -> list[Tensor]:
    grad = torch.randn_like(y)
    made = [grad.contiguous(), torch.ones((), dtype=y.dtype).expand(y.shape)]
    return [*made, grad.contiguous(memory_format=torch.channels_last)] if y.dim() == 4 else made


@pytest.fixture
def kept_bytes():
    """Returns bytes that autograd keeps beyond `known` tensors while a function runs."""

    def measure(function: Callable[[], Tensor], known: Sequence[Tensor]) -> int:
        seen = {t.untyped_storage()._cdata for t in known}
        total = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal total
            storage = tensor.untyped_storage()
            if storage._cdata not in seen:
                seen.add(storage._cdata)
                total += storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            y = function()
        assert y.requires_grad
        return total

    return measure
