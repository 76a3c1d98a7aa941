import copy
import functools
import gc
import itertools
import warnings
import weakref

import pytest
import torch
from torch import nn
from torchvision.models import mobilenet_v2

from tinytl.gradient_checkpoints.segment import CheckpointFunction


def block(index=3, norm_training=True):
    torch.manual_seed(0)
    return mobilenet_v2(width_mult=0.5).features[index].double().train(norm_training)


def random(*shape, grad=True):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=grad)


def grads_of(run, *tensors):
    """Output and gradients of `run(*tensors)`, which may want one or not; random numbers start the same."""
    torch.manual_seed(1)
    for tensor in tensors:
        tensor.grad = None
    y = run()
    y = y if isinstance(y, tuple) else (y,)
    torch.rand(())  # something else happens before backward
    sum(one.square().sum() for one in y if torch.is_tensor(one) and one.requires_grad).backward()
    return [*y, *(tensor.grad for tensor in tensors), torch.rand(())]


def assert_same(mine, theirs):
    for one, other in zip(mine, theirs, strict=True):
        if torch.is_tensor(other):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
        else:
            assert one is other or one == other


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("index", [1, 2, 3])
def test_inverted_residuals(index, training):
    stock = block(index, training)
    mine = copy.deepcopy(stock)
    x = random(2, stock.conv[0][0].in_channels, 8, 8)
    # Parameters are found where they are not given.
    for run_function, given in itertools.product(
        (mine, mine.forward, functools.partial(mine)), ((), tuple(mine.parameters()))
    ):
        apply = functools.partial(CheckpointFunction.apply, run_function, 1, x, *given)
        assert_same(
            grads_of(apply, x, *mine.parameters()), grads_of(lambda: stock(x), x, *stock.parameters())
        )
        assert_same(list(mine.buffers()), list(stock.buffers()))
    assert mine.conv[-1].num_batches_tracked == 6 * training


def test_parameters_of_a_closure():
    x, w, b, frozen, unused = (
        random(4, 3), random(3, 3), random(3), random(3, 3, grad=False), random(2),
    )  # fmt: skip

    def run(x):
        return torch.tanh(x @ w + b) @ frozen

    tensors = (x, w, b, frozen, unused)
    mine = grads_of(lambda: CheckpointFunction.apply(run, 1, *tensors), *tensors)
    assert_same(mine, grads_of(lambda: run(x), *tensors))
    # Given twice, counted once; what is computed outside has its gradient passed on.
    mine = grads_of(lambda: CheckpointFunction.apply(run, 1, x, w, w, b), x, w, b)
    assert_same(mine, grads_of(lambda: run(x), x, w, b))

    def doubled(apply):
        twice = 2 * w
        return apply(lambda x: x @ twice, x, twice)

    mine = grads_of(lambda: doubled(lambda f, x, t: CheckpointFunction.apply(f, 1, x, t)), x, w)
    assert_same(mine, grads_of(lambda: doubled(lambda f, x, t: f(x)), x, w))


def test_inputs_and_outputs_of_every_kind():
    x, z, rows = random(4, 3), random(4, 3, grad=False), torch.tensor([0, 2])

    def run(x, scale, z, rows, nothing, same):
        assert nothing is None
        y = (x * scale + z)[rows] + same.sum()
        return y, rows + 1, None, y.detach() * 2, 7, x.argmax(1), x.mean(0)

    args = (x, 3.0, z, rows, None, x)
    mine = grads_of(lambda: tuple(CheckpointFunction.apply(run, 6, *args))[:3], x)
    assert_same(mine, grads_of(lambda: run(*args)[:3], x))
    outputs = CheckpointFunction.apply(run, 6, *args)
    assert [torch.is_tensor(y) and y.requires_grad for y in outputs[:3]] == [True, False, False]
    assert outputs[4] == 7 and not outputs[5].requires_grad
    # A gradient that comes in through what has none is not passed on; one output alone is enough.
    (outputs[3].sum() + outputs[6].sum()).backward()
    torch.testing.assert_close(x.grad - mine[3], torch.full_like(x, 0.25))


def test_no_output_is_differentiable():
    x = random(3)
    CheckpointFunction.apply(lambda x: x.detach() * 2, 1, x).sum().backward()
    assert x.grad is None


def test_inputs_edited_in_place():
    for edit in (lambda x: x.mul_(3).exp(), lambda x: x.relu_(), nn.ReLU(inplace=True)):
        x, other = random(5), random(5)
        before = x.detach().clone()
        mine = grads_of(lambda e=edit, x=x, o=other: CheckpointFunction.apply(e, 1, x * 1) * o, x, other)
        stock = grads_of(lambda e=edit, x=x, o=other: e(x * 1) * o, x, other)
        assert_same(mine, stock)
        CheckpointFunction.apply(edit, 1, x).sum().backward()
        assert torch.equal(x, before)


def test_random_numbers():
    net = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 8), nn.Dropout(0.3)).double()
    x = random(4, 8)
    mine = grads_of(lambda: CheckpointFunction.apply(net, 1, x), x, *net.parameters())
    assert_same(mine, grads_of(lambda: net(x), x, *net.parameters()))


