import copy
import dataclasses
import io
import itertools
import pickle
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint
from torchvision.models import mobilenet_v2, mobilenet_v3_small

from tests.support.cases import small
from tests.support.sampled import sampled
from tinytl.build import build_model
from tinytl.gradient_checkpoints import segment
from tinytl.gradient_checkpoints.segment import checkpoint_segment, insert_checkpoints_
from tinytl.memory.measured_step import measure_memory
from tinytl.memory.predict import predict_memory
from tinytl.memory_efficient import Execution, make_memory_efficient_, undo_memory_efficient_
from tinytl.memory_efficient.block.stock import base_class
from tinytl.memory_efficient.lean_blocks import LeanBlock
from tinytl.networks.frozen_batch_norm import freeze_bn_
from tinytl.networks.group_norm import replace_bn_with_gn
from tinytl.networks.lite_residual import LiteResidualModule, insert_lite_residual
from tinytl.networks.update_methods import apply_update_method_

KINDS = {"no expansion": 1, "stride": 2, "shortcut": 3}
"""Kinds of inverted residuals, by their place in MobileNetV2."""
NORMS = ("batch_norm", "frozen_bn", "group_norm")


def net_with(norm="frozen_bn", lite=False, method=None, width=0.5):
    """MobileNetV2 in double precision and training mode, with statistics that hide no mistakes."""
    torch.manual_seed(0)
    net = mobilenet_v2(num_classes=5, width_mult=width)
    if lite:
        insert_lite_residual(net, resolution=32)
    if norm == "frozen_bn":
        for module in net.modules():
            if isinstance(module, LiteResidualModule):
                replace_bn_with_gn(module.lite_residual)
        freeze_bn_(net)
    elif norm == "group_norm":
        replace_bn_with_gn(net)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
        if isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
    if method is not None:
        apply_update_method_(net, method)
    return net.double().train()


def runs_of(module):
    """A list that grows with every run of `module`."""
    runs = []
    module.register_forward_hook(lambda *_: runs.append(1))
    return runs


def outcome(module, x, autocast=False):
    """Outputs, gradients and buffers after a step that begins with the same random numbers."""
    torch.manual_seed(1)
    module.zero_grad(set_to_none=True)
    x = x.detach().clone().requires_grad_(x.requires_grad)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y = module(x)
    torch.rand(())  # something else happens before backward
    y.float().square().sum().backward()
    found = {"y": y.detach(), "x": x.grad, "next random": torch.rand(())}
    found |= {f"{name}.grad": p.grad for name, p in module.named_parameters()}
    return found | dict(module.named_buffers())


def assert_same(mine, theirs, tolerance=1e-10):
    assert mine.keys() == theirs.keys()
    for name, one in theirs.items():
        assert (mine[name] is None) == (one is None), name
        if one is not None:
            difference = (mine[name].double() - one.double()).norm()
            assert difference <= tolerance * (1 + one.double().norm()), name


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lite", [False, True])
def test_blocks_of_every_kind(kind, norm, lite):
    block = net_with(norm, lite).features[KINDS[kind]]
    segment = checkpoint_segment.insert_checkpoint(copy.deepcopy(block))
    runs = runs_of(segment.get_submodule("main_branch" if lite and KINDS[kind] > 1 else "conv"))
    width = next(m.in_channels for m in block.modules() if isinstance(m, nn.Conv2d))
    x = torch.randn(3, width, 8, 8, dtype=torch.float64)
    for wants in (True, False):  # the first block of a network is given no gradient to pass on
        assert_same(outcome(segment, x.requires_grad_(wants)), outcome(block, x))
    assert len(runs) == 4


@pytest.mark.parametrize("norm", NORMS)
def test_running_statistics_move_once_a_step(norm):
    net = net_with(norm)
    other = copy.deepcopy(net)
    insert_checkpoints_(other)
    x = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    for momentum in (0.1, None):
        for module in itertools.chain(net.modules(), other.modules()):
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = momentum
        assert_same(outcome(other, x), outcome(net, x))
    counts = {name: b.item() for name, b in other.named_buffers() if name.endswith("num_batches_tracked")}
    assert set(counts.values()) == ({2} if norm == "batch_norm" else {0} if norm == "frozen_bn" else set())


