"""What holds for every network, those included that the engine was not written for."""

import copy
import itertools
import random

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import resnet50

from tests.support.lean_networks import (
    NETS,
    SETTINGS,
    TORCHVISION,
    assert_as_stock,
    assert_same_outcome,
    converted,
    error,
    outcome,
    plain_net,
    randomise_,
    tinytl_net,
    torchvision_net,
)
from tests.support.sampled import sampled
from tinytl.memory_efficient import make_memory_efficient_
from tinytl.networks.update_methods import apply_update_method_

SIZE = (3, 64, 64)
NETS_SMALLEST_FIRST = (*NETS[3:], *NETS[:3])


@pytest.mark.parametrize("name", sampled(sorted(TORCHVISION.keys() - {"efficientnet_b0"}), 2))
def test_torchvision_nets_are_known(name):
    net = torchvision_net(name)
    report = make_memory_efficient_(net)
    assert report.blocks and not report.batch_statistics
    assert not report.left


def test_bottlenecks_and_downsampling_are_blocks():
    net = randomise_(resnet50(num_classes=5)).eval().double()
    lean = copy.deepcopy(net)
    assert make_memory_efficient_(lean).blocks[0] == "layer1.0"
    assert_same_outcome(lean, net, torch.randn(2, 3, 32, 32, dtype=torch.float64), 1e-10)


