"""Runs of modules in slices: gradients are stock's, no map is whole, and what looks inside is seen."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torchvision.models import resnet18, shufflenet_v2_x0_5, squeezenet1_1

from tests.support.lean_networks import (
    assert_same_outcome,
    assert_stand_ins_are_differentiated,
    converted,
    randomise_,
)
from tinytl.gradient_checkpoints.segment import checkpoint_segment
from tinytl.memory import any_step
from tinytl.memory_efficient import lean_runs, make_memory_efficient_, undo_memory_efficient_
from tinytl.memory_efficient.kept import find_kept
from tinytl.memory_efficient.lean_blocks import prepares_input
from tinytl.memory_efficient.lean_runs import LeanChain
from tinytl.memory_efficient.lean_samplewise import register_samplewise, run_in_slices
from tinytl.networks.backbones.sequence import SequenceNet

SLICE_MIB = 0.05
"""Cuts four images of 32 px into four slices for the first modules."""


class Doubled(nn.Module):
    """A block that concatenates, of a class that nobody else knows."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, F.silu(self.norm(self.conv(x)))], 1)


register_samplewise(Doubled)


class Attributes(nn.Module):
    """Calls its stem by attributes, as most networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.act = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.stages = nn.Sequential(
            nn.Sequential(Doubled(16)), nn.Sequential(Doubled(32), nn.Conv2d(64, 8, 1))
        )
        self.fc = nn.Linear(8, 5)
        self.negative, self.seen = False, 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen = self.seen + 1
        x = self.conv(x)
        if self.negative:
            x = -x
        x = self.norm(x)
        x = self.stages(self.pool(self.act(x)))
        return self.fc(F.relu(x).mean((2, 3)))


def attributes_net() -> nn.Module:
    torch.manual_seed(0)
    return randomise_(Attributes()).eval()


NETS: dict[str, Callable[[], nn.Module]] = {
    "attributes": attributes_net,
    "resnet18": lambda: resnet18(num_classes=5),
    "shufflenet_v2": lambda: shufflenet_v2_x0_5(num_classes=5),
    "squeezenet": lambda: squeezenet1_1(num_classes=5, dropout=0.0),
    "timm/regnety_002": lambda: timm.create_model("regnety_002", num_classes=5),
    "timm/mobilenetv3_small_050": lambda: timm.create_model("mobilenetv3_small_050", num_classes=5),
    "timm/mobilenetv4_conv_small_035": lambda: timm.create_model("mobilenetv4_conv_small_035", num_classes=5),
    "timm/resnet18": lambda: timm.create_model("resnet18", num_classes=5),
    "timm/ghostnet_050": lambda: timm.create_model("ghostnet_050", num_classes=5),
}


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of modules of each run since."""
    found: list[int] = []

    def counted(x: Tensor, sliced: Any, *rest: Any) -> Tensor:
        found.append(len(sliced.modules))
        return run_in_slices(x, sliced, *rest)

    monkeypatch.setattr(lean_runs, "run_in_slices", counted)
    return found


def batch(n: int = 4, size: int = 32) -> Tensor:
    return torch.randn(n, 3, size, size, dtype=torch.float64)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("recompute", ["none", "block"])
def test_gradients_are_those_of_stock(name: str, recompute: str, runs: list[int]) -> None:
    net = randomise_(NETS[name]()).eval().double()
    lean = converted(net, recompute=recompute, slice_mib=SLICE_MIB)
    for layout in (torch.contiguous_format, torch.channels_last):
        x = batch(5, 64).contiguous(memory_format=layout)
        assert_same_outcome(lean, net, x, 1e-10)
    assert max(runs) >= 3


@pytest.mark.parametrize("trained", ["bias", "conv.weight", "norm", "stages.1", "fc"])
@pytest.mark.parametrize("recompute", ["none", "block"])
def test_any_part_may_train(trained: str, recompute: str, runs: list[int]) -> None:
    net = attributes_net().double()
    lean = converted(net, recompute=recompute, slice_mib=SLICE_MIB)
    for one in (net, lean):
        for name, parameter in one.named_parameters():
            parameter.requires_grad_(trained in name)
    assert_same_outcome(lean, net, batch(), 1e-10)
    x = batch().requires_grad_()
    grads = [torch.autograd.grad(one(x).square().sum(), x)[0] for one in (net, lean)]
    torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-12)
    assert runs


def hook(net: nn.Module) -> None:
    net.norm.register_forward_hook(lambda module, inputs, output: output * 2)


def hook_inside(net: nn.Module) -> None:
    net.stages[0][0].conv.register_forward_hook(lambda module, inputs, output: output * 2)