def test_every_inverted_residual_of_a_network():
    assert insert_checkpoints_(net_with()) == [f"features.{i}" for i in range(1, 18)]
    built = build_model(small(method="TinyTL-L")).net
    assert insert_checkpoints_(built) == [f"features.{i}" for i in range(1, 18)]
    assert isinstance(built.features[5], LiteResidualModule)
    assert not isinstance(built.features[5].main_branch, checkpoint_segment)
    v3 = mobilenet_v3_small()
    names = insert_checkpoints_(v3)
    assert len(names) == 11 == len([m for m in v3.modules() if isinstance(m, checkpoint_segment)])
    assert insert_checkpoints_(v3) == names
    assert "CheckpointedCheckpointed" not in repr(v3)


def test_dropout_drops_the_same_again():
    net = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 8), nn.Dropout(0.5)).double()
    segment = checkpoint_segment.insert_checkpoint(copy.deepcopy(net))
    x = torch.randn(4, 8, dtype=torch.float64)
    assert_same(outcome(segment, x), outcome(net, x))


@pytest.mark.parametrize("lean", [False, True])
def test_autocast_is_exact(lean):
    net = net_with(lite=True).float()
    if lean:
        make_memory_efficient_(net)
    other = copy.deepcopy(net)
    insert_checkpoints_(other)
    x = torch.randn(2, 3, 32, 32)
    mine, theirs = outcome(other, x, autocast=True), outcome(net, x, autocast=True)
    assert mine["y"].dtype == torch.bfloat16
    assert_same(mine, theirs, tolerance=0)


def test_where_no_gradient_is_recorded_it_runs_plain():
    segment = checkpoint_segment.insert_checkpoint(net_with().features[3])
    x = torch.randn(1, 16, 4, 4, dtype=torch.float64, requires_grad=True)
    runs = runs_of(segment.conv)
    with torch.no_grad():
        assert not segment(x).requires_grad
    with torch.inference_mode():
        segment(x)
    with torch.no_grad():
        segment.requires_grad_(False)(x.detach())  # and does not warn
    assert len(runs) == 3


def test_a_segment_without_gradient_warns_once():
    block = net_with().features[3].requires_grad_(False)
    segment = checkpoint_segment.insert_checkpoint(block)
    x = torch.randn(1, 16, 4, 4, dtype=torch.float64)
    with pytest.warns(
        UserWarning, match=r"^the checkpoint at InvertedResidual does nothing: .* insert"
    ) as seen:
        for _ in range(3):
            assert not segment(x).requires_grad
    assert len(seen) == 1 and "\n" not in str(seen[0].message)
    runs = runs_of(segment.conv)
    assert outcome(segment, x.requires_grad_())["x"] is not None  # and works where one is wanted, later
    assert len(runs) == 2


def test_blocks_that_insert_checkpoints_placed_say_nothing():
    net = net_with(method="FT-Last")
    insert_checkpoints_(net)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        copy.deepcopy(net)(torch.randn(1, 3, 32, 32, dtype=torch.float64)).sum().backward()


def test_the_gradient_of_a_gradient():
    net = net_with("batch_norm").features[3]
    segment = checkpoint_segment.insert_checkpoint(copy.deepcopy(net))
    x, results = torch.randn(2, 16, 4, 4, dtype=torch.float64, requires_grad=True), []
    for one in (net, segment):
        (grad,) = torch.autograd.grad(one(x).exp().sum(), x, create_graph=True)
        results.append(dict(enumerate(torch.autograd.grad(grad.square().sum(), [x, *one.parameters()]))))
    assert_same(*results)


def test_backward_again():
    net = net_with("batch_norm").features[3]
    segment = checkpoint_segment.insert_checkpoint(copy.deepcopy(net))
    x = torch.randn(2, 16, 4, 4, dtype=torch.float64)
    for one in (net, segment):
        y = one(x).square().sum()
        y.backward(retain_graph=True)
        y.backward()
        with pytest.raises(RuntimeError, match="second time"):
            y.backward()
    assert_same(*({n: p.grad for n, p in one.named_parameters()} for one in (segment, net)))
    assert_same(dict(segment.named_buffers()), dict(net.named_buffers()))


