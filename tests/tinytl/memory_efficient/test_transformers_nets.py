"""Convolutional networks of transformers; tests/integration/test_frameworks.py runs this where that is."""

import copy

import pytest
import torch
from torch import Tensor, nn

from tests.support.lean_networks import assert_same_gradients, converted, randomise_
from tinytl.memory_efficient import Execution, make_memory_efficient_
from tinytl.memory_efficient.lean_samplewise import LeanSamplewise

transformers = pytest.importorskip("transformers")

SMALL = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 2, 2, 1], "num_labels": 5}
SETTINGS = {
    "MobileNetV1": {"depth_multiplier": 0.25, "num_labels": 5},
    "MobileNetV2": {"depth_multiplier": 0.35, "num_labels": 5},
    "ResNet basic": SMALL | {"layer_type": "basic", "embedding_size": 8},
    "ResNet bottleneck": SMALL | {"embedding_size": 8},
    "RegNet x": SMALL | {"layer_type": "x", "embedding_size": 8, "groups_width": 8},
    "RegNet y": SMALL | {"embedding_size": 8, "groups_width": 8},
    "ConvNext": SMALL | {"layer_scale_init_value": 0.7, "drop_path_rate": 0.5},
    "ConvNextV2": SMALL | {"drop_path_rate": 0.5},
    "EfficientNet": {"width_coefficient": 0.5, "depth_coefficient": 0.5, "hidden_dim": 640, "num_labels": 5},
}


def net_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    family = name.partition(" ")[0]
    config = getattr(transformers, f"{family}Config")(**SETTINGS[name])
    return randomise_(getattr(transformers, f"{family}ForImageClassification")(config)).eval()


def gradients(net: nn.Module, x: Tensor) -> dict[str, Tensor | None]:
    torch.manual_seed(0)
    net.zero_grad(set_to_none=True)
    net(pixel_values=x, labels=torch.arange(len(x)) % 5).loss.backward()
    return {name: p.grad for name, p in net.named_parameters()}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("recompute", ["none", "block"])
@pytest.mark.parametrize("trained", ["", "bias"])
def test_gradients_are_those_of_stock(name, recompute, trained):
    net = net_of(name).double()
    for key, parameter in net.named_parameters():
        parameter.requires_grad_(key.endswith(trained) or "classifier" in key)
    x = torch.randn(5, 3, 64, 64, dtype=torch.float64)
    for slice_mib in (0.02, 50):
        lean = converted(net, recompute=recompute, slice_mib=slice_mib)
        assert_same_gradients(gradients(lean, x), gradients(net, x), 1e-10)


def test_stochastic_depth_is_drawn_again():
    net = net_of("ConvNext").double()
    lean = copy.deepcopy(net)
    make_memory_efficient_(lean, Execution(recompute="block", slice_mib=50))
    assert any(isinstance(module, LeanSamplewise) for module in lean.modules())
    x = torch.randn(5, 3, 64, 64, dtype=torch.float64)
    gradients(lean, x)  # measures each block, once
    assert_same_gradients(gradients(lean.train(), x), gradients(net.train(), x), 1e-10)


@pytest.mark.parametrize("name", SETTINGS)
def test_under_autocast_gradients_are_as_near_as_those_of_stock(name):
    net = net_of(name)
    lean = converted(net)
    x = torch.randn(4, 3, 64, 64)
    truth = gradients(copy.deepcopy(net).double(), x.double())
    found = []
    for one in (net, lean):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found.append(gradients(one, x))
    wanted = [key for key, grad in truth.items() if grad is not None]
    exact = torch.cat([truth[key].flatten() for key in wanted])
    stock, mine = (torch.cat([grads[key].flatten() for key in wanted]).double() for grads in found)
    assert (mine - exact).norm() <= 1.5 * (stock - exact).norm() + 1e-3 * exact.norm()
