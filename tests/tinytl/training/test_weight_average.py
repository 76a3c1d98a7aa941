import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.cases import small
from tinytl.build import build_model
from tinytl.training.weight_average import WeightAverage


def _net() -> nn.Module:
    """A layer that trains, a frozen one, and a norm with statistics."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.BatchNorm1d(4))
    net[1].requires_grad_(False)
    return net


def _average(net: nn.Module, decay: float, norm: str = "batch_norm") -> WeightAverage:
    return WeightAverage(net, small(weight_average=decay, norm=norm))


@torch.no_grad()
def _walk(net: nn.Module, average: WeightAverage, n_steps: int) -> list[Tensor]:
    """Moves what trains, and the statistics; returns the first weight after each step."""
    seen = []
    for _ in range(n_steps):
        for parameter in net.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))
        net.train()(torch.randn(8, 3))
        average.update()
        seen.append(net[0].weight.clone())  # type: ignore[index, union-attr, operator]
    return seen


def test_it_is_the_mean_with_a_decay_that_warms_up() -> None:
    net = _net()
    average, expected = _average(net, 0.5), net[0].weight.detach().clone()  # type: ignore[index, union-attr, operator]
    for t, weight in enumerate(_walk(net, average, 12)):
        decay = min(0.5, (1 + t) / (10 + t))
        expected = decay * expected + (1 - decay) * weight
    assert (1 + 11) / (10 + 11) > 0.5 > (1 + 2) / (10 + 2)  # both were in use
    assert average.n_updates == 12
    with average.applied():
        torch.testing.assert_close(net[0].weight.detach(), expected)  # type: ignore[index, union-attr]


def test_what_a_run_began_with_is_soon_forgotten() -> None:
    net = _net()
    with torch.no_grad():
        net[0].weight.fill_(1.0)  # type: ignore[index, union-attr, operator]
        average = _average(net, 0.999)
        net[0].weight.zero_()  # type: ignore[index, union-attr, operator]
    for _ in range(30):
        average.update()
    with average.applied():
        assert net[0].weight.detach().max().item() < 1e-8  # type: ignore[index, union-attr, operator]


@pytest.mark.parametrize(("norm", "n_averages"), [("batch_norm", 6), ("frozen_bn", 4)])
def test_what_does_not_change_is_not_copied(norm: str, n_averages: int) -> None:
    net = _net()
    assert len(_average(net, 0.9, norm).tensors) == n_averages
    assert _average(net, 0.0, norm).tensors == []


def test_every_tensor_gets_its_own_memory_back() -> None:
    net = _net()
    average = _average(net, 0.9)
    _walk(net, average, 3)
    before = {name: (value.data_ptr(), value.clone()) for name, value in net.state_dict().items()}
    with pytest.raises(KeyError), average.applied():
        inside = net.state_dict()
        raise KeyError
    changed = {name for name, (_, value) in before.items() if not torch.equal(value, inside[name])}
    assert changed == {"0.weight", "0.bias", "2.weight", "2.bias", "2.running_mean", "2.running_var"}
    for name, value in net.state_dict().items():
        assert value.data_ptr() == before[name][0] and torch.equal(value, before[name][1])


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_both_are_restored_to_the_bit(decay: float) -> None:
    net = _net()
    average = _average(net, decay)
    _walk(net, average, 3)
    file = io.BytesIO()
    with average.applied():
        state: dict[str, Any] = {"net": net.state_dict()}
    torch.save(state | {"average": average.state_dict()}, file)
    state = torch.load(io.BytesIO(file.getvalue()), weights_only=True)

    other = _net()
    resumed = _average(other, decay)
    other.load_state_dict(state["net"])
    resumed.load_state_dict(state["average"])
    for trained, averages in ((net, average), (other, resumed)):
        torch.manual_seed(5)
        _walk(trained, averages, 2)
    assert resumed.n_updates == average.n_updates == (5 if decay else 0)
    for one, same in zip(average.tensors, resumed.tensors, strict=True):
        assert torch.equal(one, same)
    own = other.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in net.state_dict().items())


def test_averages_lie_in_memory_as_their_weights_do() -> None:
    net = build_model(small(method="FT-Full", norm="group_norm")).net
    config = small(method="FT-Full", norm="group_norm", weight_average=0.9)
    strides = [p.stride() for p in net.parameters() if p.requires_grad]
    assert [tensor.stride() for tensor in WeightAverage(net, config).tensors] == strides