@pytest.mark.parametrize("name", sampled(NETS_SMALLEST_FIRST, 5))
def test_training_and_evaluation_take_turns(name):
    """In training mode batch norms use the batch's statistics and update their own; in part of them, too."""
    net = plain_net(name).double()
    lean = converted(net)
    x = torch.randn(4, *SIZE, dtype=torch.float64)
    for mode in (False, True, False):
        assert_same_outcome(lean.train(mode), net.train(mode), x, 1e-10)
    generator = random.Random(0)
    for mine, theirs in zip(lean.modules(), net.modules(), strict=True):
        if isinstance(theirs, nn.BatchNorm2d) and generator.random() < 0.2:
            mine.train(), theirs.train()
    assert_same_outcome(lean, net, x, 1e-10)
    for mine, theirs in zip(lean.buffers(), net.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("name", sampled(NETS_SMALLEST_FIRST, 5))
def test_any_part_may_train(name):
    net = plain_net(name)
    lean = converted(net)
    generator = random.Random(name)
    settings = list(SETTINGS)
    generator.shuffle(settings)
    for share, setting in zip((0.02, 0.1, 0.3, 0.6, 0.9), settings, strict=False):
        for mine, theirs in zip(lean.parameters(), net.parameters(), strict=True):
            wants = generator.random() < share
            mine.requires_grad_(wants), theirs.requires_grad_(wants)
        # The head always: a net of which nothing trains has no gradient to compare.
        list(lean.parameters())[-1].requires_grad_(), list(net.parameters())[-1].requires_grad_()
        assert_as_stock(lean, net, setting)


NETS_IN_TURN = ["mobilenet_v3_large", "efficientnet_b0", *NETS]
IN_SETTINGS = list(itertools.product(NETS_IN_TURN, SETTINGS, ("all", "biases")))


@pytest.mark.parametrize(("name", "setting", "trained"), sampled(IN_SETTINGS, 29))
def test_every_type_size_and_layout(name, setting, trained):
    """Other kernels run in float32 than in float64, on other sizes, in another layout."""
    net = plain_net(name)
    for parameter_name, parameter in net.named_parameters():
        parameter.requires_grad_(trained == "all" or parameter_name.endswith("bias"))
    assert_as_stock(converted(net), net, setting)


def test_methods_may_change_after_conversion():
    net = tinytl_net("mobilenet_v2", "FT-Last", "frozen_bn").double()
    lean = converted(net)
    x = torch.randn(2, *SIZE, dtype=torch.float64)
    for method in ("TinyTL-B", "FT-Full", "FT-Norm+Last"):
        apply_update_method_(net, method)
        apply_update_method_(lean, method)
        assert_same_outcome(lean, net, x, 1e-10)


@pytest.mark.parametrize("name", NETS)
def test_state_dict_goes_both_ways(name):
    net, other = plain_net(name), plain_net(name)
    lean = converted(other)
    assert list(lean.state_dict()) == list(net.state_dict())
    lean.load_state_dict(net.state_dict())
    for key, value in lean.state_dict().items():
        assert torch.equal(value, net.state_dict()[key])
    x = torch.randn(2, *SIZE)
    assert error(lean(x), net(x)) < 1e-5
    other.load_state_dict(lean.state_dict())
    assert torch.equal(other(x), net(x))


@pytest.mark.parametrize("name", sampled(NETS, 3))
def test_copies_are_lean_and_independent(name):
    net = plain_net(name).double()
    lean = converted(net)
    x = torch.randn(2, *SIZE, dtype=torch.float64)
    lean(x)  # so that blocks have been read: a copy must not read the original's
    other = copy.deepcopy(lean)
    assert [type(m) for m in other.modules()] == [type(m) for m in lean.modules()]
    with torch.no_grad():
        for one in (*other.parameters(), *net.parameters()):
            one.mul_(1.1)
    assert_same_outcome(other, net, x, 1e-10)
    with torch.no_grad():
        for one in net.parameters():
            one.div_(1.1)
    assert_same_outcome(lean, net, x, 1e-10)


AUTOCAST = [(name, "plain") for name in NETS] + [
    ("efficientnet_lite0", "group_norm"),
    ("mobilenet_v2", "frozen_bn"),
    ("mobilenet_v2", "group_norm"),
    ("proxylessnas_mobile", "frozen_bn"),
]


@pytest.mark.parametrize(("name", "norm"), sampled(AUTOCAST, 3))
def test_autocast(name, norm):
    net = plain_net(name) if norm == "plain" else tinytl_net(name, "TinyTL-L+B", norm)
    x = torch.randn(2, *SIZE)
    exact, exact_grads = outcome(net, x)
    (mine, my_grads), (theirs, their_grads) = (outcome_under_autocast(n, x) for n in (converted(net), net))
    # bfloat16 rounds at other places: lean may not be further from the truth than stock is, or hardly.
    assert error(mine, exact) <= 2 * error(theirs, exact) + 1e-2
    total = [
        torch.cat([g.flatten() for g in grads.values() if g is not None])
        for grads in (my_grads, their_grads, exact_grads)
    ]
    assert error(total[0], total[2]) <= 2 * error(total[1], total[2]) + 1e-2
    assert all(g.dtype == torch.float32 for g in my_grads.values() if g is not None)


@pytest.mark.parametrize("name", NETS)
def test_autocast_sets_the_type_of_maps(name):
    """With batch norms stock's maps are in autocast's type; group norms of stock answer in float32."""
    net = plain_net(name)
    types = [map_types(one, torch.randn(1, *SIZE)) for one in (converted(net), net)]
    assert types[0] == types[1] and torch.bfloat16 in types[1]


def map_types(net, x):
    found = []
    # Hooks on outermost modules: one inside of a block would keep it from running as one function.
    for child in (*net.children(), *getattr(net, "features", ())):
        child.register_forward_hook(lambda _module, _inputs, y: found.append(y.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        net(x)
    return found


def outcome_under_autocast(net, x):
    torch.manual_seed(0)
    net.zero_grad(set_to_none=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = net(x)
        loss = F.cross_entropy(logits, torch.arange(len(x)) % 5)
    assert logits.dtype == torch.bfloat16
    loss.backward()
    return logits.detach().float(), {name: p.grad for name, p in net.named_parameters()}


# Convolutions in float64 loop over their groups: fifty steps of two nets need 20 s.
TRAINED = [
    ("mobilenet_v2", "TinyTL-L+B", "frozen_bn", 8),
    pytest.param("mobilenet_v2", "FT-Full", "group_norm", 50, marks=pytest.mark.slow),
    pytest.param("proxylessnas_mobile", "TinyTL-L+B", "frozen_bn", 50, marks=pytest.mark.slow),
    pytest.param("efficientnet_lite0", "FT-Full", "group_norm", 50, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("backbone", "method", "norm", "n_steps"), TRAINED)
def test_steps_have_the_same_losses(backbone, method, norm, n_steps):
    start = tinytl_net(backbone, method, norm, resolution=32).double()
    x = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    fit_statistics_(start, x)
    mine, theirs = losses(converted(start), x, n_steps), losses(start, x, n_steps)
    assert theirs[-1] < theirs[0] / (2 if n_steps == 50 else 1.2)
    assert mine == pytest.approx(theirs, rel=1e-6)


def fit_statistics_(net, x):
    """Sets running statistics to those of `x`: those of a random net let nothing through to learn from."""

    def fit(norm, inputs):
        var, mean = torch.var_mean(inputs[0], (0, 2, 3))
        norm.running_mean.copy_(mean), norm.running_var.copy_(var)

    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    handles = [norm.register_forward_pre_hook(fit) for norm in norms]
    with torch.no_grad():
        net(x)
    for handle in handles:
        handle.remove()


def losses(net, x, n_steps):
    torch.manual_seed(0)
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], 1e-3)
    trace = []
    for _ in range(n_steps):
        loss = F.cross_entropy(net(x), torch.arange(len(x)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        trace.append(loss.item())
    return trace


@pytest.mark.parametrize(
    ("name", "n_blocks", "n_samplewise"),
    [("mobilenetv2_035", 17, 0), ("tf_efficientnet_lite0", 16, 0), ("mobilenetv3_small_050", 3, 9)],
)
def test_timms_norms_with_activations_and_its_blocks_are_known(name, n_blocks, n_samplewise):
    net = randomise_(timm.create_model(name, num_classes=5)).eval().double()
    lean = copy.deepcopy(net)
    report = make_memory_efficient_(lean)
    assert (len(report.blocks), len(report.samplewise)) == (n_blocks, n_samplewise)
    assert report.modules["bn1"] == "BatchNormAct2d"
    x = torch.randn(2, *SIZE, dtype=torch.float64)
    for mode in (False, True):  # in training mode by the batch's statistics
        assert_same_outcome(lean.train(mode), net.train(mode), x, 1e-10)
