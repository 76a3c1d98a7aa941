"""Code that calls activations and pooling as functions: stock's numbers, a bit per element kept."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.lean_networks import assert_same_outcome
from tinytl import predict_step
from tinytl.memory_efficient import Execution, make_memory_efficient_, undo_memory_efficient_
from tinytl.memory_efficient.kept import find_kept
from tinytl.memory_efficient.lean_functions import calls_functions

FUNCTIONS = {
    "relu": F.relu,
    "relu in place": lambda x: F.relu(x * 1, inplace=True),
    "torch.relu": torch.relu,
    "method": lambda x: x.relu(),
    "method in place": lambda x: (x * 1).relu_(),
    "relu6": F.relu6,
    "leaky relu": lambda x: F.leaky_relu(x, 0.2),
    "leaky relu of no slope": lambda x: F.leaky_relu(x, 0.0),
    "max pooling": lambda x: F.max_pool2d(x, (3, 2), 2, padding=1),
    "max pooling with places": lambda x: F.max_pool2d(x, 2, return_indices=True)[0],
    "average pooling of one number": lambda x: F.avg_pool2d(x, [2]),
    "torch.max_pool2d": lambda x: torch.max_pool2d(x, 3),
    "average pooling": lambda x: F.avg_pool2d(x, 3, stride=2, ceil_mode=True),
    "of one sample": lambda x: F.max_pool2d(x[0], 2).expand(len(x), -1, -1, -1),
    "integers": lambda x: x * torch.relu(torch.arange(5) - 2).sum(),
}


class Calls(nn.Module):
    """Some of its code is in a method that `forward` calls."""

    def __init__(self, name: str = "relu") -> None:
        super().__init__()
        self.name = name
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.mixed = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        return self.mixed(self.activated(self.norm(self.conv(x)))).mean((2, 3)) * scale

    def activated(self, x: Tensor) -> Tensor:
        return F.relu(FUNCTIONS[self.name](x) - 0.1)


class HasModules(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(x)


def both(name: str) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    net = Calls(name).double().eval()
    lean = copy.deepcopy(net)
    make_memory_efficient_(lean, Execution(stock_below_kib=0))
    return lean, net


@pytest.mark.parametrize("name", FUNCTIONS)
def test_outputs_and_gradients_are_those_of_stock(name: str) -> None:
    assert_same_outcome(*both(name), torch.randn(2, 3, 12, 11, dtype=torch.float64), 1e-12)


def test_a_bit_per_element_is_kept() -> None:
    net = Calls().eval()
    net.requires_grad_(False).norm.bias.requires_grad_()
    x = torch.randn(4, 3, 34, 34)
    stock = sum(one.mib for one in find_kept(net, x))
    report = make_memory_efficient_(net, Execution(stock_below_kib=0), example=x)
    assert report.code == [""] and "1 module with code that calls activations" in str(report)
    assert sum(one.mib for one in report.kept) < stock / 16


def test_a_prediction_counts_what_is_kept() -> None:
    lean, stock = Calls().eval(), Calls().eval()
    for net in (lean, stock):
        net.requires_grad_(False).norm.bias.requires_grad_()
    make_memory_efficient_(lean)
    x = torch.randn(8, 3, 66, 66)
    assert predict_step(lean, x).peak_mib < 0.8 * predict_step(stock, x).peak_mib


def test_other_arguments_copies_and_pickles_work() -> None:
    lean, stock = both("relu6")
    x = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    for other in (lean, copy.deepcopy(lean), pickle.loads(pickle.dumps(lean))):
        assert torch.equal(other(x, scale=2.0), stock(x, 2.0))
    undo_memory_efficient_(lean)
    assert type(lean) is Calls and vars(lean).keys() == vars(stock).keys()


def test_code_inside_of_code_is_looked_at_once() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Calls()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(F.relu(x))

    net = Outer().double().eval()
    lean = copy.deepcopy(net)
    assert make_memory_efficient_(lean, Execution(stock_below_kib=0)).code == ["", "inner"]
    assert_same_outcome(lean, net, torch.randn(2, 3, 12, 12, dtype=torch.float64), 1e-12)


def test_after_an_error_the_functions_are_torchs_again() -> None:
    lean, _ = both("relu")
    with pytest.raises(RuntimeError):
        lean(torch.randn(2, 4, 12, 12, dtype=torch.float64))
    assert type(F.relu(torch.randn(2, requires_grad=True)).grad_fn).__name__ == "ReluBackward0"


def test_code_that_calls_children_of_these_names_is_left_alone() -> None:
    assert calls_functions(Calls())
    assert not calls_functions(HasModules())
    assert not calls_functions(nn.Sequential(nn.ReLU()))