def forward_of_its_own(net: nn.Module) -> None:
    net.pool.forward = lambda x: x[:, :, ::2, ::2]


def replaced(net: nn.Module) -> None:
    net.act = nn.Hardtanh()


def mode(net: nn.Module) -> None:
    net.norm.train()


def setting(net: nn.Module) -> None:
    net.negative = True


def checkpoint(net: nn.Module) -> None:
    checkpoint_segment.insert_checkpoint(net.stages[0])


def none(net: nn.Module) -> None:
    pass


CHANGES = [hook, hook_inside, forward_of_its_own, replaced, mode, setting, checkpoint, none]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("recompute", ["none", "block"])
def test_a_change_after_the_conversion_is_seen(change: Callable[[nn.Module], None], recompute: str) -> None:
    net = attributes_net().double()
    lean = converted(net, recompute=recompute, slice_mib=SLICE_MIB)
    for _ in range(2):
        assert_same_outcome(lean, net, batch(), 1e-10)
        change(net), change(lean)
    assert lean.seen == net.seen == 2
    torch.testing.assert_close(lean.norm.running_mean, net.norm.running_mean)


def test_what_a_change_leaves_still_runs_in_slices(runs: list[int]) -> None:
    counts = {}
    for change in CHANGES:
        lean = converted(attributes_net(), slice_mib=SLICE_MIB)
        change(lean)
        runs.clear()
        lean(batch().float())
        counts[change.__name__] = max(runs, default=0)
    assert counts == {
        "hook": 4,
        "hook_inside": 4,
        "forward_of_its_own": 3,
        "replaced": 4,
        "mode": 4,
        "setting": 3,
        "checkpoint": 4,
        "none": 7,
    }


class SkipsTheStem(nn.Module):
    """Reads the stem's output again later, as a U-Net does, and an activation twice."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.norm, self.act = nn.BatchNorm2d(16), nn.ReLU()
        self.last = nn.Conv2d(16, 5, 1)
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        before = self.stem(x)
        x = self.act(self.norm(before))
        if self.kind == "skip":
            x = x + before
        if self.kind == "twice":
            x = self.act(-x)
        if self.kind == "weight":
            x = x * self.norm.weight.sum()
        if self.kind == "attribute":
            x = x * self.norm.eps
        return self.last(x).mean((2, 3))


@pytest.mark.parametrize(
    ("kind", "names"),
    [("skip", None), ("twice", 2), ("weight", None), ("attribute", None), ("numbers", None), ("", 4)],
)
def test_only_what_nothing_else_reads_is_taken_into_a_run(kind: str, names: int | None) -> None:
    class Here(SkipsTheStem):
        def forward(self, x: Tensor) -> Tensor:
            if self.kind == "numbers" and x.sum() > 1e9:
                return x
            return super().forward(x)

    net = randomise_(Here(kind)).double().eval()
    lean = converted(net, slice_mib=SLICE_MIB)
    assert_same_outcome(lean, net, batch(), 1e-10)
    found = lean.chain() if isinstance(lean, LeanChain) else None
    assert (None if found is None else len(found.names)) == names


def test_an_activation_in_place_edits_what_it_is_given() -> None:
    net = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16)).double().eval()
    lean = converted(net, slice_mib=SLICE_MIB)
    for needs in (False, True):
        found = []
        for one in (net, lean):
            torch.manual_seed(0)
            start = batch().requires_grad_(needs)
            x = start * 1
            y = one(x)
            (y.square().sum() + x.sum()).backward()
            found.append((x.detach(), y.detach(), start.grad if needs else x.detach()))
        for mine, theirs in zip(*found, strict=True):
            torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("recompute", ["none", "block"])
def test_parameters_that_stand_in_for_a_call_are_differentiated(recompute: str) -> None:
    net, x = attributes_net().double(), batch()
    lean = converted(net, recompute=recompute, slice_mib=SLICE_MIB)
    assert_stand_ins_are_differentiated(net, lean, x, 1e-10)


@pytest.mark.parametrize("recompute", ["none", "block"])
def test_autocast(recompute: str, runs: list[int]) -> None:
    net = attributes_net()
    lean = converted(net, recompute=recompute, slice_mib=SLICE_MIB)
    x, grads = batch().float(), []
    for one in (net, lean):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = one(x).float().square().sum()
        grads.append(torch.autograd.grad(loss, list(one.parameters())))
    for mine, theirs in zip(*grads, strict=True):
        assert mine.dtype is theirs.dtype
        torch.testing.assert_close(mine, theirs, rtol=0.1, atol=0.03 * float(theirs.abs().max()))
    assert max(runs) >= 4


@pytest.mark.parametrize("recompute", ["none", "block"])
def test_distributed_data_parallel(recompute: str) -> None:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        net = attributes_net().double()
        lean = converted(net, recompute=recompute, slice_mib=SLICE_MIB)
        x, grads = batch(), []
        for one in (net, DistributedDataParallel(lean)):
            one(x).square().sum().backward()
            grads.append([p.grad for p in one.parameters()])
        for mine, theirs in zip(*grads, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)
    finally:
        dist.destroy_process_group()


def test_copies_run_in_slices_and_undoing_is_whole(runs: list[int]) -> None:
    lean, x = converted(attributes_net(), slice_mib=SLICE_MIB), batch().float()
    before = lean(x)
    for other in (copy.deepcopy(lean), pickle.loads(pickle.dumps(lean))):
        runs.clear()
        assert torch.equal(other(x), before) and max(runs) == 7
    undo_memory_efficient_(lean)
    assert type(lean) is Attributes
    assert not any("lean" in name for module in lean.modules() for name in vars(module))
    torch.testing.assert_close(lean(x), before)


class Floats:
    """Makes floats of bytes, and counts for how many images at a time."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def __call__(self, images: Tensor) -> Tensor:
        self.seen.append(len(images))
        return images.double().sub_(120).div_(60)