@pytest.mark.parametrize("lean", [False, True])
def test_copies_pickles_and_states(lean):
    net = net_with()
    keys, x = list(net.state_dict()), torch.randn(2, 3, 32, 32, dtype=torch.float64)
    if lean:
        make_memory_efficient_(net)
    insert_checkpoints_(net)
    expected = outcome(net, x)
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    copies = [copy.deepcopy(net), pickle.loads(pickle.dumps(net)), torch.load(file, weights_only=False)]
    for other in copies:
        block = other.features[3]
        assert type(block) is type(net.features[3]) and block is not net.features[3]
        assert list(other.state_dict()) == keys
        runs = runs_of(block)
        assert_same(outcome(other, x), expected, tolerance=0)
        with torch.no_grad():
            block.conv[3].bias.add_(1)
        assert not torch.equal(outcome(other, x)["y"], expected["y"])
        assert len(runs) == 2
    assert_same(outcome(net, x), expected, tolerance=0)


def test_removing_gives_the_class_back():
    block = net_with().features[3]
    before = dict(vars(block)), type(block)
    checkpoint_segment.insert_checkpoint(block)
    assert isinstance(block, before[1]) and type(block) is not before[1]
    insert_checkpoints_(nn.Sequential(block))
    for _ in range(2):
        assert checkpoint_segment.remove_checkpoint(block) is block
        assert (dict(vars(block)), type(block)) == before


@pytest.mark.parametrize("lean_first", [True, False])
@pytest.mark.parametrize(
    ("method", "norm"),
    sampled([("TinyTL-L+B", "frozen_bn"), ("FT-Full", "group_norm"), ("FT-Full", "batch_norm")], 3),
)
def test_lean_blocks_in_either_order(method, norm, lean_first):
    net = net_with(norm, method.startswith("TinyTL-L"), method)
    other = copy.deepcopy(net)
    how = Execution(recompute="depthwise", slice_mib=0.05)
    if lean_first:
        make_memory_efficient_(other, how)
        insert_checkpoints_(other)
    else:
        insert_checkpoints_(other)
        make_memory_efficient_(other, how)
    make_memory_efficient_(other, how)  # converting again leaves the checkpoint
    block = other.features[4]
    assert isinstance(block, checkpoint_segment) and isinstance(block, LeanBlock)
    assert base_class(block) is base_class(net.features[4])
    x = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    assert_same(outcome(other, x), outcome(net, x))
    if norm != "batch_norm":
        small_input = torch.randn(1, 16, 4, 4, dtype=torch.float64, requires_grad=True)
        assert block(small_input).grad_fn.name() == "BlockFunctionBackward"

    undo_memory_efficient_(other)
    assert type(checkpoint_segment.remove_checkpoint(copy.deepcopy(block))) is type(net.features[4])
    assert not any(isinstance(module, LeanBlock) for module in other.modules())
    assert isinstance(block, checkpoint_segment)
    assert_same(outcome(other, x), outcome(net, x))


@pytest.mark.parametrize("engine", ["stock", "lean"])
def test_only_the_input_is_kept(engine):
    config = small(method="FT-Full", norm="frozen_bn", engine=engine, resolution=64)
    net = build_model(config).net
    names = insert_checkpoints_(net)
    known = {t.untyped_storage()._cdata for t in (*net.parameters(), *net.buffers())}
    inputs, kept = [], []
    for name in names:
        net.get_submodule(name).register_forward_pre_hook(lambda _, args: inputs.append(args[0]))

    def pack(tensor):
        if tensor.numel() and tensor.untyped_storage()._cdata not in known:
            kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        stem = net.features[:1](torch.randn(2, 3, 64, 64))
        del kept[:]
        net.features[1:18](stem)
    assert len(inputs) == 17
    assert {t.untyped_storage()._cdata for t in kept} == {t.untyped_storage()._cdata for t in inputs}


