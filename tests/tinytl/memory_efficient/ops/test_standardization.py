import dataclasses
import itertools

import pytest
import torch
from torch import nn

from tests.support.cases import small
from tests.support.lean_networks import (
    assert_same_gradients,
    assert_same_outcome,
    converted,
    error,
    randomise_,
    tinytl_net,
)
from tests.support.sampled import sampled
from tinytl.build import build_model
from tinytl.memory_efficient import make_memory_efficient_
from tinytl.memory_efficient.lean_blocks import LeanBlock
from tinytl.memory_efficient.lean_modules import LeanConv2d
from tinytl.memory_efficient.ops.standardization import lean_standardized
from tinytl.networks.backbones.inverted_residual import BlockSpec, InvertedResidual
from tinytl.networks.frozen_batch_norm import freeze_bn_
from tinytl.networks.group_norm import replace_bn_with_gn
from tinytl.networks.lite_residual import LiteResidualModule
from tinytl.networks.update_methods import is_norm
from tinytl.networks.weight_standardization import standardize_weights_, standardized

SHAPES = [(6, 4, 3, 3), (6, 1, 3, 3), (5, 8, 1, 1)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_equals_stock(assert_same, dtype, shape):
    for wants in (True, False):
        weight = (torch.randn(shape) * 3 + 1).to(dtype).requires_grad_(wants)
        assert_same(lean_standardized, standardized, [weight])


def test_gradcheck_and_a_filter_of_one_value():
    weight = torch.randn(3, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lean_standardized, (weight,))
    flat = torch.ones(2, 3, 1, 1, requires_grad=True)
    lean_standardized(flat).square().sum().backward()
    assert flat.grad.isfinite().all()


@pytest.mark.parametrize("shape", SHAPES)
def test_harms_nobody(assert_harms_nobody, shape):
    weight = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    assert_harms_nobody(lean_standardized, standardized, [weight])


def test_keeps_the_weight_alone(kept_bytes):
    weight = torch.randn(6, 4, 3, 3, requires_grad=True)
    assert kept_bytes(lambda: lean_standardized(weight), [weight]) == 0


@pytest.mark.parametrize(
    ("method", "recompute"),
    sampled(itertools.product(("FT-Full", "TinyTL-L+B", "Last-5"), ("none", "depthwise", "block")), 4),
)
def test_nets_equal_stock(method, recompute):
    net = tinytl_net("efficientnet_lite0", method, "group_norm").double()
    standardize_weights_(net)
    lean = converted(net, recompute=recompute)
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    assert_same_outcome(lean, net, x, 1e-10)
    assert any(isinstance(module, LeanBlock) for module in lean.modules())
    assert not make_memory_efficient_(lean).left


@pytest.mark.parametrize("recompute", ["none", "depthwise", "block"])
@pytest.mark.parametrize("frozen", ["nothing", "norms", "shifts", "weights of the branch"])
@pytest.mark.parametrize("norm", ["frozen_bn", "group_norm"])
def test_blocks_equal_stock(norm, frozen, recompute):
    """One block: in a whole net whose frozen statistics are of other weights, rounding grows to anything."""
    block = InvertedResidual(8, BlockSpec(16, 3, 2, 4), 1e-5, same_pad=True)
    module = LiteResidualModule(block, 8, 16, stride=2)
    (replace_bn_with_gn if norm == "group_norm" else freeze_bn_)(module)
    randomise_(module).double()
    parts = {
        "norms": [p for m in module.modules() if is_norm(m) for p in m.parameters()],
        "shifts": [m.bias for m in module.modules() if is_norm(m)],
        "weights of the branch": [m.weight for m in module.lite_residual if isinstance(m, nn.Conv2d)],
    }
    for parameter in parts.get(frozen, []):
        parameter.requires_grad_(False)
    assert len(standardize_weights_(module)) == 5
    lean = converted(module, recompute=recompute)
    for size in (9, 2):  # a small map is scaled by the folded norm in place of the weight
        results = []
        for one in (lean, module):
            x = torch.randn(2, 8, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
            one.zero_grad(set_to_none=True)
            y = one(x.requires_grad_())
            y.sin().sum().backward()
            results.append((y, {"x": x.grad} | {name: p.grad for name, p in one.named_parameters()}))
        (mine, my_grads), (theirs, their_grads) = results
        assert mine.grad_fn.name() == "BlockFunctionBackward"
        assert error(mine, theirs) <= 1e-10
        assert_same_gradients(my_grads, their_grads, 1e-10)


@pytest.mark.parametrize("stock_below_kib", [0.0, 1e6])
@pytest.mark.parametrize("norm", ["batch_norm", "group_norm"])
def test_engines_agree_where_blocks_are_kept_apart_and_where_maps_are_small(norm, stock_below_kib):
    config = small(
        method="Last-5", norm=norm, resolution=64, weight_standardization=True, dropout=0.0,
        stock_below_kib=stock_below_kib, num_classes=5,
    )  # fmt: skip
    nets = []
    for engine in ("lean", "stock"):
        torch.manual_seed(0)
        nets.append(build_model(dataclasses.replace(config, engine=engine)).net.double())
    assert isinstance(nets[0].features[17].conv[2], LeanConv2d)
    assert_same_outcome(*nets, torch.randn(4, 3, 64, 64, dtype=torch.float64), 1e-10)