@pytest.mark.parametrize("recompute", ["none", "block"])
def test_images_in_bytes_become_floats_a_slice_at_a_time(recompute: str, runs: list[int]) -> None:
    stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    stock = SequenceNet([stem, Doubled(16), pooled], nn.Linear(32, 5), ())
    stock = randomise_(stock).eval().double()
    lean = converted(stock, recompute=recompute, slice_mib=SLICE_MIB)
    x = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    prepare = Floats()
    with prepares_input(lean, prepare) as outside:
        logits = lean(outside(x))
    logits.sum().backward()
    theirs = stock(Floats()(x))
    theirs.sum().backward()
    torch.testing.assert_close(logits, theirs)
    for one, other in zip(lean.parameters(), stock.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-8, atol=1e-8)
    assert max(runs) >= 2 and set(prepare.seen) == {1}
    first = runs.copy()
    with torch.no_grad(), prepares_input(lean, prepare) as outside:
        lean(outside(x))
    assert runs[len(first) :] == first, "the first step, too, knows that the stem makes floats"


def test_a_report_names_the_chain_and_what_its_own_code_keeps() -> None:
    lean = attributes_net()
    report = make_memory_efficient_(lean)
    assert report.chains == [""]
    kept = {(one.module, one.what): one for one in find_kept(lean, batch(2).float())}
    silu = kept["stages.1.0", "torch.nn.functional.silu"]
    assert not silu.lean and ("", "torch.nn.functional.relu") not in kept
    assert silu.mib == 2 * 32 * 8 * 8 * 4 / 2**20


def test_a_second_backward_says_what_is_gone() -> None:
    lean = converted(attributes_net(), slice_mib=SLICE_MIB)
    loss = lean(batch().float()).sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="leave out retain_graph=True"):
        loss.backward()


def biases_train_(net: nn.Module) -> nn.Module:
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name.endswith("bias"))
    return net.eval()


@pytest.mark.parametrize(
    ("name", "recompute", "percent"),
    [("shufflenet_v2", "none", 16), ("resnet18", "none", 31), ("timm/regnety_002", "block", 18)],
)
def test_no_map_of_the_stem_is_the_whole_batchs(name: str, recompute: str, percent: float) -> None:
    net = biases_train_(NETS[name]()).to(memory_format=torch.channels_last)
    x = torch.randn(8, 3, 224, 224).contiguous(memory_format=torch.channels_last)
    stock = any_step.predict_step(net, x).peak_mib
    assert any_step.predict_step(converted(net, recompute=recompute), x).peak_mib < percent / 100 * stock


def test_a_large_batch_has_a_bounded_number_of_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []

    def noted(x: Tensor, sliced: Any, step: int, recompute: bool) -> Tensor:
        steps.append(step)
        return run_in_slices(x, sliced, step, recompute)

    monkeypatch.setattr(lean_runs, "run_in_slices", noted)
    lean = converted(attributes_net(), slice_mib=1e-6)
    with torch.no_grad():
        lean(torch.randn(200, 3, 8, 8))
    assert set(steps) == {4}


def test_a_batch_of_one_is_no_run(runs: list[int]) -> None:
    net = attributes_net().double()
    lean = converted(net, slice_mib=SLICE_MIB)
    assert_same_outcome(lean, net, batch(1), 1e-10)
    assert not runs
