from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.support.cases import SPREAD_CASES
from tests.support.sampled import sampled
from tinytl.config.train_config import TrainConfig
from tinytl.memory import fake_step
from tinytl.memory.fake_step import FakeStep
from tinytl.memory.fake_tensors import RememberedAnswers
from tinytl.memory.predict import resolve_plan
from tinytl.memory.storage_tracker import StorageTracker

OPERATIONS: dict[str, Callable[[Tensor], object]] = {
    "new memory": lambda x: x * 2,
    "a whole number times a number": lambda x: torch.arange(3) * 1.5,
    "a whole number times a whole number": lambda x: torch.arange(3) * 1,
    "a view": lambda x: x.view(2, 4, 2, 36),
    "a view of a view": lambda x: x[1:, 2:4].permute(0, 2, 3, 1),
    "in place": lambda x: x.mul_(3),
    "several": lambda x: F.group_norm(x, 2),
    "several, two of one memory": lambda x: torch.split(x, 1),
    "out": lambda x: torch.sum(x, (0, 2, 3), out=torch.empty(8)),
    "comparison": lambda x: x > 0,
    "of another type": lambda x: x.to(torch.float16),
    "resized": lambda x: F.interpolate(x, (7, 5), mode="bilinear"),
    "convolution": lambda x: F.conv2d(x, torch.empty(4, 8, 3, 3).to(memory_format=torch.channels_last)),
    "clone": lambda x: x.clone(memory_format=torch.contiguous_format),
    "sum": lambda x: x.sum((2, 3)),
    "nothing": lambda x: torch._foreach_add_([x], 1),
}


def forms(answer: object, x: Tensor) -> list[object]:
    """What is seen of an answer: sizes, strides, types, and what shares memory with what."""
    found: list[object] = []
    for out in answer if isinstance(answer, (tuple, list)) else [answer]:
        if out is None:
            found.append(None)
            continue
        shares = out.untyped_storage()._cdata == x.untyped_storage()._cdata
        place = (out is x, shares, out.storage_offset(), out.untyped_storage().nbytes())
        found.append((tuple(out.shape), out.stride(), out.dtype, out.device, type(out), place))
    return found


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_answers_are_those_of_the_mode(operation: Callable[[Tensor], object], last: bool) -> None:
    form = torch.channels_last if last else torch.contiguous_format
    with FakeTensorMode() as mode:
        x = torch.empty(2, 8, 6, 6).contiguous(memory_format=form)
        expected = forms(operation(x), x)
        tracker = StorageTracker(answers=RememberedAnswers(mode))
        with tracker:
            first, again = (forms(operation(x), x) for _ in range(2))
    assert first == again == expected


def test_numbers_that_are_equal_and_of_different_types_are_told_apart() -> None:
    with FakeTensorMode() as mode:
        whole = torch.zeros(3, dtype=torch.int64)
        with StorageTracker(answers=RememberedAnswers(mode)):
            assert [(whole * factor).dtype for factor in (1, 1.0, True)] == [
                torch.int64,
                torch.float32,
                torch.int64,
            ]


def test_what_depends_on_numbers_is_left_to_the_mode() -> None:
    from torch._subclasses.fake_tensor import DynamicOutputShapeException

    with FakeTensorMode() as mode:
        x = torch.empty(4)
        with StorageTracker(answers=RememberedAnswers(mode)), pytest.raises(DynamicOutputShapeException):
            torch.nonzero(x)


@pytest.mark.parametrize("config", sampled(SPREAD_CASES.values(), 17), ids=SPREAD_CASES)
def test_a_step_with_remembered_answers_holds_what_it_holds_without(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = resolve_plan(config)
    remembered = [FakeStep(config).run(config).prediction() for _ in range(2)]
    monkeypatch.setattr(fake_step, "RememberedAnswers", lambda mode: None)
    asked = FakeStep(config).run(config).prediction()
    assert remembered == [asked, asked]
