"""A state dict with stored weights becomes the one that the network has once its weights are plain."""

import copy

import pytest
import torch
from torch import Tensor, nn

from tinytl.networks.backbones.inverted_residual import SamePadConv2d
from tinytl.networks.stored_state_dict import with_plain_weights
from tinytl.networks.stored_weights import store_frozen_weights_, train_channels_, whole_weights_


def stored_net(form: str) -> nn.Sequential:
    """A part of the first two convolutions trains, the others are frozen."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(6, 8, 1, bias=False),
        nn.Conv2d(8, 8, 3, groups=8),
        SamePadConv2d(8, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.Linear(4, 3),
    )
    net.requires_grad_(False)
    train_channels_(net[0], [4, 1, 0])
    train_channels_(net[1], [7, 2])
    store_frozen_weights_(net, form)
    return net


@pytest.mark.parametrize("form", ["float32", "bfloat16", "int8"])
def test_it_is_that_of_the_network_with_plain_weights(form: str) -> None:
    net = stored_net(form)
    stored = net.state_dict()
    before = copy.deepcopy(stored)
    plain = with_plain_weights(stored)
    assert stored.keys() == before.keys() and all(torch.equal(stored[n], before[n]) for n in before)
    whole_weights_(net)
    expected = net.state_dict()
    assert plain.keys() == expected.keys() != stored.keys()
    for name, tensor in expected.items():
        assert torch.equal(plain[name], tensor) and plain[name].dtype is tensor.dtype, name
    assert not any(tensor.requires_grad for tensor in plain.values())


def test_what_is_not_stored_is_left() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    state = {**net.state_dict(), "other.weight_scale": torch.ones(1)}
    plain = with_plain_weights(state)
    assert list(plain) == list(state) and all(plain[name] is state[name] for name in state)


def without(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {n: tensor for n, tensor in state.items() if n != name}


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("0.weight_scale", None),
        ("0.weight_scale", torch.ones(3)),
        ("0.weight_part", None),
        ("0.weight_part", torch.ones(8, 2, 1, 1)),
        ("1.trained_channels", None),
        ("1.channel_places", None),
        ("1.channel_places", torch.full((8,), 9)),
        ("2.weight_scale", None),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_the_weights_name(name: str, changed: Tensor | None) -> None:
    state = without(stored_net("int8").state_dict(), name)
    if changed is not None:
        state[name] = changed
    with pytest.raises(ValueError, match=rf"^the tensors of {name[0]}\.weight, .* or one is missing"):
        with_plain_weights(state)
