import copy
import io
from collections.abc import Callable, Iterable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from tinytl.memory.measure import storage_bytes
from tinytl.memory.storage_tracker import StorageTracker
from tinytl.training.int8_adam import AT_ONCE, CODES, FEWEST_CODED, Int8Adam, is_coded, lay_out_codes_
from tinytl.training.mixed_precision import MixedPrecision

CPU = torch.device("cpu")
Optimizers = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
KINDS = {
    "adam": (Int8Adam, partial(torch.optim.Adam, fused=True)),
    "adamw": (partial(Int8Adam, decoupled=True), partial(torch.optim.AdamW, fused=True)),
}


def _parameters(*shapes: tuple[int, ...], seed: int = 0) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def _set_gradients(parameters: Iterable[nn.Parameter], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters:
        parameter.grad = torch.empty_like(parameter)
        parameter.grad.copy_(0.01 * torch.randn(parameter.shape, generator=generator))


def _trained(build: Optimizers, n_steps: int = 300) -> list[float]:
    """Returns the losses of a network of two layers that learns from a fixed one."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(32, 256), nn.ReLU(), nn.Linear(256, 32))
    teacher = nn.Sequential(nn.Linear(32, 64), nn.Tanh(), nn.Linear(64, 32))
    optimizer, losses = build(net.parameters()), []
    for _ in range(n_steps):
        x = torch.randn(64, 32)
        loss = (net(x) - teacher(x).detach()).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert any(is_coded(state) for state in optimizer.state.values()) == isinstance(optimizer, Int8Adam)
    return losses


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_learns_as_with_moments_of_32_bits(kind: str) -> None:
    ours, torchs = (_trained(partial(build, lr=3e-3, weight_decay=0.01)) for build in KINDS[kind])
    assert torchs[-1] < 0.3 * torchs[0]  # there is something to follow
    for one, other in zip(ours, torchs, strict=True):
        assert one == pytest.approx(other, rel=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_step_and_small_tensors_are_torch_s(kind: str) -> None:
    ours, torchs = KINDS[kind]
    shapes = ((FEWEST_CODED - 1,), (80, 64), (FEWEST_CODED + 100,))
    found = []
    for build in (ours, torchs):
        parameters = _parameters(*shapes)
        # `lr` and `weight_decay` of a group hold for it.
        groups = [{"params": parameters[:2], "lr": 0.1}, {"params": parameters[2:], "weight_decay": 0.0}]
        optimizer = build(groups, lr=0.03, weight_decay=0.5)  # type: ignore[operator]
        moved = []
        for seed in range(3):
            _set_gradients(parameters, seed)
            optimizer.step()
            moved.append([parameter.detach().clone() for parameter in parameters])
        found.append(moved)
    one, other = found
    for a, b in zip(one[0], other[0], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(one, other, strict=True))
    assert not torch.equal(one[2][1], other[2][1])


def test_parameters_without_a_gradient_stay() -> None:
    first, second = _parameters((80, 64), (80, 64))
    optimizer = Int8Adam([first, second], 0.1, weight_decay=0.1)
    _set_gradients([first], 0)
    before = second.detach().clone()
    optimizer.step()
    assert torch.equal(second, before) and second not in optimizer.state


def test_a_closure_gives_the_loss_and_its_gradients() -> None:
    (weight,) = _parameters((80, 64))
    optimizer = Int8Adam([weight], 0.1)

    def closure() -> float:
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss.item()

    first = optimizer.step(closure)
    second = optimizer.step(closure)
    assert first is not None and second is not None and second < first


def test_moments_need_two_bytes_per_number_and_a_step_little_more() -> None:
    (weight,) = _parameters((512, 1024))
    optimizer = Int8Adam([weight])
    _set_gradients([weight], 0)
    optimizer.step()
    state = optimizer.state[weight]
    assert storage_bytes(state.values()) == weight.numel() * 2 + weight.numel() // 256 * 8 + 4
    tracker = StorageTracker()
    assert weight.grad is not None
    held = [weight, weight.grad, *state.values()]
    tracker.add_existing("optimizer", held)
    with tracker:
        optimizer.step()
    above = tracker.prediction().peak_mib * 2**20 - storage_bytes(held)
    at_once = 4 * AT_ONCE["cpu"]
    assert 3 * at_once <= above < 3.1 * at_once < 4 * weight.numel()


def test_a_loaded_state_continues_to_the_same_bits() -> None:
    shapes = ((80, 64), (10,), (5, 1001))
    one, other = _parameters(*shapes), _parameters(*shapes)
    first, second = Int8Adam(one, 0.1), Int8Adam(other, 0.1)
    for seed in range(3):
        _set_gradients(one, seed)
        first.step()
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    with torch.no_grad():
        for ours, theirs in zip(other, one, strict=True):
            ours.copy_(theirs)
    for seed in range(3, 6):
        for parameters, optimizer in ((one, first), (other, second)):
            _set_gradients(parameters, seed)
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    for a, b in zip(first.state.values(), second.state.values(), strict=True):
        assert {n: (v.dtype, v.shape) for n, v in a.items()} == {n: (v.dtype, v.shape) for n, v in b.items()}
        assert all(torch.equal(a[name], b[name]) for name in a)


def _in(form: torch.memory_format) -> nn.Parameter:
    (weight,) = _parameters((32, 16, 3, 3))
    return nn.Parameter(weight.detach().contiguous(memory_format=form))


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_a_gradient_in_another_memory_format_counts_as_it_is(form: torch.memory_format) -> None:
    one, other = _in(form), _in(form)
    moved = []
    for weight in (one, other):
        optimizer = Int8Adam([weight], 0.1)
        for seed in range(3):
            _set_gradients([weight], seed)
            assert weight.grad is not None
            if weight is other:
                weight.grad = weight.grad.transpose(0, 1).contiguous().transpose(0, 1)
            optimizer.step()
        moved.append(weight.detach())
    assert torch.equal(*moved)
    assert one.is_contiguous(memory_format=form)


def test_codes_of_another_memory_format_are_laid_out_as_their_parameter() -> None:
    one, other = _in(torch.channels_last), _in(torch.contiguous_format)
    first, second = Int8Adam([one], 0.01), Int8Adam([other], 0.01)
    for seed in range(5):
        _set_gradients([one], seed)
        first.step()
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    with torch.no_grad():
        other.copy_(one)
    before = one.detach().clone()
    lay_out_codes_(other, second.state[other])
    assert second.state[other]["exp_avg"].stride() == other.stride()
    for weight, optimizer in ((one, first), (other, second)):
        _set_gradients([weight], 5)
        optimizer.step()
    step, of_other = one.detach() - before, other.detach() - before
    assert float((step - of_other).norm()) < 0.04 * float(step.norm())
    codes = second.state[other]["exp_avg"]
    lay_out_codes_(other, second.state[other])
    assert second.state[other]["exp_avg"] is codes


def test_a_rate_may_be_a_tensor() -> None:
    (one,), (other,) = _parameters((80, 64)), _parameters((80, 64))
    first, second = Int8Adam([one], 0.125), Int8Adam([other], torch.tensor(0.125))
    for seed in range(3):
        for weight, optimizer in ((one, first), (other, second)):
            _set_gradients([weight], seed)
            optimizer.step()
    torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


def test_a_step_whose_gradients_overflow_is_left_out() -> None:
    (weight,) = _parameters((80, 64))
    optimizer, precision = Int8Adam([weight], 0.5), MixedPrecision("float16", CPU)
    before = weight.detach().clone()
    moved, codes = [], []
    for factor in (torch.inf, 1.0, torch.inf):
        precision.backward((weight * torch.linspace(0.1, factor, 64)).sum())
        precision.step(optimizer)
        optimizer.zero_grad()
        moved.append(weight.detach() - before)
        codes.append({name: value.clone() for name, value in optimizer.state[weight].items()})
    assert not moved[0].any() and torch.equal(moved[2], moved[1])
    torch.testing.assert_close(moved[1], torch.full_like(before, -0.5), rtol=1e-4, atol=1e-4)
    assert [float(state["step"]) for state in codes] == [0, 1, 1]
    for name in CODES:
        assert torch.equal(codes[1][name], codes[2][name])
        torch.testing.assert_close(codes[1][f"{name}_scale"], codes[2][f"{name}_scale"], rtol=1e-5, atol=0)


def test_a_parameter_with_gaps_is_not_taken() -> None:
    weight = nn.Parameter(torch.randn(80, 128)[:, ::2])
    weight.grad = torch.ones_like(weight)
    with pytest.raises(AssertionError, match="gaps"):
        Int8Adam([weight]).step()


def test_the_same_gradients_give_the_same_bits() -> None:
    def moved() -> Tensor:
        (weight,) = _parameters((100, 77))
        optimizer = Int8Adam([weight], 0.1)
        for seed in range(4):
            _set_gradients([weight], seed)
            optimizer.step()
        return weight.detach()

    assert torch.equal(moved(), moved())
