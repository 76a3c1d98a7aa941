"""Which neighbouring blocks run as one function, and that it changes nothing but memory."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.lean_networks import assert_same_outcome, converted, tinytl_net
from tests.support.sampled import sampled
from tinytl.gradient_checkpoints.segment import checkpoint_segment
from tinytl.memory_efficient import lean_blocks
from tinytl.memory_efficient.block.function import run_blocks
from tinytl.memory_efficient.block.spec import Block
from tinytl.memory_efficient.lean_blocks import prepares_input
from tinytl.memory_efficient.lean_runs import LeanSequence
from tinytl.networks.backbones import BACKBONES

SLICE_MIB = 0.4
"""Cuts four images of 64 px into four slices for the first blocks, into one for the last."""

METHODS = ("TinyTL-B", "TinyTL-L+B", "FT-Full", "FT-Norm+Last")
CASES = [(backbone, method) for backbone, method in zip(itertools.cycle(BACKBONES), METHODS, strict=False)]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of blocks of each function that was run since."""
    found: list[int] = []

    def counted(x: Tensor, blocks: Sequence[Block], *rest: Any) -> Tensor:
        found.append(len(blocks))
        return run_blocks(x, blocks, *rest)

    monkeypatch.setattr(lean_blocks, "run_blocks", counted)
    return found


def batch(n: int = 4) -> Tensor:
    return torch.randn(n, 3, 64, 64, dtype=torch.float64).contiguous(memory_format=torch.channels_last)


IN_RUNS = [
    (backbone, method, norm, recompute)
    for backbone, (recompute, norm, method) in zip(
        itertools.cycle(BACKBONES),
        itertools.product(
            ("none", "depthwise", "block"),
            ("frozen_bn", "group_norm"),
            ("TinyTL-B", "TinyTL-L+B", "FT-Full", "FT-Norm+Last"),
        ),
        strict=False,
    )
]


@pytest.mark.parametrize(("backbone", "method", "norm", "recompute"), sampled(IN_RUNS, 11))
def test_a_network_in_runs_computes_what_stock_does(
    backbone: str, method: str, norm: str, recompute: str, runs: list[int]
) -> None:
    stock = tinytl_net(backbone, method, norm).double()
    lean = converted(stock, recompute=recompute, slice_mib=SLICE_MIB)
    assert_same_outcome(lean, stock, batch(), 1e-10)
    assert max(runs) >= 4


def test_blocks_join_while_their_batches_are_cut_alike(runs: list[int]) -> None:
    net = converted(tinytl_net("mobilenet_v2", "TinyTL-B", "frozen_bn"), slice_mib=SLICE_MIB)
    n_blocks = len(net.features)
    net(torch.randn(4, 3, 64, 64))
    assert sum(runs) == n_blocks and runs[0] == 5 and runs[-1] == 1
    runs.clear()
    net(torch.randn(1, 3, 64, 64))  # one slice: a run would keep all of it until its end
    assert runs == [1] * n_blocks
    runs.clear()
    net(torch.randn(64, 3, 64, 64))
    assert sum(runs) == n_blocks and 2 <= len(runs) <= 4 and min(runs) > 1


def test_a_run_is_recomputed_only_if_its_batch_has_many_slices(runs: list[int]) -> None:
    net = converted(
        tinytl_net("mobilenet_v2", "FT-Full", "frozen_bn"), slice_mib=SLICE_MIB, recompute="block"
    )
    net(torch.randn(3, 3, 64, 64))
    assert max(runs) == 1
    runs.clear()
    net(torch.randn(8, 3, 64, 64))
    assert runs[0] > 1


def hook(net: nn.Module) -> Callable[[], None]:
    handle = net.features[1].register_forward_hook(lambda *_: None)
    return handle.remove


def forward_of_its_own(net: nn.Module) -> Callable[[], None]:
    net.features[1].forward = net.features[1].conv.forward  # it has no shortcut
    return lambda: delattr(net.features[1], "forward")