def test_only_real_tensors_restore_random_numbers(monkeypatch):
    restored = []

    def spied(*args, **kwargs):
        restored.append(kwargs["preserve_rng_state"])
        return checkpoint(*args, **kwargs)

    monkeypatch.setattr(segment, "checkpoint", spied)
    config = small(
        method="FT-Full", engine="stock", checkpoint="all", stock_below_kib=0.0, micro_batch_size=4
    )
    predict_memory(config)  # once CUDA runs, torch looks for the generator of a GPU without a number
    assert restored and not any(restored)
    restored.clear()
    measure_memory(config)
    assert restored and all(restored)


def test_mistakes():
    with pytest.raises(TypeError, match=r"^a checkpoint needs an nn.Module, not function: wrap it in one$"):
        checkpoint_segment.insert_checkpoint(lambda x: x)
    own = nn.ReLU()
    own.forward = lambda x: x + 1
    with pytest.raises(ValueError, match=r"^this ReLU has a forward of its own on the instance"):
        checkpoint_segment.insert_checkpoint(own)


def test_training_goes_the_same_way():
    start = net_with("batch_norm", width=0.25)
    checkpointed = copy.deepcopy(start)
    insert_checkpoints_(checkpointed)
    x, traces = torch.randn(6, 3, 32, 32, dtype=torch.float64), []
    for net in (start, checkpointed):
        torch.manual_seed(0)
        optimizer = torch.optim.SGD(net.parameters(), 0.01)
        trace = []
        for _ in range(10):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), torch.arange(6) % 5)
            loss.backward()
            optimizer.step()
            trace.append(loss.item())
        traces.append(trace)
    assert traces[0] == pytest.approx(traces[1], rel=1e-9)
    assert traces[0][-1] < traces[0][0]


def test_the_class_is_called_as_in_the_reports():
    block = net_with("frozen_bn").features[3]
    expected, names = type(block), list(block.state_dict())
    made = checkpoint_segment(block)
    assert made is block and isinstance(made, (checkpoint_segment, expected))
    assert made.segment is made and list(made.state_dict()) == names
    assert checkpoint_segment(made) is made
    assert copy.deepcopy(made).segment is not made
    x = torch.randn(2, made.conv[0][0].in_channels, 8, 8, dtype=torch.float64, requires_grad=True)
    before = made(x)
    assert torch.equal(before, checkpoint_segment.remove_checkpoint(made)(x))
    with pytest.raises(TypeError, match=r"^a checkpoint needs an nn\.Module, not function"):
        checkpoint_segment(lambda x: x)


def test_a_module_may_have_a_segment_of_its_own():
    class Own(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.segment = nn.Linear(width, 3)

        def forward(self, x):
            return self.segment(x)

    made = checkpoint_segment(Own(2))
    assert isinstance(made.segment, nn.Linear) and list(made.state_dict()) == [
        "segment.weight",
        "segment.bias",
    ]
    assert type(made)(5).segment.in_features == 5  # its class may be called, too
    with pytest.raises(AttributeError, match="other"):
        _ = made.other


MEMORY_CASES = {
    "FT-Full-frozen_bn-stock": small(method="FT-Full", norm="frozen_bn", engine="stock"),
    "FT-Full-batch_norm-stock": small(method="FT-Full", norm="batch_norm", engine="stock", batch_size=16),
    "FT-Full-batch_norm-lean": small(method="FT-Full", norm="batch_norm", batch_size=16),
    "TinyTL-L+B-frozen_bn-stock": small(norm="frozen_bn", engine="stock", micro_batch_size=2),
}


@pytest.mark.parametrize("config", sampled(MEMORY_CASES.values(), 5), ids=MEMORY_CASES)
def test_prediction_is_what_the_allocator_measures(config):
    config = dataclasses.replace(config, resolution=64)
    plain = predict_memory(config)
    checkpointed = dataclasses.replace(config, checkpoint="all")
    predicted = predict_memory(checkpointed)
    assert predicted.peak_mib == pytest.approx(measure_memory(checkpointed), rel=0.02)
    assert predicted.peak_mib < plain.peak_mib
    assert predicted.parts_mib["saved_for_backward"] < 0.5 * plain.parts_mib["saved_for_backward"]
    place, direction = predicted.peak_at.rsplit(" ", 1)
    assert direction == "backward" and place in dict(build_model(config).net.named_modules())
