"""The memory of a training step of any network, predicted on fake tensors: no configuration is needed."""

import copy
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves, tree_map

from tinytl.errors import ConfigError
from tinytl.memory.fake_network import to_fake_
from tinytl.memory.fake_step import NOT_ON_FAKE_TENSORS
from tinytl.memory.light_fake_mode import LightFakeMode
from tinytl.memory.prediction import MemoryPrediction
from tinytl.memory.storage_tracker import StorageTracker
from tinytl.memory_efficient import Execution, make_memory_efficient_
from tinytl.memory_efficient.batch import Batch, call, changed, samples_in, tensors_of
from tinytl.memory_efficient.block.reading import uses_batch_statistics
from tinytl.memory_efficient.block.unit import Recompute

MakeOptimizer: TypeAlias = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
RECOMPUTE: tuple[Recompute, ...] = ("none", "depthwise", "block")
"""The ways to run that `fit_budget` tries, the fastest first."""
MOST = 1 << 16
"""No number from here on is tried by `most_that_fit`."""


def adam(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Returns Adam in one kernel, which needs no memory beside its moments."""
    return torch.optim.Adam(parameters, fused=True)


def summed(output: Any) -> Tensor:
    """Returns the sum of all tensors of an output: a loss that needs no memory of its own.

    Of an output with a `loss`, as transformers' are if the batch has labels, it is that.
    """
    own = getattr(output, "loss", None)
    if isinstance(own, Tensor):
        return own
    total = sum(leaf.float().sum() for leaf in tree_leaves(output) if isinstance(leaf, Tensor))
    assert isinstance(total, Tensor), "the network returns no tensor"
    return total


def predict_step(
    net: nn.Module,
    example: Batch,
    *,
    batch_size: int | None = None,
    beside: int = 0,
    optimizer: MakeOptimizer = adam,
    loss: Callable[[Any], Tensor] = summed,
    autocast: torch.dtype | None = None,
) -> MemoryPrediction:
    """Predicts a later training step of `net`, lean or not, on a CPU: forward, backward, optimiser.

    A copy without memory runs on fake tensors; `net` stays as it is.

    Args:
        net: any module, with its present `requires_grad` and modes.
        example: a batch `(N, ...)`, a tuple of inputs, or a mapping of keyword inputs; shapes, types and
            memory formats count, numbers do not.
        batch_size: N, if not the example's.
        beside: samples of the batch that one update takes, if this is one of its micro-batches: they are in
            memory, and so are gradients, which this pass adds to.
        optimizer: makes the optimiser of the parameters that train. Its state after a step counts.
        loss: of the network's output.
        autocast: the type of `torch.autocast` around forward and loss, None without it.

    Raises:
        ConfigError: if code of `net` reads numbers of tensors, or nothing trains.
    """
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    if not trained:
        raise ConfigError("no parameter of the network needs a gradient: set requires_grad of what trains")
    bare = _without_memory(net)
    mode = LightFakeMode()
    with mode:
        fake = to_fake_(bare, torch.device("cpu"))
        _notes_to_fake_(fake)
        own = [parameter for parameter in fake.parameters() if parameter.requires_grad]
        made = optimizer(own)
        _first_step(made, own)
        n_samples = samples_in(example) if batch_size is None else batch_size
        n_held = max(n_samples, beside)
        held = changed(example, lambda tensor: _like(tensor, n_held, *tensor.shape[1:]), _alike)
        batch = changed(held, lambda tensor: tensor[:n_samples], lambda tensor: tensor)
        tracker = StorageTracker(on_cpu=True, answers=mode.answers)
        tracker.add_state(fake, made, tensors_of(held))
        if beside:
            for parameter in own:
                parameter.grad = torch.empty_like(parameter)
                tracker.add_existing("gradients", [parameter.grad])
        hooks = [parameter.register_post_accumulate_grad_hook(tracker.label_gradient) for parameter in own]
        with tracker.label_step(made), tracker.modules, tracker:
            try:
                with torch.autocast("cpu", autocast, enabled=autocast is not None):
                    value = loss(call(fake, batch))
                tracker.label_saved()
                value.backward()
                made.step()
            except NOT_ON_FAKE_TENSORS as error:
                raise ConfigError(
                    f"{error.func} at {tracker.modules.place()} does not run on fake tensors, so the memory "
                    "cannot be predicted: compute it from shapes, not from values"
                ) from None
            finally:
                for hook in hooks:
                    hook.remove()
        tracker.close()
    return tracker.prediction()


def largest_batch(net: nn.Module, example: Batch, budget_mib: float, **step: Any) -> int:
    """Returns the largest batch, up to 65,535, of which a step fits; `step`: as in `predict_step`.

    Raises:
        ConfigError: if not even a batch of one fits, naming what it needs, or as `predict_step`.
    """

    def predict(n_samples: int) -> MemoryPrediction:
        return predict_step(net, example, batch_size=n_samples, **step)

    smallest = predict(1)
    if smallest.peak_mib > budget_mib:
        raise ConfigError(
            f"budget_mib={budget_mib:g} is under what a batch of 1 needs: {smallest.peak_mib:.1f} MiB "
            f"{smallest.what_sets_it()}"
        )
    return most_that_fit(lambda n_samples: predict(n_samples).peak_mib <= budget_mib, 1)


def most_that_fit(fits: Callable[[int], bool], fewest: int) -> int:
    """Returns the largest number, up to 65,535, that `fits`; `fewest` does, and so does every smaller one."""
    low, high = fewest, 2 * fewest
    while high < MOST and fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


class BudgetFit(NamedTuple):
    """How a network's step fits a budget."""

    execution: Execution
    """How the lean engine runs it."""
    micro_batch_size: int
    """Samples of a forward and backward pass; the batch's passes add up their gradients."""
    prediction: MemoryPrediction
    """Of a pass and the optimiser's step."""


def fit_budget(
    net: nn.Module, example: Batch, budget_mib: float, *, whole_in_memory: bool = True, **step: Any
) -> BudgetFit:
    """Makes `net` lean, in place, so that a step on a batch like `example` fits a budget.

    Tries what recomputes less first, and within that larger micro-batches first: half the batch, a quarter,
    down to one sample. With norms that use the batch's statistics the batch stays whole. Gradients are the
    same for all.

    Args:
        net: any module.
        example: the batch that one update takes, as in `predict_step`.
        budget_mib: for the whole step: parameters, gradients, moments and batch included.
        whole_in_memory: False if a loader hands out micro-batches, so that no more than one is in memory.
        step: as in `predict_step`.

    Raises:
        ConfigError: if nothing fits, naming the least, or as `predict_step`; `net` is then lean and
            recomputes everything.
    """
    sizes = [samples_in(example)]
    whole = any(isinstance(norm, _BatchNorm) and uses_batch_statistics(norm) for norm in net.modules())
    while sizes[-1] > 1 and not whole:
        sizes.append(-(-sizes[-1] // 2))
    least: MemoryPrediction | None = None
    for recompute in RECOMPUTE:
        execution = Execution(recompute=recompute)
        make_memory_efficient_(net, execution)
        for size in sizes:
            found = _pass_of(net, example, size, whole_in_memory, step)
            if found.peak_mib <= budget_mib:
                return BudgetFit(execution, size, found)
            least = found if least is None or found.peak_mib < least.peak_mib else least
    assert least is not None
    raise ConfigError(
        f"budget_mib={budget_mib:g} is under the least that a step needs: {least.peak_mib:.1f} MiB "
        f"{least.what_sets_it()}"
    )


def _pass_of(
    net: nn.Module, example: Batch, n_samples: int, whole: bool, step: dict[str, Any]
) -> MemoryPrediction:
    """Returns what a pass of so many samples needs; the `whole` batch may be in memory beside it."""
    n_all = samples_in(example)
    beside = 0 if n_samples == n_all else n_all if whole else n_samples
    return predict_step(net, example, batch_size=n_samples, beside=beside, **step)


def _without_memory(net: nn.Module) -> nn.Module:
    """Returns a copy of `net` whose tensors have no memory, so that copying needs none."""
    memo: dict[int, Any] = {}
    for parameter in net.parameters():
        memo[id(parameter)] = nn.Parameter(
            torch.empty_like(parameter, device="meta"), parameter.requires_grad
        )
    for buffer in net.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    for module in net.modules():
        for noted in tree_leaves(_noted(module)):
            if isinstance(noted, Tensor):
                memo[id(noted)] = torch.empty_like(noted, device="meta", requires_grad=False)
    return copy.deepcopy(net, memo)


def _noted(module: nn.Module) -> dict[str, Any]:
    """Returns what a module has beside parameters, buffers and children: tensors that a forward has noted
    are there, as timm's attention biases.
    """
    return {
        name: value
        for name, value in vars(module).items()
        if name not in ("_parameters", "_buffers", "_modules")
    }


def _notes_to_fake_(net: nn.Module) -> None:
    """Gives noted tensors of the meta device a place on a CPU, inside of a FakeTensorMode."""

    def faked(value: Any) -> Any:
        return _alike(value) if isinstance(value, Tensor) and value.is_meta else value

    for module in net.modules():
        for name, value in _noted(module).items():
            if any(isinstance(leaf, Tensor) for leaf in tree_leaves(value)):
                vars(module)[name] = tree_map(faked, value)


def _like(tensor: Tensor, *shape: int) -> Tensor:
    is_last = tensor.dim() == 4 and not tensor.is_contiguous()
    form = torch.channels_last if is_last else torch.contiguous_format
    return torch.empty(shape, dtype=tensor.dtype, memory_format=form)


def _alike(tensor: Tensor) -> Tensor:
    return _like(tensor, *tensor.shape)


def _first_step(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> None:
    """Takes the step that makes the optimiser's state."""
    for parameter in parameters:
        parameter.grad = torch.empty_like(parameter)
    tracker = StorageTracker(on_cpu=True)
    with tracker.label_step(optimizer), tracker:
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