@pytest.mark.parametrize("backward_inside", [False, True])
@pytest.mark.parametrize("cached", [False, True])
def test_autocast(backward_inside, cached):
    net = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16))
    seen, x = [], torch.randn(4, 16, requires_grad=True)

    def run(x):
        seen.append((torch.is_autocast_enabled("cpu"), torch.is_autocast_cache_enabled()))
        return net(net(x))

    results = []
    for apply in (run, lambda x: CheckpointFunction.apply(run, 1, x, *net.parameters())):
        net.zero_grad(set_to_none=True)
        x.grad = None
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=cached):
            y = apply(x)
            assert y.dtype == torch.bfloat16
            if backward_inside:
                y.float().square().sum().backward()
        if not backward_inside:
            y.float().square().sum().backward()
        results.append([x.grad, *(p.grad for p in net.parameters())])
    assert seen == 3 * [(True, cached)] and not torch.is_autocast_enabled("cpu")
    for mine, theirs in zip(*results, strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("forward_casts", [False, True])
def test_autocast_of_backward_is_not_that_of_forward(forward_casts):
    x, w, results = torch.randn(2, 4, requires_grad=True), torch.randn(4, 4, requires_grad=True), []
    run = lambda x: torch.tanh(x @ w)  # noqa: E731
    for apply in (run, lambda x: CheckpointFunction.apply(run, 1, x, w)):
        x.grad = w.grad = None
        with torch.autocast("cpu", torch.bfloat16, enabled=forward_casts):
            y = apply(x)
        with torch.autocast("cpu", torch.bfloat16, enabled=not forward_casts):
            y.sum().backward()
        results.append((x.grad, w.grad))
    for mine, theirs in zip(*results, strict=True):
        assert torch.equal(mine, theirs)


def test_a_second_backward():
    net, x = nn.Linear(4, 4).double(), random(2, 4)
    y = CheckpointFunction.apply(net, 1, x).sum()
    y.backward()
    message = (
        r"^the checkpoint at Linear has been through backward and its inputs are gone: run forward again, or "
        r"give the first backward retain_graph=True$"
    )
    with pytest.raises(RuntimeError, match=message):
        y.backward()
    with pytest.raises(RuntimeError, match="has been through backward"):
        no_tensor_kept = CheckpointFunction.apply(
            lambda n: net(x.detach()) * n, 1, 2, *net.parameters()
        ).sum()
        no_tensor_kept.backward()
        no_tensor_kept.backward()

    y = CheckpointFunction.apply(net, 1, x).sum()
    x.grad = None
    y.backward(retain_graph=True)
    once = x.grad.clone()
    y.backward()
    assert torch.equal(x.grad, 2 * once)


def test_the_gradient_of_a_gradient():
    x = random(3)
    y = CheckpointFunction.apply(lambda x: x.pow(3), 1, x).sum()
    with pytest.raises(RuntimeError, match=r"has no gradient of its gradient: leave out create_graph=True"):
        torch.autograd.grad(y, x, create_graph=True)


def test_changes_between_forward_and_backward():
    x, net = random(2, 4), nn.Linear(4, 4).double()
    y = CheckpointFunction.apply(net, 1, x).sum()
    with torch.no_grad():
        net.bias.add_(1)
    with pytest.raises(RuntimeError, match=r"^a parameter of the checkpoint at Linear changed between"):
        y.backward()
    y = CheckpointFunction.apply(net, 1, x).sum()
    with torch.no_grad():
        x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_nothing_wants_a_gradient():
    net, x = nn.Linear(4, 4).double().requires_grad_(False), random(2, 4, grad=False)
    steps = {"Linear": lambda: CheckpointFunction.apply(net, 1, x)}
    steps["<lambda>"] = lambda: CheckpointFunction.apply(lambda x: x * 2, 1, x)  # a new function in each step
    for name, step in steps.items():
        with pytest.warns(
            UserWarning, match=rf"^the checkpoint at .*{name} does nothing: .*\.* insert"
        ) as seen:
            for _ in range(3):
                assert not step().requires_grad
        assert len(seen) == 1 and "\n" not in str(seen[0].message)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("error")
        assert not CheckpointFunction.apply(nn.Linear(4, 4).double(), 1, x).requires_grad


def test_only_inputs_are_kept():
    alive = []

    def run(x):
        middle = x.exp()
        alive.append(weakref.ref(middle))
        return middle.exp().exp()

    x = random(5)
    y = CheckpointFunction.apply(run, 1, x).sum()
    assert [one() is None for one in alive] == [True]
    assert y.grad_fn.next_functions[0][0].saved_tensors[0] is x
    y.backward()
    gc.collect()
    assert [one() is None for one in alive] == [True, True]


def test_one_inside_of_another_and_of_torchs():
    net, x = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4)).double(), random(2, 4)
    stock = grads_of(lambda: net(x).exp(), x, *net.parameters())

    def inner(x):
        return CheckpointFunction.apply(net, 1, x).exp()

    mine = grads_of(lambda: CheckpointFunction.apply(inner, 1, x, *net.parameters()), x, *net.parameters())
    assert_same(mine, stock)
    mine = grads_of(
        lambda: torch.utils.checkpoint.checkpoint(inner, x, use_reentrant=False), x, *net.parameters()
    )
    assert_same(mine, stock)


def test_mistakes():
    x = random(3)
    for length in (-1, 2):
        with pytest.raises(ValueError, match=rf"^length={length} is not within the 1 arguments"):
            CheckpointFunction.apply(torch.exp, length, x)
    # As the reports' usage line has it.
    with pytest.raises(
        TypeError, match=r"^length is a Tensor: it is the number of the inputs that follow it"
    ):
        CheckpointFunction.apply(torch.exp, x)
    with pytest.raises(TypeError, match=r"^a checkpointed function takes tensors inside of a list"):
        CheckpointFunction.apply(lambda x, more: x, 2, x, [x])
    with pytest.raises(TypeError, match=r"^a checkpointed function returned tensors inside of a dict"):
        CheckpointFunction.apply(lambda x: {"y": x}, 1, x)
