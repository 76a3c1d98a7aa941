import copy
import io
import itertools
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.support.lean_networks import (
    SETTINGS,
    assert_as_stock,
    assert_same_outcome,
    converted,
    outcome,
    randomise_,
    tinytl_net,
    torchvision_net,
)
from tests.support.sampled import sampled
from tinytl.config.names import BACKBONES, METHODS
from tinytl.memory_efficient import Execution, make_memory_efficient_, undo_memory_efficient_
from tinytl.memory_efficient.lean_blocks import LeanBlock
from tinytl.networks.group_norm import replace_bn_with_gn
from tinytl.networks.lite_residual import LiteResidualModule

KINDS = itertools.product(BACKBONES, METHODS, ("frozen_bn", "group_norm"))
# A step further in each round: the norm and the type change with the same period.
IN_TURN = [
    (*kind, SETTINGS[(turn + turn // len(SETTINGS)) % len(SETTINGS)]) for turn, kind in enumerate(KINDS)
]


@pytest.mark.parametrize(("backbone", "method", "norm", "setting"), sampled(IN_TURN, 25))
def test_every_backbone_method_and_norm(backbone, method, norm, setting):
    net = tinytl_net(backbone, method, norm, setting.resolution)
    recompute = {"FT-Full": "depthwise", "TinyTL-L+B": "block"}.get(method, "none")
    assert_as_stock(converted(net, recompute=recompute, slice_mib=0.3), net, setting)


@pytest.mark.parametrize("ratio", [2, 4, 8, None])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_lite_residuals_on_any_map(ratio, mode):
    main = nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1), nn.BatchNorm2d(12))
    net = nn.Sequential(LiteResidualModule(main, 8, 12, 1.0, 3, "h_swish", 2, ratio, mode, 2), nn.Flatten())
    net = randomise_(net).eval()
    lean = copy.deepcopy(net)
    assert make_memory_efficient_(lean).blocks == ["0"]
    layouts = (torch.contiguous_format, torch.channels_last)
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.float64, 1e-10)):
        lean, net = lean.to(dtype), net.to(dtype)
        for size, layout in itertools.product(((16, 16), (7, 9), (3, 4), (1, 1)), layouts):
            x = torch.randn(2, 8, *size, dtype=dtype).contiguous(memory_format=layout)
            assert_same_outcome(lean, net, x, tolerance)


def test_copies_and_pickles_are_lean_and_independent():
    lean = converted(torchvision_net("mobilenet_v2"), recompute="block")
    x = torch.randn(2, 3, 64, 64)
    before = lean(x).detach()
    file = io.BytesIO()
    torch.save(lean, file)
    file.seek(0)
    copies = [copy.deepcopy(lean), pickle.loads(pickle.dumps(lean)), torch.load(file, weights_only=False)]
    for other in copies:
        block = other.features[3]
        assert isinstance(block, LeanBlock) and block.lean_execution.recompute == "block"
        assert torch.equal(other(x), before)
        with torch.no_grad():
            block.conv[0][0].weight.zero_()
        assert not torch.equal(other(x), before)
    assert torch.equal(lean(x), before)


def test_classes_and_undoing():
    net = torchvision_net("mobilenet_v2")
    lean = converted(net)
    for one, other in zip(lean.modules(), net.modules(), strict=True):
        assert isinstance(one, type(other))
    undo_memory_efficient_(lean)
    assert [type(m) for m in lean.modules()] == [type(m) for m in net.modules()]
    assert repr(lean) == repr(net)


def test_converting_again_changes_how_it_runs():
    net = converted(torchvision_net("mobilenet_v2"))
    make_memory_efficient_(net, Execution(recompute="block"))
    assert net.features[3].lean_execution.recompute == "block"
    assert "LeanLean" not in repr(net)


def test_surgery_after_conversion_is_seen():
    net = torchvision_net("mobilenet_v2").double()
    lean = converted(net)
    lean(torch.randn(1, 3, 32, 32, dtype=torch.float64))
    for one in (net, lean):
        torch.manual_seed(0)
        replace_bn_with_gn(one)
        one.features[4].conv[0][2] = nn.ReLU()
        one.features[5].conv[1][0] = nn.Conv2d(192, 192, 5, padding=2, groups=192, bias=False).double()
        one.features[6].conv[0][2] = nn.SiLU()
        one.features[0].append(nn.ELU())
        one.double()
    assert_same_outcome(lean, net, torch.randn(2, 3, 64, 64, dtype=torch.float64), 1e-10)


def test_hooks_on_a_child_are_called():
    net = torchvision_net("mobilenet_v2").double()
    lean = converted(net)
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    assert_same_outcome(lean, net, x, 1e-10)
    seen, handles = [], []
    for one in (net, lean):
        for module in (
            one.features[3].conv[1][0],
            one.features[2],
            one.features[4].conv,
            one.features[5].conv[0],
        ):
            handles.append(module.register_forward_hook(lambda m, args, y: seen.append(y.shape) or y * 2))
    assert_same_outcome(lean, net, x, 1e-10)
    assert len(seen) == 8
    for handle in handles:
        handle.remove()
    assert (
        lean.features[3](torch.randn(1, 24, 8, 8, dtype=torch.float64)).grad_fn.name()
        == "BlockFunctionBackward"
    )


