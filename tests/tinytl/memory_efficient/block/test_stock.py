from collections.abc import Callable

import pytest
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tests.support.lean_networks import converted, plain_net
from tinytl.memory_efficient.block.stock import (
    base_class,
    fits_window,
    has_hooks,
    keeps_forward,
    pads_by_size,
    reason_to_leave,
    reason_unfit,
    standardizes_weight,
)
from tinytl.networks.backbones.inverted_residual import SamePadConv2d
from tinytl.networks.lite_residual import AvgPoolWithinMap
from tinytl.networks.weight_standardization import WeightStandardizedConv2d, WeightStandardizedSamePadConv2d


class Renamed(nn.Conv2d):
    """Another name, the same forward."""


class Doubled(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class Hidden(nn.Conv2d):
    """Changes what forward calls."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return 2 * super()._conv_forward(input, weight, bias)


def _with_own_forward(module: nn.Module) -> nn.Module:
    module.forward = lambda x: x  # type: ignore[method-assign]
    return module


@pytest.mark.parametrize(
    ("module", "cls", "expected"),
    [
        (nn.Conv2d(1, 1, 1), nn.Conv2d, True),
        (Renamed(1, 1, 1), nn.Conv2d, True),
        (Doubled(1, 1, 1), nn.Conv2d, False),
        (Hidden(1, 1, 1), nn.Conv2d, False),
        (_with_own_forward(nn.Conv2d(1, 1, 1)), nn.Conv2d, False),
        (nn.Conv1d(1, 1, 1), nn.Conv2d, False),
        (SamePadConv2d(1, 1, 1), nn.Conv2d, True),
        (WeightStandardizedConv2d(1, 1, 1), nn.Conv2d, True),
        (WeightStandardizedSamePadConv2d(1, 1, 1), nn.Conv2d, True),
        (AvgPoolWithinMap(2, 2), nn.AvgPool2d, True),
        (nn.ReLU6(), nn.ReLU6, True),
        (nn.ReLU6(), nn.ReLU, False),
    ],
)
def test_a_subclass_counts_while_it_computes_the_same(
    module: nn.Module, cls: type[nn.Module], expected: bool
) -> None:
    assert keeps_forward(module, cls) == expected


def test_variants_are_told_apart() -> None:
    def traits(module: nn.Module) -> tuple[bool, bool, bool]:
        return pads_by_size(module), standardizes_weight(module), fits_window(module)

    assert traits(nn.Conv2d(1, 1, 1)) == (False, False, False)
    assert traits(SamePadConv2d(1, 1, 1)) == (True, False, False)
    assert traits(WeightStandardizedConv2d(1, 1, 1)) == (False, True, False)
    assert traits(WeightStandardizedSamePadConv2d(1, 1, 1)) == (True, True, False)
    assert traits(AvgPoolWithinMap(2, 2)) == (False, False, True)


def test_a_lean_module_is_known_by_the_class_that_it_had() -> None:
    stock = plain_net("efficientnet_lite0")
    lean = converted(stock)
    pairs = list(zip(stock.modules(), lean.modules(), strict=True))
    assert any(type(made) is not type(plain) for plain, made in pairs)
    for plain, made in pairs:
        assert base_class(made) is base_class(plain) is type(plain)
        assert pads_by_size(made) == pads_by_size(plain)


def _parametrized() -> nn.Module:
    conv = nn.Conv2d(1, 1, 1)
    parametrize.register_parametrization(conv, "weight", nn.Identity())
    return conv


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: nn.Conv2d(1, 1, 3, padding=1), None),
        (lambda: nn.Conv2d(1, 1, 3, padding="same"), None),
        (lambda: nn.Conv2d(1, 1, 2, padding="same", dilation=2), None),
        (lambda: nn.Conv2d(1, 1, 2, padding="valid"), None),
        (lambda: nn.Conv2d(1, 1, (3, 2), padding="same"), "pads one side more than the other"),
        (lambda: nn.Conv2d(1, 1, 3, padding_mode="reflect"), "pads with reflect"),
        (lambda: _with_own_forward(nn.ReLU()), "has a forward of its own"),
        (_parametrized, "is parametrised"),
    ],
)
def test_why_a_module_is_left(make: Callable[[], nn.Module], reason: str | None) -> None:
    assert reason_unfit(make()) == reason
    assert reason_to_leave(make()) == reason


@pytest.mark.parametrize(
    "watch",
    [
        lambda module: module.register_forward_hook(lambda *a: None),
        lambda module: module.register_forward_pre_hook(lambda *a: None),
        lambda module: module.register_full_backward_hook(lambda *a: None),
        lambda module: module.register_full_backward_pre_hook(lambda *a: None),
    ],
)
def test_hooks_come_and_go(watch) -> None:
    module = nn.ReLU()
    handle = watch(module)
    assert has_hooks(module)
    assert reason_to_leave(module) == "has hooks"
    assert reason_unfit(module) is None
    handle.remove()
    assert not has_hooks(module)
    assert reason_to_leave(module) is None
