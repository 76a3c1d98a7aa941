"""Which module runs now, forward or backward."""

import weakref
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._pytree import tree_leaves
from torch.utils.hooks import RemovableHandle


class RunningModules:
    """The modules that run now, also those that a checkpoint recomputes in backward, inside of `with`.

    A module runs backward from its outputs' gradients to those of its inputs. The hooks that watch them hold
    no tensor: those of torch's `ModuleTracker` keep gradients alive in cycles.
    """

    def __init__(self) -> None:
        self.again: list[str] = []
        """Names of the modules that are being recomputed, outermost first."""
        self._forward: list[str] = []
        self._backward: set[str] = set()
        self._names: weakref.WeakKeyDictionary[nn.Module, str] = weakref.WeakKeyDictionary()
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        self._handles += [
            register_module_forward_pre_hook(self._begin),
            register_module_forward_hook(self._end),
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def place(self) -> str:
        """Returns the innermost module that runs now, and the pass."""
        is_backward = _is_backward()
        names = (self.again[-1:] or self._backward) if is_backward else self._forward
        # Between modules, the network computes the global mean. Outside it are input, loss and optimiser,
        # which allocates little.
        deepest = max(names, key=len) or "global mean" if names else "input or loss"
        return f"{deepest} {'backward' if is_backward else 'forward'}"

    def _begin(self, module: nn.Module, inputs: Any) -> None:
        name = self._name(module)
        if _is_backward():
            self.again.append(name)
            return
        if not self._forward:
            self._backward.clear()
        self._forward.append(name)

    def _end(self, module: nn.Module, inputs: Any, outputs: Any) -> None:
        if _is_backward():
            self.again.pop()
            return
        name = self._forward.pop()
        given, made = _differentiable(inputs), _differentiable(outputs)
        if any(one is other for one in made for other in given):
            return  # nothing runs
        for tensor in made:
            tensor.register_hook(lambda _: self._backward.add(name))
        for tensor in given:
            tensor.register_hook(lambda _: self._backward.discard(name))

    def _name(self, module: nn.Module) -> str:
        """Returns a module's name in the network that was called first; that of the network itself is
        empty.
        """
        if module not in self._names:
            for name, inner in module.named_modules():
                self._names.setdefault(inner, name)
        return self._names[module]


def _is_backward() -> bool:
    return torch._C._current_graph_task_id() != -1


def _differentiable(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor) and leaf.requires_grad]
