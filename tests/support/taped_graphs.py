"""CUDA graphs without a GPU: a tape of the operations that ran, played again on the tensors that they had.

Like a graph, a tape knows nothing of Python. A number, a branch or a random mask of the recording is in it
for good; what is to change must change in the memory that the recorded operations read. Like a GPU that
records, a tape refuses whatever reads a value, or draws random numbers, in the middle of it.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.support.host_syncs import READS

WARM_UPS = 2
Played = tuple[Any, tuple[Any, ...], dict[str, Any], dict[int, Tensor]]
"""An operation, its arguments, and those of its results that are new memory, by their place."""


class TapedGraphs:
    """Stands in for `tinytl.training.captured_step.CudaGraphs`."""

    def __init__(self) -> None:
        self.tapes: list[Tape] = []
        """In the order in which they were recorded."""

    def warm_up(self, run: Callable[[], object]) -> None:
        for _ in range(WARM_UPS):
            run()

    def capture(self, run: Callable[[], object]) -> Callable[[], object]:
        """Records `run`. Unlike a GPU it has to execute it: what that changed is changed back."""
        tape = Tape()
        with tape:
            run()
        for tensor, values in tape.before:
            tensor.copy_(values)
        self.tapes.append(tape)
        return tape.play


class CalledAgain:
    """Replays by calling what was to be recorded: for fake tensors, and to see what a pass holds."""

    def warm_up(self, run: Callable[[], object]) -> None:
        run()

    def capture(self, run: Callable[[], object]) -> Callable[[], object]:
        return run


class Tape(TorchDispatchMode):
    """The operations that ran while it was active."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Played] = []
        self.before: list[tuple[Tensor, Tensor]] = []
        """Tensors that were there before, and that operations changed, with the values they had."""
        self.plays = 0
        self._made: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in READS or torch.Tag.nondeterministic_seeded in func.tags:
            raise RuntimeError(f"operation not permitted when stream is capturing: {func}\nmore of it")
        given = _tensors((args, kwargs))
        if func._schema.is_mutable:
            self._keep_values(given)
        out = func(*args, **kwargs)
        known = {_storage(tensor) for tensor in given}
        made = {turn: new for turn, new in enumerate(_tensors(out)) if _storage(new) not in known}
        self._made.update(map(_storage, made.values()))
        self.operations.append((func, args, kwargs, made))
        return out

    def play(self) -> None:
        """Runs the operations again, each result into the memory of the recorded one."""
        self.plays += 1
        with torch.no_grad():
            for func, args, kwargs, made in self.operations:
                found = _tensors(func(*args, **kwargs))
                for turn, into in made.items():
                    into.copy_(found[turn])

    def _keep_values(self, tensors: list[Tensor]) -> None:
        known = {_storage(tensor) for tensor, _ in self.before}
        for tensor in tensors:
            if _storage(tensor) not in known | self._made:
                whole = _whole(tensor)  # later operations may change other parts of it
                self.before.append((whole, whole.clone()))
                known.add(_storage(tensor))


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _whole(tensor: Tensor) -> Tensor:
    """Returns all of the memory that a tensor is a part of."""
    n_numbers = tensor.untyped_storage().nbytes() // tensor.itemsize
    return tensor.detach().as_strided((n_numbers,), (1,), 0)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
