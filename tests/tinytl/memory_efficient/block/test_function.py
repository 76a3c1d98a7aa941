import itertools
import random

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from tinytl.memory_efficient.block.function import run_blocks
from tinytl.memory_efficient.block.spec import Block, BlockSpec, BranchSpec, Execution
from tinytl.memory_efficient.block.unit import UnitSpec, UnitTensors
from tinytl.memory_efficient.ops.convolution import ConvSpec
from tinytl.memory_efficient.ops.pooling import PoolSpec
from tinytl.networks.group_norm import group_norm

HALF = PoolSpec(kernel=(2, 2), stride=(2, 2))
ACTIVATE = {
    "none": lambda t: t,
    "relu": F.relu,
    "relu6": F.relu6,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "exact_hardsigmoid": lambda t: F.relu6(t + 3) / 6,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}
RECOMPUTE = ("none", "depthwise", "block")


def conv(kernel=1, stride=1, groups=1, same_pad=False):
    pad = kernel // 2
    return ConvSpec(stride=(stride, stride), padding=(pad, pad), groups=groups, same_pad=same_pad)


def inverted_residual(norm, stride=1, activation="relu6", same_pad=False):
    """Units of 4 -> 8 -> 8 -> 4 channels: expand, depthwise, project."""
    return (
        UnitSpec(conv=conv(), norm=norm, activation=activation, n_groups=2),
        UnitSpec(
            conv=conv(3, stride, 8, same_pad), norm=norm, activation=activation, n_groups=4, depthwise=True
        ),
        UnitSpec(conv=conv(), norm=norm, activation="none", n_groups=2),
    )


def lite(norm, stride=1, kernel=3):
    return (
        UnitSpec(conv=conv(kernel, stride, 2), norm=norm, activation="relu", n_groups=2),
        UnitSpec(conv=conv(), norm=norm, activation="none", n_groups=2),
    )


WIDE, LITE = ((4, 8), (8, 8), (8, 4)), ((4, 6), (6, 4))
# name: block, and (in, out) channels of each unit of each branch
BLOCKS = {
    "stem": (BlockSpec(branches=(BranchSpec(units=inverted_residual("frozen")[:1]),)), [WIDE[:1]]),
    "residual": (BlockSpec(branches=(BranchSpec(units=inverted_residual("frozen")),), shortcut=True), [WIDE]),
    "group norm": (
        BlockSpec(branches=(BranchSpec(units=inverted_residual("group")),), shortcut=True),
        [WIDE],
    ),
    "no norm": (BlockSpec(branches=(BranchSpec(units=inverted_residual("none", 2)),)), [WIDE]),
    "h-swish": (
        BlockSpec(branches=(BranchSpec(units=inverted_residual("frozen", 2, "hardswish")),)),
        [WIDE],
    ),
    "h-swish, group norm": (
        BlockSpec(branches=(BranchSpec(units=inverted_residual("group", 1, "hardswish")),)),
        [WIDE],
    ),
    "sigmoid": (BlockSpec(branches=(BranchSpec(units=inverted_residual("frozen", 1, "sigmoid")),)), [WIDE]),
    "tanh, group norm": (
        BlockSpec(branches=(BranchSpec(units=inverted_residual("group", 1, "tanh")),)),
        [WIDE],
    ),
    "hard sigmoid, group norm": (
        BlockSpec(branches=(BranchSpec(units=inverted_residual("group", 2, "hardsigmoid")),)),
        [WIDE],
    ),
    "same pad": (
        BlockSpec(branches=(BranchSpec(units=inverted_residual("frozen", 2, same_pad=True)),)),
        [WIDE],
    ),
    "first is depthwise": (
        BlockSpec(branches=(BranchSpec(units=inverted_residual("group")[1:]),)),
        [((8, 8), (8, 4))],
    ),
    "lite": (
        BlockSpec(
            branches=(
                BranchSpec(units=inverted_residual("frozen", 2)),
                BranchSpec(units=lite("group", 2), pool=HALF, resize="bilinear"),
            )
        ),
        [WIDE, LITE],
    ),
    "lite, pooled whole": (
        BlockSpec(
            branches=(
                BranchSpec(units=inverted_residual("group")),
                BranchSpec(units=lite("frozen", kernel=1), global_pool=True),
            ),
            shortcut=True,
        ),
        [WIDE, LITE],
    ),
    "resnet": (
        BlockSpec(
            branches=(
                BranchSpec(units=(*inverted_residual("frozen")[:1], inverted_residual("frozen")[2])),
                BranchSpec(units=inverted_residual("frozen")[2:]),
            ),
            activation="relu",
        ),
        [((4, 8), (8, 4)), ((4, 4),)],
    ),
}


