"""Comparison of a lean computation with stock's, shared by the tests of this folder."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 3e-2}


@pytest.fixture(autouse=True)
def one_thread_and_seed():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


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
