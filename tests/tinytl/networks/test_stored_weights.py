"""What is stored of a frozen weight, what is made of it, and that a part of it trains as stock would."""

import copy
import io
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.cases import small
from tinytl.build import build_model
from tinytl.networks.backbones.inverted_residual import SamePadConv2d
from tinytl.networks.stored_weights import (
    StoredConv2d,
    StoredForm,
    StoredLinear,
    StoredSamePadConv2d,
    StoredWeight,
    store_frozen_weights_,
    stored_form,
    stored_weights,
    train_channels_,
    trained_part,
    whole_weights_,
)
from tinytl.networks.weight_standardization import standardize_weights_

CONVOLUTIONS = {
    "pointwise": lambda: nn.Conv2d(6, 8, 1, bias=False),
    "dense": lambda: nn.Conv2d(6, 8, 3, padding=1),
    "depthwise": lambda: nn.Conv2d(6, 6, 3, 2, padding=1, groups=6, bias=False),
    "padded by size": lambda: SamePadConv2d(6, 8, 3, 2, bias=False),
}


def frozen(name: str) -> nn.Conv2d:
    torch.manual_seed(0)
    return CONVOLUTIONS[name]().requires_grad_(False)


def x() -> Tensor:
    return torch.randn(2, 6, 7, 5, generator=torch.Generator().manual_seed(1))


def largest_of_filters(weight: Tensor) -> Tensor:
    return weight.flatten(1).abs().amax(1).view(-1, *(1,) * (weight.dim() - 1))


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize(("form", "steps"), [("bfloat16", 128), ("int8", 127)])
def test_a_weight_is_off_by_half_a_step_of_its_form(name: str, form: str, steps: int) -> None:
    conv = frozen(name)
    plain, weight, bias = type(conv), conv.weight.clone(), conv.bias
    net = nn.Sequential(conv)
    assert store_frozen_weights_(net, form) == ["0"]
    assert net[0] is conv and isinstance(conv, plain)
    assert conv.weight.dtype is torch.float32 and not conv.weight.requires_grad
    assert ((conv.weight - weight).abs() <= 0.5001 * largest_of_filters(weight) / steps).all()
    assert stored_form(vars(conv)).frozen.dtype is getattr(torch, form)
    assert conv.bias is bias
    # What it computes is what a plain module does with the weight that it makes.
    made = conv.weight.clone()
    twin = frozen(name)
    twin.weight.data = made
    assert torch.equal(conv(x()), twin(x()))


def test_8_bits_reach_the_largest_weight_of_a_filter_exactly_and_leave_zeros() -> None:
    conv = frozen("dense")
    with torch.no_grad():
        conv.weight[2] = 0.0
    largest = largest_of_filters(conv.weight)
    store_frozen_weights_(conv, "int8")
    assert torch.allclose(largest_of_filters(conv.weight), largest, rtol=1e-6)
    assert not conv.weight[2].any()
    assert conv.frozen_weight.min() >= -127


def test_what_trains_and_what_is_float_stays_as_it_is() -> None:
    net = nn.Sequential(frozen("dense"), CONVOLUTIONS["pointwise"](), nn.BatchNorm2d(8), nn.Linear(8, 3))
    net[3].requires_grad_(False)
    keys, weights = list(net.state_dict()), [p for p in net.parameters()]
    assert store_frozen_weights_(net, "float32") == []
    assert list(net.state_dict()) == keys and type(net[0]) is nn.Conv2d
    assert all(one is other for one, other in zip(net.parameters(), weights, strict=True))
    assert store_frozen_weights_(net, "int8") == ["0", "3"]
    assert type(net[1]) is nn.Conv2d and type(net[3]) is StoredLinear
    assert {name for name, p in net.named_parameters() if name.endswith("weight")} == {"1.weight", "2.weight"}
    assert store_frozen_weights_(net, "float32") == ["0", "3"]
    assert list(net.state_dict()) == keys and type(net[0]) is nn.Conv2d
    assert not net[0].weight.requires_grad


@pytest.mark.parametrize("form", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_part_gets_the_gradient_of_its_channels(name: str, contiguous: bool, form: str) -> None:
    conv, net = frozen(name), nn.Sequential()
    if not contiguous:
        conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last)
    before = conv.weight.clone()
    net.append(conv)
    train_channels_(conv, [4, 1])
    assert torch.equal(conv.weight, before)
    store_frozen_weights_(net, form)
    by_hand = conv.weight.detach().clone().requires_grad_()
    twin = frozen(name)
    del twin.weight
    twin.weight = by_hand
    grad = torch.randn_like(twin(x()))
    conv(x()).backward(grad)
    twin(x()).backward(grad)
    dim = 0 if name == "depthwise" else 1
    of_part = by_hand.grad.index_select(dim, torch.tensor([1, 4]))
    assert torch.allclose(conv.weight_part.grad, of_part, rtol=1e-5, atol=1e-6)
    assert torch.equal(conv.weight.index_select(dim, torch.tensor([1, 4])), conv.weight_part)
    assert {name for name, p in conv.named_parameters() if p.requires_grad} == {"weight_part"}


