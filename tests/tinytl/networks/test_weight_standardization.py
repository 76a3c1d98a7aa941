import pytest
import torch
from torch import Tensor, nn

from tests.support.cases import small
from tinytl.build import build_model
from tinytl.memory_efficient.block.stock import base_class
from tinytl.networks.backbones.inverted_residual import SamePadConv2d
from tinytl.networks.weight_standardization import (
    WS_EPS,
    WeightStandardizedConv2d,
    WeightStandardizedSamePadConv2d,
    standardize_weights_,
    standardized,
)


def _by_hand(weight: Tensor) -> Tensor:
    """One filter after the other, by the paper's formula with the reference's unbiased deviation."""
    filters = []
    for one in weight:
        taps = [float(tap) for tap in one.flatten()]
        mean = sum(taps) / len(taps)
        std = (sum((tap - mean) ** 2 for tap in taps) / (len(taps) - 1)) ** 0.5
        filters.append([(tap - mean) / (std + WS_EPS) for tap in taps])
    return torch.tensor(filters, dtype=weight.dtype).view_as(weight)


def test_filters_have_mean_0_and_deviation_1() -> None:
    weight = torch.randn(4, 3, 3, 3, dtype=torch.float64) * 5 + 2
    assert torch.allclose(standardized(weight), _by_hand(weight), rtol=1e-12, atol=1e-12)


def test_twice_is_once_within_eps() -> None:
    weight = torch.randn(4, 3, 3, 3, dtype=torch.float64)
    once = standardized(weight)
    assert torch.allclose(standardized(once), once, rtol=3 * WS_EPS, atol=0)


def test_a_filter_of_one_value_becomes_zero_and_gets_a_gradient() -> None:
    weight = torch.ones(2, 3, 1, 1, requires_grad=True)
    assert not standardized(weight).any()
    standardized(weight).sum().backward()
    assert weight.grad is not None and weight.grad.isfinite().all()


@pytest.mark.parametrize("cls", [nn.Conv2d, SamePadConv2d])
@pytest.mark.parametrize("trains", [True, False])
def test_a_convolution_of_the_standardised_weight(cls: type[nn.Conv2d], trains: bool) -> None:
    conv = cls(4, 6, 3, 2, groups=2, bias=False).double()
    plain = cls(4, 6, 3, 2, groups=2, bias=False).double()
    plain.weight.data = _by_hand(conv.weight.data)
    before = conv.weight.detach().clone()
    conv.weight.requires_grad_(trains)
    net = nn.Sequential(conv)
    assert standardize_weights_(net) == ["0"]
    assert net[0] is conv and isinstance(conv, cls)
    x = torch.randn(2, 4, 8, 7, dtype=torch.float64)
    assert torch.allclose(net(x), plain(x), rtol=1e-12, atol=1e-12)
    expected = {
        (nn.Conv2d, True): WeightStandardizedConv2d,
        (SamePadConv2d, True): WeightStandardizedSamePadConv2d,
    }
    assert type(conv) is expected.get((cls, trains), cls)
    assert torch.allclose(conv.weight, before if trains else plain.weight, rtol=1e-12, atol=1e-12)


def test_what_no_norm_follows_and_what_has_one_tap_stays() -> None:
    net = nn.Sequential(
        nn.Conv2d(4, 4, 1, bias=True), nn.Conv2d(4, 4, 1, groups=4, bias=False), nn.Linear(4, 4)
    )
    before = [p.detach().clone() for p in net.parameters()]
    assert standardize_weights_(net) == []
    assert all(torch.equal(p, b) for p, b in zip(net.parameters(), before, strict=True))


@pytest.mark.parametrize("engine", ["stock", "lean"])
@pytest.mark.parametrize(
    ("method", "trains"),
    [
        ("FT-Full", lambda name: True),
        ("FT-Norm+Last", lambda name: False),
        ("TinyTL-L+B", lambda name: ".lite_residual." in name),
        ("Last-3", lambda name: int(name.split(".")[1]) >= 16),
    ],
)
def test_every_convolution_of_a_network(method: str, trains, engine: str) -> None:  # type: ignore[no-untyped-def]
    config = small(method=method, norm="group_norm", weight_standardization=True, engine=engine)
    net = build_model(config).net
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            assert issubclass(base_class(module), WeightStandardizedConv2d) == trains(name), name
            weight = standardized(module.weight) if trains(name) else module.weight
            flat = weight.detach().flatten(1)
            assert flat.mean(1).abs().max() < 1e-5
            assert (flat.std(1) - 1).abs().max() < 1e-2


@pytest.mark.parametrize(("method", "other"), [("TinyTL-L+B", "TinyTL-L+B"), ("Last-3", "FT-Full")])
def test_a_state_dict_loads_into_a_net_in_which_the_same_or_more_trains(method: str, other: str) -> None:
    fields = {"norm": "group_norm", "weight_standardization": True, "resolution": 64}
    torch.manual_seed(0)
    net = build_model(small(method=method, **fields)).net.eval()
    again = build_model(small(method=other, **fields)).net.eval()
    again.load_state_dict(net.state_dict())
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = net(x)
        # What is frozen in one and trains in the other is standardised twice; 52 layers enlarge that.
        assert (again(x) - expected).norm() < 0.03 * expected.norm()


def test_off_by_default() -> None:
    net = build_model(small(norm="group_norm", method="FT-Full")).net
    assert not any(isinstance(module, WeightStandardizedConv2d) for module in net.modules())
