import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from tinytl.memory_efficient.block.reading import BlockReader, conv_spec, max_pool_spec, uses_batch_statistics
from tinytl.memory_efficient.block.structure import describe_block
from tinytl.memory_efficient.ops.convolution import conv_forward


def _block() -> nn.Sequential:
    first = (nn.Conv2d(2, 4, 1), nn.GroupNorm(2, 4, eps=0.1), nn.ReLU())
    return nn.Sequential(*first, nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.BatchNorm2d(4)).eval()


def _reader(block: nn.Module) -> BlockReader:
    paths = describe_block(block)
    assert paths is not None
    return BlockReader(paths)


def test_it_reads_what_each_unit_computes_and_its_own_tensors() -> None:
    block = _block()
    read = _reader(block).read(block)
    assert read is not None
    (branch,), (tensors,) = read[0].branches, read[1]
    first, second = branch.units
    assert (first.norm, first.eps, first.n_groups, first.activation) == ("group", 0.1, 2, "relu")
    assert (second.norm, second.eps, second.activation) == ("frozen", 1e-5, "none")
    assert (first.depthwise, second.depthwise) == (False, True)
    assert tensors[0].weight is block[0].weight
    assert tensors[0].mean is None
    assert tensors[1].gamma is block[4].weight
    assert tensors[1].var is block[4].running_var


def test_an_unchanged_block_is_worked_out_once_and_its_tensors_are_read_each_time() -> None:
    block = _block()
    reader = _reader(block)
    before = reader.read(block)
    block[0].weight = nn.Parameter(torch.zeros(4, 2, 1, 1))
    after = reader.read(block)
    assert before is not None
    assert after is not None
    assert after[0] is before[0], "plans are remembered by it"
    assert after[1][0][0].weight is block[0].weight


def _set(index: int, name: str, value: Any) -> Callable[[nn.Sequential], None]:
    return lambda block: setattr(block[index], name, value)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (_set(0, "stride", (2, 2)), lambda units: units[0].conv.stride == (2, 2)),
        (_set(3, "dilation", (2, 2)), lambda units: units[1].conv.dilation == (2, 2)),
        (_set(1, "eps", 0.5), lambda units: units[0].eps == 0.5),
        (_set(1, "num_groups", 4), lambda units: units[0].n_groups == 4),
        (lambda block: block.__setitem__(2, nn.ReLU6()), lambda units: units[0].activation == "relu6"),
    ],
)
def test_a_change_between_two_forwards_is_seen(
    change: Callable[..., Any], found: Callable[..., bool]
) -> None:
    block = _block()
    reader = _reader(block)
    assert reader.read(block) is not None
    change(block)
    read = reader.read(block)
    assert read is not None
    assert found(read[0].branches[0].units)


def _put(index: int, module: nn.Module) -> Callable[[nn.Sequential], None]:
    return lambda block: block.__setitem__(index, module)


@pytest.mark.parametrize(
    "change",
    [
        lambda block: block[4].__init__(4, momentum=None),
        _set(4, "running_mean", None),
        lambda block: block[0].register_forward_hook(lambda *a: None),
        lambda block: block[2].register_full_backward_hook(lambda *a: None),
        lambda block: setattr(block[2], "forward", torch.tanh),
        _set(3, "padding_mode", "circular"),
        _put(2, nn.Softplus()),
        _put(2, nn.Sequential(nn.ReLU(), nn.Dropout())),
    ],
)
def test_what_is_not_known_here_runs_as_its_own_class_does(change: Callable[..., Any]) -> None:
    block = _block()
    reader = _reader(block)
    assert reader.read(block) is not None
    change(block)
    assert reader.read(block) is None


def test_a_hook_on_the_block_itself_stays_outside_and_one_that_goes_is_forgotten() -> None:
    block = _block()
    reader = _reader(block)
    block.register_forward_hook(lambda *a: None)
    assert reader.read(block) is not None
    handle = block[0].register_forward_pre_hook(lambda *a: None)
    assert reader.read(block) is None
    handle.remove()
    assert reader.read(block) is not None


def test_a_reader_that_two_blocks_share_reads_the_one_that_is_asked() -> None:
    one, other = _block(), _block()
    reader = _reader(one)
    for block in (one, other, one):
        read = reader.read(block)
        assert read is not None
        assert read[1][0][0].weight is block[0].weight


def test_a_pickled_reader_holds_paths_alone() -> None:
    block = _block()
    reader = _reader(block)
    reader.read(block)
    sent = pickle.dumps(reader)
    assert len(sent) < 1000
    assert pickle.loads(sent).paths == reader.paths


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(2, 2, (3, 5), padding="same", dilation=2),
        nn.Conv2d(2, 2, 3, padding="valid", stride=2),
        nn.Conv2d(2, 2, 3, padding=(0, 2), stride=(2, 1), groups=2),
    ],
)
def test_a_convolution_from_its_description_is_the_modules(conv: nn.Conv2d) -> None:
    x = torch.randn(1, 2, 11, 12)
    found = conv_forward(x, conv.weight, conv.bias, conv_spec(conv))
    torch.testing.assert_close(found, conv(x))


def test_a_window_given_by_one_number_is_square() -> None:
    spec = max_pool_spec(nn.MaxPool2d(3, stride=(2, 1), padding=1, dilation=2, ceil_mode=True))
    assert (spec.kernel, spec.stride, spec.padding, spec.dilation) == ((3, 3), (2, 1), (1, 1), (2, 2))
    assert spec.ceil_mode


@pytest.mark.parametrize(
    ("norm", "expected"),
    [
        (nn.BatchNorm2d(1), True),
        (nn.BatchNorm2d(1).eval(), False),
        (nn.BatchNorm2d(1, track_running_stats=False).eval(), True),
    ],
)
def test_when_samples_see_each_other(norm: nn.BatchNorm2d, expected: bool) -> None:
    assert uses_batch_statistics(norm) == expected
    x = torch.randn(4, 1, 2, 2)
    assert torch.allclose(norm(x)[:1], norm(x[:1])) != expected


def test_batch_norm_in_training_is_read_as_such_and_evaluation_is_not_worked_out_again() -> None:
    block = _block()
    reader = _reader(block)
    specs = []
    for training in (False, True, False, True):
        block[4].train(training)
        read = reader.read(block)
        assert read is not None
        specs.append(read[0])
        second = read[0].branches[0].units[1]
        assert (second.norm, second.momentum) == (("batch", 0.1) if training else ("frozen", 0.0))
        assert read[0].uses_batch_statistics is training
    assert specs[0] is specs[2] and specs[1] is specs[3]


def test_a_norm_without_running_statistics_uses_the_batch_s_in_evaluation_too() -> None:
    block = _block()
    block[4] = nn.BatchNorm2d(4, track_running_stats=False).eval()
    read = _reader(block).read(block)
    assert read is not None and read[0].uses_batch_statistics
    assert read[1][0][1].mean is None
