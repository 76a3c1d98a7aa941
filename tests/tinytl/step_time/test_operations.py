"""What the operations of a step cost; counted on fake tensors as on real ones."""

import pytest
import torch
from torch import Tensor

from tests.support.cases import small
from tests.support.sampled import sampled
from tinytl.memory.fake_step import FakeStep
from tinytl.memory_efficient.ops.walk import WALK
from tinytl.step_time.measure import prepared_step
from tinytl.step_time.operation_timer import CpuClock, OperationTimer
from tinytl.step_time.operations import Cost, Work, cost_of, like_kind

ATEN = torch.ops.aten


def convolution(x: Tensor, weight: Tensor, groups: int = 1, transposed: bool = False) -> Cost | None:
    args = (x, weight, None, [1, 1], [0, 0], [1, 1], transposed, [0, 0], groups)
    return cost_of(ATEN.convolution.default, args, ATEN.convolution.default(*args))


def test_cost_of_operations() -> None:
    x = torch.randn(2, 4, 6, 6)
    pixels = 2 * 4 * 4
    dense, pointwise, depthwise = torch.randn(8, 4, 3, 3), torch.randn(8, 4, 1, 1), torch.randn(4, 1, 3, 3)
    assert convolution(x, dense) == ("dense forward", 4 * (288 + 2 * 288 + 8 * pixels), 288 * pixels)
    assert convolution(x, pointwise) == ("pointwise forward", 4 * (288 + 2 * 32 + 8 * 72), 32 * 72)
    assert convolution(x, depthwise, groups=4) == ("depthwise_3x3 forward", 4 * (288 + 36 + 128), 36 * pixels)
    assert convolution(x, depthwise, groups=4, transposed=True).kind == "depthwise_3x3 transposed"
    assert convolution(x, torch.randn(8, 2, 3, 3), groups=2).kind == "grouped forward"
    grad = torch.randn(2, 8, 4, 4)
    for wanted, parts in (([True, False, False], "input"), ([True, True, False], "input and weight")):
        args = (grad, x, dense, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, wanted)
        cost = cost_of(ATEN.convolution_backward.default, args, ATEN.convolution_backward.default(*args))
        assert cost.kind == f"dense backward of {parts}" and cost.n_products == 288 * pixels
    one, other = torch.randn(3, 5), torch.randn(5, 7)
    assert cost_of(ATEN.mm.default, (one, other), one @ other) == ("mm", 4 * (15 + 35 + 21), 105)
    bias = torch.randn(7)
    added = cost_of(ATEN.addmm.default, (bias, one, other), torch.addmm(bias, one, other))
    assert added == ("addmm", 4 * (7 + 15 + 35 + 21), 105)
    assert cost_of(ATEN.add.Tensor, (one, 1.0), one + 1) == ("add", 4 * 30, 0)
    assert cost_of(ATEN.view.default, (one, [15]), one.view(15)) == ("view", 0, 0)
    assert cost_of(ATEN.arange.default, (8,), torch.arange(8)) is None


def test_work_adds_up_by_kind_and_repeats_all_but_the_optimizer() -> None:
    work, optimizer = Work(), Work()
    for cost, times in ((Cost("add", 10), 1), (Cost("add", 30), 2), (Cost("lean mm", 4, 100), 3)):
        work.add(cost, times)
    work.add(None)
    optimizer.add(Cost("_fused_adam_", 8))
    optimizer.add(Cost("add", 5), 2)
    assert work.sums == {"add": [3, 70, 0], "lean mm": [3, 12, 300]}
    assert work.n_lean == 3
    step = work.of_passes(2.5, optimizer)
    assert step.sums == {"add": [9.5, 185, 0], "lean mm": [7.5, 30, 750], "_fused_adam_": [1, 8, 0]}
    assert step.n_lean == 7.5


@pytest.mark.parametrize(
    ("kind", "known", "like"),
    [
        ("add", ("add", "mul"), "add"),
        ("lean add", ("add", "mul"), "add"),
        ("add", ("lean add", "mul"), "lean add"),
        ("erf", ("add", "lean mul"), "lean mul"),
        ("dense transposed", ("dense forward", "depthwise_3x3 transposed"), "depthwise_3x3 transposed"),
        ("depthwise_9x9 forward", ("lean depthwise_7x7 forward",), "lean depthwise_7x7 forward"),
        ("grouped backward of weight", ("grouped forward", "mul"), "grouped forward"),
        ("add", (), None),
    ],
)
def test_what_was_not_measured_counts_as_something_like_it(
    kind: str, known: tuple[str, ...], like: str | None
) -> None:
    assert like_kind(kind, dict.fromkeys(known)) == like


@pytest.mark.parametrize(
    ("method", "norm", "checkpoint", "resolution", "batch_size"),
    sampled(
        [
            # Slices of the first blocks, of which three are followed.
            ("TinyTL-L+B", "frozen_bn", "none", 160, 9),
            ("FT-Full", "group_norm", "all", 96, 12),
            ("FT-Full", "frozen_bn", "depthwise", 32, 2),
        ],
        2,
    ),
)
def test_fake_tensors_count_the_operations_of_real_ones(
    method: str, norm: str, checkpoint: str, resolution: int, batch_size: int
) -> None:
    config = small(
        method=method, norm=norm, checkpoint=checkpoint, resolution=resolution, batch_size=batch_size,
        micro_batch_size=batch_size, stock_below_kib=0.0, weights="none",
    )  # fmt: skip
    step = prepared_step(config)
    step()
    with OperationTimer(CpuClock()) as timer:
        step()
    tracker = FakeStep(config).run(config)
    fake = tracker.work.of_passes(1, tracker.optimizer_work)
    heavy = [kind for kind, sums in timer.work.sums.items() if sums[2]]
    assert len(heavy) > 5
    for kind in heavy:
        assert fake.sums[kind] == pytest.approx(timer.work.sums[kind], rel=0.02), kind
    real, faked = (sum(sums[1] for sums in work.sums.values()) for work in (timer.work, fake))
    assert faked == pytest.approx(real, rel=0.03)
    assert fake.n_lean == pytest.approx(timer.work.n_lean, rel=0.02)
    assert not WALK.lean and WALK.times == 1