def test_a_hook_on_a_block_itself_is_no_obstacle():
    net = torchvision_net("mobilenet_v2")
    seen = []
    net.features[3].register_forward_hook(lambda *_: seen.append(1))
    assert "features.3" in make_memory_efficient_(net).blocks
    net(torch.randn(1, 3, 32, 32))
    assert seen == [1]


def test_a_slice_of_a_block_runs():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 5, 1))
    lean = converted(net)
    x = torch.randn(1, 3, 4, 4)
    torch.testing.assert_close(lean[:2](x), net[:2](x))
    torch.testing.assert_close(lean(x[0]), net(x[0]))


def test_an_empty_batch():
    net = torchvision_net("mobilenet_v2")
    lean = converted(net)
    empty = torch.zeros(0, 3, 64, 64)
    assert lean.features(empty).shape == net.features(empty).shape


def test_replicas_that_share_a_reader_are_told_apart():
    lean = converted(torchvision_net("mobilenet_v2")).features[3]
    x = torch.randn(1, 24, 8, 8)
    before = lean(x)
    replica = copy.deepcopy(lean)
    replica.lean_reader = lean.lean_reader
    replica.conv[3].bias.data += 1
    torch.testing.assert_close(replica(x), before + 1)
    torch.testing.assert_close(lean(x), before)


class Doubling(nn.Conv2d):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.filterwarnings("ignore:Using padding=.same.")
def test_leaves_what_it_does_not_know_and_says_so():
    parametrised = nn.Conv2d(4, 4, 3)
    nn.utils.parametrizations.weight_norm(parametrised)
    own = nn.ReLU()
    own.forward = lambda x: x + 1
    hooked = nn.AvgPool2d(2)
    hooked.register_forward_hook(lambda *_: None)
    net = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), nn.ReLU()),
        nn.Sequential(Doubling(4, 4, 1), nn.BatchNorm2d(4)),
        parametrised,
        own,
        hooked,
        nn.Hardtanh(),
        nn.Conv2d(4, 4, 2, padding="same"),
        nn.Conv2d(4, 5, 3, padding="same"),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ).double()
    lean = copy.deepcopy(net)
    report = make_memory_efficient_(lean)
    assert report.left == {
        "0": "as one function: 0 pads with reflect",
        "0.0": "pads with reflect",
        "1.0": "Doubling has a forward of its own",
        "2": "is parametrised",
        "3": "has a forward of its own",
        "4": "has hooks",
        "5": "Hardtanh is not known",
        "6": "pads one side more than the other",
    }
    assert report.batch_statistics == ["1.1"]
    assert report.modules.keys() == {"0.1", "1.1", "7", "8"}
    assert "left 5: Hardtanh is not known" in str(report) and "1 batch norms outside of blocks use" in str(
        report
    )
    assert_same_outcome(lean, net, torch.randn(3, 3, 16, 16, dtype=torch.float64), 1e-10)


LAYOUTS = (torch.contiguous_format, torch.channels_last)
ANSWERS = list(itertools.product(("mobilenet_v3_small", "mobilenet_v2", "resnet18"), SETTINGS, LAYOUTS))


@pytest.mark.parametrize(("name", "setting", "of_weights"), sampled(ANSWERS, 17), ids=str)
def test_answers_lie_in_memory_as_stock_s(name, setting, of_weights):
    net = torchvision_net(name).to(setting.dtype).to(memory_format=of_weights)
    found = [strides_of_maps(one, setting.batch()) for one in (converted(net), net)]
    assert found[0] == found[1]


def strides_of_maps(net, x):
    """Strides of each outermost module's answer, and of the gradient of the input."""
    found = []
    for child in (*net.children(), *getattr(net, "features", ())):
        child.register_forward_hook(lambda _module, _inputs, y: found.append(y.stride()))
    x.requires_grad_()
    net(x).sum().backward()
    return [*found, x.grad.stride()]


def test_the_report_names_who_keeps_what_by_size():
    net = torchvision_net("mobilenet_v3_small")
    report = make_memory_efficient_(net, example=torch.zeros(2, 3, 64, 64))
    assert report.kept and report.kept == sorted(report.kept, key=lambda one: -one.mib)
    total, lean = sum(one.mib for one in report.kept), sum(one.mib for one in report.kept if one.lean)
    text = str(report)
    assert f"{total:.1f} MiB are kept for backward, {lean:.1f} by lean modules, and by\n" in text
    assert "features.4.block.2: torch.Tensor.mul\n" in text and "others, each less than 0.01 MiB" in text


def test_micro_batches_add_up():
    net = tinytl_net("mobilenet_v2", "TinyTL-L+B", "group_norm").double()
    net.classifier[0].p = 0.0
    lean = converted(net)
    x = torch.randn(3, 3, 64, 64, dtype=torch.float64)
    _, whole = outcome(net, x)
    lean.zero_grad(set_to_none=True)
    for index in range(3):
        (F.cross_entropy(lean(x[index : index + 1]), torch.tensor([index])) / 3).backward()
    for name, parameter in lean.named_parameters():
        if parameter.requires_grad:
            assert (parameter.grad - whole[name]).norm() <= 1e-10 * (1 + whole[name].norm()), name
