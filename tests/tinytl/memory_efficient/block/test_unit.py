import pytest

from tinytl.memory_efficient.block.unit import Keep, Needs, UnitSpec, plan_chain
from tinytl.memory_efficient.ops.convolution import ConvSpec

NONE, WEIGHT, GAMMA, BETA = (
    Needs(*[False] * 4),
    Needs(True, *[False] * 3),
    Needs(False, False, True, False),
    None,
)
BETA = Needs(False, False, False, True)
ALL = Needs(True, False, True, True)
N, B, O, I = Keep.NOTHING, Keep.BITS, Keep.OUTPUT, Keep.INPUT  # noqa: E741


def units(norm, activation="relu6"):
    return [
        UnitSpec(conv=ConvSpec(), norm=norm, activation=activation),
        UnitSpec(conv=ConvSpec(), norm=norm, activation=activation, depthwise=True),
        UnitSpec(conv=ConvSpec(), norm=norm, activation="none"),
    ]


# norm, needs of each unit, whether x wants a gradient, what is kept, whether x is
CASES = {
    "biases": ("frozen", [BETA, BETA, BETA], True, [B, B, N], False),
    "first bias": ("frozen", [BETA, BETA, BETA], False, [B, B, N], False),
    "last bias": ("frozen", [NONE, NONE, BETA], False, [N, N, N], False),
    "last weight": ("frozen", [NONE, NONE, WEIGHT], False, [N, O, N], False),
    "all": ("frozen", [ALL, ALL, ALL], True, [O, O, N], True),
    "gammas": ("frozen", [GAMMA, GAMMA, GAMMA], True, [I, I, I], False),
    "group norm, biases": ("group", [BETA, BETA, BETA], True, [I, I, I], False),
    "group norm, first bias": ("group", [BETA, NONE, NONE], False, [B, I, I], False),
    "group norm, all": ("group", [ALL, ALL, ALL], True, [I, I, I], True),
    "only x": ("frozen", [NONE, NONE, NONE], True, [B, B, N], False),
}


@pytest.mark.parametrize("name", CASES)
def test_keeps_what_backward_reads(name):
    norm, needs, needs_x, keeps, keeps_x = CASES[name]
    plan = plan_chain(units(norm), needs, needs_x, "none")
    assert [unit.keep for unit in plan.units] == keeps
    assert plan.keeps_x == keeps_x
    assert not any(unit.again for unit in plan.units)


def test_hard_swish_needs_its_input():
    plan = plan_chain(units("frozen", "hardswish"), [BETA, BETA, BETA], True, "none")
    assert [unit.keep for unit in plan.units] == [I, I, N]


def test_nothing_wants_a_gradient():
    assert plan_chain(units("frozen"), [NONE, NONE, NONE], False, "none") is None


def test_no_gradient_before_the_first_that_trains():
    plan = plan_chain(units("frozen"), [NONE, BETA, BETA], False, "none")
    assert plan.first == 1
    assert [unit.input_grad for unit in plan.units] == [False, False, True]


@pytest.mark.parametrize("name", ["all", "gammas", "group norm, biases", "group norm, all"])
def test_depthwise_convolutions_run_again_where_their_input_is_at_hand(name):
    norm, needs, needs_x, _, _ = CASES[name]
    plan = plan_chain(units(norm), needs, needs_x, "depthwise")
    assert [unit.again for unit in plan.units] == [False, True, False]


def test_a_depthwise_convolution_at_the_start_runs_again_only_where_x_is_kept():
    for needs, again in (([BETA, BETA], False), ([ALL, ALL], True)):
        plan = plan_chain(units("group")[1:], needs, True, "depthwise")
        assert plan.units[0].again == again