@pytest.mark.parametrize("form", ["float32", "int8"])
def test_other_channels_train_and_what_was_learned_stays(form: str) -> None:
    conv = frozen("dense")
    train_channels_(conv, [0, 3])
    store_frozen_weights_(conv, form)
    part = conv.weight_part
    with torch.no_grad():
        part.add_(0.01)
    learned = conv.weight.detach().clone()
    train_channels_(conv, [3, 5])
    assert conv.weight_part is part  # an optimiser holds it
    tolerance = 0.0 if form == "float32" else 1.01 * learned.abs().max().item() / 127
    assert (conv.weight - learned).abs().max() <= tolerance
    assert torch.equal(conv.weight_part, learned[:, [3, 5]])
    train_channels_(conv, [2])
    assert conv.weight_part is not part and conv.weight_part.shape == (8, 1, 3, 3)
    train_channels_(conv, range(6))
    assert type(conv) is nn.Conv2d and conv.weight.requires_grad
    assert list(dict(conv.named_parameters())) == ["weight", "bias"]


@pytest.mark.parametrize("trains", [True, False])
def test_whole_weights_are_plain_again(trains: bool) -> None:
    net = nn.Sequential(frozen("padded by size"), nn.BatchNorm2d(8))
    keys = list(net.state_dict())
    if trains:
        train_channels_(net[0], [0, 1])
    store_frozen_weights_(net, "int8")
    made = net[0].weight.detach().clone()
    assert whole_weights_(net) == ["0"]
    assert type(net[0]) is SamePadConv2d and list(net.state_dict()) == keys
    assert torch.equal(net[0].weight, made) and net[0].weight.requires_grad == trains
    assert whole_weights_(net) == []


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "torch.save", "state_dict"])
def test_copies_compute_the_same_and_are_of_the_same_class(how: str) -> None:
    net = nn.Sequential(frozen("padded by size"), CONVOLUTIONS["pointwise"]().requires_grad_(False))
    net[1] = nn.Conv2d(8, 4, 1).requires_grad_(False)
    train_channels_(net[1], [2, 7])
    store_frozen_weights_(net, "int8")
    if how == "deepcopy":
        other = copy.deepcopy(net)
    elif how == "pickle":
        other = pickle.loads(pickle.dumps(net))
    elif how == "torch.save":
        file = io.BytesIO()
        torch.save(net, file)
        file.seek(0)
        other = torch.load(file, weights_only=False)
    else:
        torch.manual_seed(5)
        other = nn.Sequential(SamePadConv2d(6, 8, 3, 2, bias=False), nn.Conv2d(8, 4, 1)).requires_grad_(False)
        train_channels_(other[1], [0, 1])  # which channels train is in the state, too
        store_frozen_weights_(other, "int8")
        other.load_state_dict(net.state_dict())
    assert [type(one) for one in other] == [StoredSamePadConv2d, StoredConv2d]
    assert torch.equal(other(x()), net(x()))
    assert other[1].weight_part is not net[1].weight_part


def test_memory_is_that_of_the_form() -> None:
    conv = frozen("dense")
    n = conv.weight.numel()
    store_frozen_weights_(conv, "int8")
    assert sum(tensor.nbytes for tensor in stored_weights(conv)) == n + 8 * 4
    store_frozen_weights_(conv, "bfloat16")
    assert sum(tensor.nbytes for tensor in stored_weights(conv)) == 2 * n
    assert stored_weights(frozen("dense")) == []


def test_a_form_says_what_it_makes() -> None:
    conv = frozen("dense")
    train_channels_(conv, [1])
    form = stored_form(vars(conv))
    assert isinstance(form, StoredForm)
    assert form.shape == (8, 6, 3, 3) and form.frozen.shape == (8, 5, 3, 3)
    assert form.dtype is torch.float32 and not form.scale_is_apart
    store_frozen_weights_(conv, "int8")
    assert not stored_form(vars(conv)).scale_is_apart  # a trained part has no scale
    assert stored_form(vars(conv.double())).dtype is torch.float64
    assert torch.equal(form.whole(trained_part(conv)), form.whole(conv.weight_part))


@pytest.mark.parametrize(
    ("conv", "channels", "what"),
    [
        (nn.Conv2d(4, 4, 1), [], "of a convolution with 4: give some of 0 to 3"),
        (nn.Conv2d(4, 4, 1), [4], r"channels=\[4\] of a convolution with 4"),
        (nn.Conv2d(4, 4, 1), [-1], "of a convolution with 4"),
        (nn.Conv2d(4, 4, 1), [1, 1], "of a convolution with 4"),
        (nn.Conv2d(4, 4, 1, groups=2), [0], "4 channels in 2 groups cannot train in part"),
    ],
)
def test_mistakes(conv: nn.Conv2d, channels: list[int], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        train_channels_(conv, channels)


def test_a_standardised_weight_cannot_train_in_part() -> None:
    conv = nn.Conv2d(4, 4, 3, bias=False)
    standardize_weights_(nn.Sequential(conv))
    with pytest.raises(ValueError, match="a standardised weight cannot train in part"):
        train_channels_(conv, [0])
    conv = nn.Conv2d(4, 4, 3, bias=False)
    train_channels_(conv, [0])
    with pytest.raises(ValueError, match="0: a weight that trains in part cannot be standardised"):
        standardize_weights_(nn.Sequential(conv))


@pytest.mark.parametrize("norm", ["group_norm", "batch_norm"])
def test_frozen_weights_are_standardised_before_they_are_stored(norm: str) -> None:
    nets = []
    for form in ("float32", "int8"):
        torch.manual_seed(0)
        config = small(
            method="TinyTL-B", norm=norm, weight_standardization=True, frozen_weights=form, engine="stock"
        )
        nets.append(build_model(config).net)
    plain, stored = (net.features[0][0].weight for net in nets)
    assert isinstance(nets[1].features[0][0], StoredWeight)
    assert 0 < F.mse_loss(plain, stored) < 1e-4
