import dataclasses
from typing import Any

import pytest
import torch

from tests.support.cases import small
from tinytl.config.plan import choices
from tinytl.memory.fake_step import FakeStep
from tinytl.memory.measure import MIB


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "TinyTL-L+B", "norm": "group_norm"},
        {"method": "FT-Full", "norm": "batch_norm"},
        {"method": "FT-Norm+Last", "norm": "frozen_bn", "engine": "stock"},
    ],
    ids=lambda changes: "-".join(changes.values()),
)
def test_one_network_serves_all_plans_in_any_order(changes: dict[str, Any]) -> None:
    plans = choices(small(**changes, batch_size=2))
    alone = [FakeStep(plan).run(plan).prediction() for plan in plans]
    step = FakeStep(plans[0])
    assert [step.run(plan).prediction() for plan in reversed(plans)] == alone[::-1]


def test_a_later_pass_adds_to_gradients_that_exist() -> None:
    plan = next(p for p in choices(small(method="FT-Full", norm="frozen_bn")) if p.micro_batch_size == 1)
    step = FakeStep(plan)
    parts = step.run(plan).prediction().parts_mib
    trained = sum(p.numel() * 4 for p in step.net.parameters())
    assert parts["gradients"] * MIB == trained
    one_pass = dataclasses.replace(plan, micro_batch_size=4)
    assert step.run(one_pass).prediction().parts_mib["gradients"] * MIB < trained


def test_nothing_is_left_of_a_run() -> None:
    plan = choices(small(method="TinyTL-B", norm="frozen_bn"))[0]
    step = FakeStep(plan)
    first = step.run(plan).prediction()
    assert all(parameter.grad is None for parameter in step.net.parameters())
    assert not any(parameter._post_accumulate_grad_hooks for parameter in step.net.parameters())
    assert step.run(plan).prediction() == first
    assert torch.is_grad_enabled()