def make_tensors(spec, widths, dtype):
    tensors = []
    for branch, branch_widths in zip(spec.branches, widths, strict=True):
        units = []
        for unit, (n_in, n_out) in zip(branch.units, branch_widths, strict=True):
            kernel = 3 if unit.depthwise else unit.conv.padding[0] * 2 + 1
            weight = torch.randn(n_out, n_in // unit.conv.groups, kernel, kernel)
            bias = torch.randn(n_out) if unit.norm != "group" else None
            gamma, beta = (
                (torch.rand(n_out) + 0.5, torch.randn(n_out)) if unit.norm != "none" else (None, None)
            )
            mean, var = (
                (torch.randn(n_out), torch.rand(n_out) + 0.5) if unit.norm == "frozen" else (None, None)
            )
            made = (weight, bias, gamma, beta, mean, var)
            units.append(UnitTensors(*(None if t is None else t.to(dtype) for t in made)))
        tensors.append(units)
    return tensors


def stock_unit(x, spec, t):
    padding = spec.conv.padding
    if spec.conv.same_pad:
        left, right, top, bottom = spec.conv.sides(tuple(x.shape[2:]), tuple(t.weight.shape[2:]))
        x, padding = F.pad(x, (left, right, top, bottom)), 0
    x = F.conv2d(x, t.weight, t.bias, spec.conv.stride, padding, spec.conv.dilation, spec.conv.groups)
    if spec.norm == "frozen":
        x = F.batch_norm(x, t.mean, t.var, t.gamma, t.beta, False, 0.0, spec.eps)
    elif spec.norm == "group":
        x = group_norm(x, spec.n_groups, t.gamma, t.beta, spec.eps)
    return ACTIVATE[spec.activation](x)


def stock_block(x, spec, tensors):
    total = x if spec.shortcut else 0
    size = None
    for branch, units in zip(spec.branches, tensors, strict=True):
        y = F.adaptive_avg_pool2d(x, 1) if branch.global_pool else x
        y = F.avg_pool2d(y, branch.pool.kernel, branch.pool.stride) if branch.pool else y
        for unit, t in zip(branch.units, units, strict=True):
            y = stock_unit(y, unit, t)
        size = size or y.shape[2:]
        total = total + (F.interpolate(y, size, mode=branch.resize) if branch.resize else y)
    return ACTIVATE[spec.activation](total)


def patterns(n_tensors, per_unit=6):
    """All, none but x, only one kind of parameter, and a few at random."""
    yield [True] * n_tensors
    yield [False] * n_tensors
    for kind in range(4):
        yield [i % per_unit == kind for i in range(n_tensors)]
    yield [i % per_unit in (2, 3) for i in range(n_tensors)]
    generator = random.Random(0)
    for _ in range(4):
        yield [generator.random() < 0.3 for _ in range(n_tensors)]


def check(assert_same, names, dtype, how, layout=torch.contiguous_format, size=(3, 9, 10)):
    """Compares a block, or several one after the other, with stock's."""
    names = (names,) if isinstance(names, str) else names
    specs = [BLOCKS[name][0] for name in names]
    tensors = [make_tensors(*BLOCKS[name], dtype) for name in names]
    flat = [t for block in tensors for branch in block for unit in branch for t in unit.row()]
    n, *pixels = size
    x = torch.randn(n, BLOCKS[names[0]][1][0][0][0], *pixels).to(dtype).contiguous(memory_format=layout)

    def regroup(flat):
        items = iter(flat)
        return [
            Block(spec, [[UnitTensors(*itertools.islice(items, 6)) for _ in branch] for branch in block])
            for spec, block in zip(specs, tensors, strict=True)
        ]

    def stock(x, *flat):
        for block in regroup(flat):
            x = stock_block(x, *block)
        return x

    for wants_x, pattern in itertools.product((False, True), patterns(len(flat))):
        x.requires_grad_(wants_x)
        for index, (tensor, wants) in enumerate(zip(flat, pattern, strict=True)):
            if tensor is not None and index % 6 < 4:
                tensor.requires_grad_(wants)
        assert_same(
            lambda x, *flat: run_blocks(x, regroup(flat), how),
            stock,
            [x, *flat],
        )


@pytest.mark.parametrize("recompute", RECOMPUTE)
@pytest.mark.parametrize("name", BLOCKS)
def test_equals_stock_over_patterns(assert_same, name, recompute):
    check(assert_same, name, torch.float64, Execution(recompute=recompute))


@pytest.mark.parametrize("recompute", RECOMPUTE)
@pytest.mark.parametrize("name", ["residual", "lite", "resnet"])
def test_equals_stock_in_slices(assert_same, name, recompute):
    check(
        assert_same, name, torch.float64, Execution(recompute=recompute, slice_mib=1e-3), torch.channels_last
    )


@pytest.mark.parametrize("name", BLOCKS)
def test_equals_stock_in_float32(assert_same, name):
    check(assert_same, name, torch.float32, Execution(recompute="depthwise", slice_mib=2e-2))


RUNS = (
    ("residual", "lite", "residual"),
    ("lite, pooled whole", "group norm"),
    ("h-swish", "resnet", "lite"),
    ("no norm", "same pad"),
)


@pytest.mark.parametrize("recompute", RECOMPUTE)
@pytest.mark.parametrize("names", RUNS, ids=" > ".join)
def test_a_run_of_blocks_equals_stock(assert_same, names, recompute):
    how = Execution(recompute=recompute, slice_mib=1e-3)
    check(assert_same, names, torch.float64, how, torch.channels_last, size=(3, 17, 18))


def test_a_run_keeps_no_map_between_its_blocks(kept_bytes):
    blocks = [
        Block(BLOCKS["residual"][0], make_tensors(*BLOCKS["residual"], torch.float32)) for _ in range(3)
    ]
    known = [tensor for block in blocks for tensor in trains(block.tensors, "beta")]
    known.append(x := torch.randn(4, 4, 8, 8))
    bits = 2 * (4 * 8 * 8 * 8) // 8
    how = Execution(slice_mib=2e-3)
    assert kept_bytes(lambda: run_blocks(x, blocks, how), known) == 3 * bits
    for block in blocks:
        trains(block.tensors, "weight")
    inputs = 4 * 4 * 8 * 8 * 4
    for recompute, kept in (("none", 3 * 2 * 4 * 8 * 8 * 8 * 4 + 2 * inputs), ("block", 0)):
        how = Execution(slice_mib=2e-3, recompute=recompute)
        assert kept_bytes(lambda how=how: run_blocks(x, blocks, how), known) == kept


def test_images_in_bytes_are_prepared_a_slice_at_a_time(assert_same, kept_bytes):
    block = Block(BLOCKS["residual"][0], make_tensors(*BLOCKS["residual"], torch.float32))
    known = trains(block.tensors, "weight", "beta")
    images = torch.randint(0, 256, (4, 4, 8, 8), dtype=torch.uint8)
    seen = []

    def prepare(images):
        seen.append(len(images))
        return images.float() / 255

    for recompute in RECOMPUTE:
        how = Execution(slice_mib=2e-3, recompute=recompute)
        assert_same(
            lambda *_, how=how: run_blocks(images, [block], how, prepare),
            lambda *_: stock_block(images.float() / 255, *block),
            known,
        )
    assert set(seen) == {1}
    assert (
        kept_bytes(lambda: run_blocks(images, [block], Execution(), prepare), [*known, images])
        == 2 * 4 * 8**3 * 4
    )


@pytest.mark.parametrize("recompute", RECOMPUTE)
@pytest.mark.parametrize("name", BLOCKS)
def test_gradcheck(name, recompute):
    spec, widths = BLOCKS[name]
    tensors = make_tensors(spec, widths, torch.float64)
    kinds = [t for branch in tensors for unit in branch for t in unit.row()]
    wanted = [i for i, t in enumerate(kinds) if t is not None and i % 6 < 4]
    x = torch.randn(2, widths[0][0][0], 4, 4, dtype=torch.float64, requires_grad=True)

    def run(x, *some):
        flat = list(kinds)
        for index, tensor in zip(wanted, some, strict=True):
            flat[index] = tensor
        items = iter(flat)
        regrouped = [[UnitTensors(*itertools.islice(items, 6)) for _ in branch] for branch in tensors]
        return run_blocks(x, [Block(spec, regrouped)], Execution(recompute=recompute, slice_mib=1e-6))

    leaves = [kinds[i].requires_grad_() for i in wanted]
    assert torch.autograd.gradcheck(run, (x, *leaves), fast_mode=True)


@pytest.mark.parametrize("recompute", RECOMPUTE)
@pytest.mark.parametrize("name", BLOCKS)
def test_harms_nobody(assert_harms_nobody, name, recompute):
    spec, widths = BLOCKS[name]
    tensors = make_tensors(spec, widths, torch.float64)
    flat = trains(tensors, "weight", "bias", "gamma", "beta")
    before = [t.detach().clone() for t in flat]
    x = torch.randn(2, widths[0][0][0], 8, 8, dtype=torch.float64, requires_grad=True)
    for slice_mib in (None, 1e-6):
        how = Execution(recompute=recompute, slice_mib=slice_mib)
        assert_harms_nobody(
            lambda x, how=how: run_blocks(x, [Block(spec, tensors)], how),
            lambda x: stock_block(x, spec, tensors),
            [x],
        )
    assert all(torch.equal(one, other) for one, other in zip(flat, before, strict=True))


def test_backward_twice_is_the_same_and_kept_tensors_are_unharmed():
    for name, recompute in itertools.product(BLOCKS, RECOMPUTE):
        spec, widths = BLOCKS[name]
        tensors = make_tensors(spec, widths, torch.float64)
        for branch in tensors:
            for unit in branch:
                unit.weight.requires_grad_()
        x = torch.randn(2, widths[0][0][0], 8, 8, dtype=torch.float64, requires_grad=True)
        leaves = [x, *(unit.weight for branch in tensors for unit in branch)]
        y = run_blocks(x, [Block(spec, tensors)], Execution(recompute=recompute))
        grad = torch.randn_like(y)
        first = torch.autograd.grad(y, leaves, grad, retain_graph=True)
        second = torch.autograd.grad(y, leaves, grad)
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
        with pytest.raises(RuntimeError, match="second time"):
            torch.autograd.grad(y, leaves, grad)


def trains(tensors, *kinds):
    for branch in tensors:
        for unit in branch:
            for kind in kinds:
                if getattr(unit, kind) is not None:
                    getattr(unit, kind).requires_grad_()
    return [t for branch in tensors for unit in branch for t in unit.row() if t is not None]


def test_keeps_bits_only_where_biases_train(kept_bytes):
    spec, widths = BLOCKS["residual"]
    tensors = make_tensors(spec, widths, torch.float32)
    known = trains(tensors, "beta")
    x = torch.randn(2, 4, 8, 8, requires_grad=True)
    assert (
        kept_bytes(lambda: run_blocks(x, [Block(spec, tensors)], Execution()), known)
        == 2 * (2 * 8 * 8 * 8) // 8
    )


def test_keeps_what_weights_need_once(kept_bytes):
    spec, widths = BLOCKS["residual"]
    tensors = make_tensors(spec, widths, torch.float32)
    known = [*trains(tensors, "weight", "gamma", "beta"), x := torch.randn(2, 4, 8, 8)]
    hidden = 2 * 8 * 8 * 8 * 4
    for recompute, kept in (("none", 2 * hidden), ("depthwise", hidden), ("block", 0)):
        how = Execution(recompute=recompute)
        assert kept_bytes(lambda how=how: run_blocks(x, [Block(spec, tensors)], how), known) == kept


def test_keeps_nothing_before_the_first_that_trains(kept_bytes):
    spec, widths = BLOCKS["residual"]
    tensors = make_tensors(spec, widths, torch.float32)
    tensors[0][2].beta.requires_grad_()
    known = [t for unit in tensors[0] for t in unit.row()]
    x = torch.randn(2, 4, 8, 8)
    assert kept_bytes(lambda: run_blocks(x, [Block(spec, tensors)], Execution()), known) == 0
    tensors[0][2].beta.requires_grad_(False)
    assert run_blocks(x, [Block(spec, tensors)], Execution()).grad_fn is None


def test_runs_on_fake_tensors():
    spec, widths = BLOCKS["lite"]
    with FakeTensorMode():
        tensors = make_tensors(spec, widths, torch.float32)
        trains(tensors, "weight", "gamma", "beta")
        x = torch.randn(2, 4, 8, 8, requires_grad=True)
        run_blocks(x, [Block(spec, tensors)], Execution(slice_mib=1e-3)).sum().backward()
        assert x.grad.shape == x.shape and tensors[1][0].weight.grad.shape == tensors[1][0].weight.shape