def checkpoint(net: nn.Module) -> Callable[[], None]:
    checkpoint_segment.insert_checkpoint(net.features[1])
    return lambda: checkpoint_segment.remove_checkpoint(net.features[1]) and None


@pytest.mark.parametrize("look", [hook, forward_of_its_own, checkpoint])
def test_a_block_that_something_looks_at_runs_by_itself(
    look: Callable[[nn.Module], Callable[[], None]], runs: list[int]
) -> None:
    stock = tinytl_net("mobilenet_v2", "TinyTL-B", "frozen_bn").double()
    lean = converted(stock, slice_mib=SLICE_MIB)
    undo = look(lean)
    assert_same_outcome(lean, stock, batch(), 1e-10)
    assert runs[0] == 1 and 3 in runs[:3]
    undo()
    runs.clear()
    lean(batch())
    assert runs[0] == 5


def test_a_slice_of_a_sequence_and_a_replaced_block_still_run() -> None:
    stock = tinytl_net("mobilenet_v2", "TinyTL-B", "frozen_bn").double()
    lean = converted(stock, slice_mib=SLICE_MIB)
    x = batch()
    assert isinstance(lean.features[:4], LeanSequence)
    torch.testing.assert_close(lean.features[:4](x), stock.features[:4](x))
    lean.features[1] = stock.features[1]
    assert_same_outcome(lean, stock, x, 1e-10)


def test_a_batch_norm_counts_a_batch_once_however_large_it_is() -> None:
    net = converted(BACKBONES["mobilenet_v2"].build(5), slice_mib=SLICE_MIB).train()
    net(torch.randn(4, 3, 64, 64))
    counts = {name: int(n) for name, n in net.named_buffers() if name.endswith("num_batches_tracked")}
    assert counts and set(counts.values()) == {1}


class Normalizer:
    """Makes floats, and counts for how many images at a time."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def __call__(self, images: Tensor) -> Tensor:
        self.seen.append(len(images))
        return images.double().sub_(120).div_(60)


def images() -> Tensor:
    made = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    return made.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("backbone", "stock_below_kib"), sampled(itertools.product(BACKBONES, (0.0, 1e6)), 5)
)
def test_images_in_bytes_become_floats_a_slice_at_a_time(backbone: str, stock_below_kib: float) -> None:
    stock, x = tinytl_net(backbone, "FT-Full", "frozen_bn").double(), images()
    lean = converted(stock, slice_mib=SLICE_MIB, stock_below_kib=stock_below_kib)
    prepare = Normalizer()
    with prepares_input(lean, prepare) as outside:
        assert outside(x) is x
        torch.manual_seed(0)  # of the dropout
        logits = lean(x)
    logits.sum().backward()
    assert set(prepare.seen) == ({4} if stock_below_kib else {1})
    torch.manual_seed(0)
    theirs = stock(Normalizer()(x))
    theirs.sum().backward()
    torch.testing.assert_close(logits, theirs)
    for one, other in zip(lean.parameters(), stock.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-8, atol=1e-8)
    with pytest.raises(RuntimeError):
        lean(x)  # bytes are no input, except inside


def other_class(net: nn.Module) -> nn.Module:
    class Mine(type(net)):  # type: ignore[misc]
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x - x.mean())

    net.__class__ = Mine
    return net


def hooked(net: nn.Module) -> nn.Module:
    net.features.register_forward_pre_hook(lambda *_: None)
    return net


def wrapped(net: nn.Module) -> nn.Module:
    return nn.Sequential(net)


@pytest.mark.parametrize("look", [other_class, hooked, wrapped])
def test_a_network_whose_input_something_else_reads_gets_floats(
    look: Callable[[nn.Module], nn.Module],
) -> None:
    net = look(converted(tinytl_net("mobilenet_v2", "TinyTL-B", "frozen_bn")))
    prepare = Normalizer()
    with prepares_input(net, prepare) as outside:
        assert outside is prepare
