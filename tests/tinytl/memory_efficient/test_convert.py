import copy
import io
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import mobilenet_v2, mobilenet_v3_small, resnet18, resnet50

from tinytl.backbones import BACKBONES
from tinytl.frozen_batch_norm import freeze_bn_
from tinytl.group_norm import replace_bn_with_gn
from tinytl.lite_residual import LiteResidualModule, insert_lite_residual
from tinytl.memory_efficient import Execution, make_memory_efficient_, undo_memory_efficient_
from tinytl.memory_efficient.lean_modules import LeanBlock
from tinytl.update_methods import apply_update_method_

METHODS = ("FT-Last", "FT-Norm+Last", "FT-Full", "TinyTL-B", "TinyTL-L", "TinyTL-L+B")
TORCHVISION = {"mobilenet_v2": mobilenet_v2, "mobilenet_v3_small": mobilenet_v3_small, "resnet18": resnet18}


def randomise_(net):
    """Statistics and parameters as training might leave them: zeros hide mistakes."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
        if isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
    return net


def tinytl_net(backbone, method, norm):
    net = BACKBONES[backbone].build(5)
    if "-L" in method and method.startswith("TinyTL"):
        insert_lite_residual(net, resolution=64)
    if norm == "group_norm":
        replace_bn_with_gn(net)
    else:
        for module in net.modules():
            if isinstance(module, LiteResidualModule):
                replace_bn_with_gn(module.lite_residual)
        freeze_bn_(net)
    randomise_(net)
    apply_update_method_(net, method)
    return net.train()


def torchvision_net(name, **kwargs):
    return randomise_(TORCHVISION[name](num_classes=5, **kwargs)).eval()


def outcome(net, x, seed=0):
    torch.manual_seed(seed)
    net.zero_grad(set_to_none=True)
    logits = net(x)
    F.cross_entropy(logits, torch.arange(len(x)) % 5).backward()
    return logits.detach(), {name: p.grad for name, p in net.named_parameters()}


def assert_same_outcome(lean, stock, x, tolerance):
    mine, my_grads = outcome(lean, x)
    theirs, their_grads = outcome(stock, x)
    assert error(mine, theirs) <= tolerance
    assert my_grads.keys() == their_grads.keys()
    scale = max(g.norm() for g in their_grads.values() if g is not None)
    for name, theirs in their_grads.items():
        assert (my_grads[name] is None) == (theirs is None), name
        if theirs is not None:
            # What is zero but for rounding, such as the gradient before a norm, is measured by the rest.
            limit = tolerance * (theirs.norm() + 1e-3 * scale)
            assert (my_grads[name] - theirs).norm() <= limit, name


def error(mine, theirs):
    return ((mine - theirs).norm() / theirs.norm()).item()


def converted(net, **how):
    lean = copy.deepcopy(net)
    make_memory_efficient_(lean, Execution(**how))
    return lean


@pytest.mark.parametrize("norm", ["frozen_bn", "group_norm"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_method_and_norm(backbone, method, norm):
    net = tinytl_net(backbone, method, norm).double()
    recompute = {"FT-Full": "depthwise", "TinyTL-L+B": "block"}.get(method, "none")
    lean = converted(net, recompute=recompute, slice_mib=0.3)
    assert_same_outcome(lean, net, torch.randn(2, 3, 64, 64, dtype=torch.float64), 1e-10)


@pytest.mark.parametrize("method", ["FT-Full", "TinyTL-L+B"])
def test_float32(method):
    net = tinytl_net("mobilenet_v2", method, "frozen_bn")
    assert_same_outcome(converted(net), net, torch.randn(2, 3, 64, 64), 1e-5)


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_nets_in_both_modes(name):
    net = torchvision_net(name).double()
    lean = copy.deepcopy(net)
    report = make_memory_efficient_(lean)
    assert report.blocks and not report.batch_statistics
    assert set(report.left) <= {n for n, m in net.named_modules() if isinstance(m, nn.Hardsigmoid)}
    x = torch.randn(4, 3, 64, 64, dtype=torch.float64)
    for mode in (False, True, False):
        assert_same_outcome(lean.train(mode), net.train(mode), x, 1e-10)
    for one, other in zip(lean.buffers(), net.buffers(), strict=True):
        torch.testing.assert_close(one, other)


def test_bottlenecks_and_downsampling_are_blocks():
    net = randomise_(resnet50(num_classes=5)).eval().double()
    lean = copy.deepcopy(net)
    assert make_memory_efficient_(lean).blocks[0] == "layer1.0"
    assert_same_outcome(lean, net, torch.randn(2, 3, 32, 32, dtype=torch.float64), 1e-10)


@pytest.mark.parametrize("ratio", [2, 4, 8, None])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_lite_residuals_on_any_map(ratio, mode):
    main = nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1), nn.BatchNorm2d(12))
    net = nn.Sequential(LiteResidualModule(main, 8, 12, 1.0, 3, "h_swish", 2, ratio, mode, 2), nn.Flatten())
    net = randomise_(net).eval().double()
    lean = copy.deepcopy(net)
    assert make_memory_efficient_(lean).blocks == ["0"]
    for size in ((16, 16), (7, 9), (3, 4), (1, 1)):
        assert_same_outcome(lean, net, torch.randn(2, 8, *size, dtype=torch.float64), 1e-10)


def test_requires_grad_may_change_after_conversion():
    net = tinytl_net("mobilenet_v2", "FT-Last", "frozen_bn").double()
    lean = converted(net)
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    for method in ("TinyTL-B", "FT-Full", "FT-Norm+Last"):
        apply_update_method_(net, method)
        apply_update_method_(lean, method)
        assert_same_outcome(lean, net, x, 1e-10)


def test_state_dict_goes_both_ways():
    net, other = torchvision_net("mobilenet_v2"), torchvision_net("mobilenet_v2")
    lean = converted(other)
    assert list(lean.state_dict()) == list(net.state_dict())
    lean.load_state_dict(net.state_dict())
    for key, value in lean.state_dict().items():
        assert torch.equal(value, net.state_dict()[key])
    x = torch.randn(2, 3, 64, 64)
    assert error(lean(x), net(x)) < 1e-5
    other.load_state_dict(lean.state_dict())
    assert torch.equal(other(x), net(x))


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
        one.features[6].conv[0][2] = nn.Sigmoid()
        one.features[0].append(nn.Tanh())
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
        nn.GELU(),
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
        "5": "GELU is not known",
        "6": "pads one side more than the other",
    }
    assert report.batch_statistics == ["1.1"]
    assert report.modules.keys() == {"0.1", "1.1", "7"}
    assert "left 5: GELU is not known" in str(report) and "1 batch norms use batch statistics" in str(report)
    assert_same_outcome(lean, net, torch.randn(3, 3, 16, 16, dtype=torch.float64), 1e-10)


@pytest.mark.parametrize("norm", ["frozen_bn", "group_norm"])
def test_autocast(norm):
    net = tinytl_net("mobilenet_v2", "TinyTL-L+B", norm)
    lean = converted(net)
    x = torch.randn(2, 3, 64, 64)
    exact, exact_grads = outcome(net, x)
    results = []
    for one in (lean, net):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = one(x)
        assert logits.dtype == torch.bfloat16
        results.append((logits.detach().float(), outcome_under_autocast(one, x)))
    (mine, my_grads), (theirs, their_grads) = results
    # bfloat16 rounds at other places: lean may not be further from the truth than stock is, or hardly.
    assert error(mine, exact) <= 2 * error(theirs, exact) + 1e-2
    total = [
        torch.cat([g.flatten() for g in grads.values() if g is not None])
        for grads in (my_grads, their_grads, exact_grads)
    ]
    assert error(total[0], total[2]) <= 2 * error(total[1], total[2]) + 1e-2
    assert all(g.dtype == torch.float32 for g in my_grads.values() if g is not None)


def outcome_under_autocast(net, x):
    torch.manual_seed(0)
    net.zero_grad(set_to_none=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = F.cross_entropy(net(x), torch.arange(len(x)) % 5)
    loss.backward()
    return {name: p.grad for name, p in net.named_parameters()}


def test_fifty_steps_have_the_same_losses():
    losses = []
    start = mobilenet_v2(num_classes=4, width_mult=0.25)
    insert_lite_residual(start, resolution=32)
    freeze_bn_(start)
    apply_update_method_(randomise_(start.double()).train(), "TinyTL-L+B")
    x = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    for net in (converted(start), start):
        torch.manual_seed(0)
        optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], 1e-2)
        trace = []
        for _ in range(50):
            loss = F.cross_entropy(net(x), torch.arange(4))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            trace.append(loss.item())
        losses.append(trace)
    assert losses[1][-1] < losses[1][0] / 2
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


@pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last])
def test_memory_formats_of_input_and_weights(format):
    net = torchvision_net("mobilenet_v2").double()
    lean = converted(net).to(memory_format=format)
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    assert_same_outcome(lean, net, x.contiguous(memory_format=format), 1e-10)
    assert lean.features(x).is_contiguous(memory_format=torch.channels_last)


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
