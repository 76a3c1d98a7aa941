"""The checkpoint for any function; see `checkpointing`."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from tinytl.gradient_checkpoints.recompute import (
    KeepStatistics,
    Surroundings,
    name,
    owner,
    wants_gradient,
    warn_no_gradient,
)

_BEFORE = 2
"""Arguments of CheckpointFunction before the tensors."""


class CheckpointFunction(torch.autograd.Function):
    """A checkpoint for any function: `CheckpointFunction.apply(run_function, length, *args)`.

    The first `length` of `args` are the arguments of `run_function`, tensors or not. The rest are other
    tensors that it uses and whose gradients are needed; parameters of a module, or of a bound method's
    module, are found if they are not given. It returns a tensor, or a tuple that may contain None, numbers
    and integer tensors. It may edit its inputs in place, because it gets copies.

    Backward recomputes it from the same inputs, random numbers and autocast; batch norms of its module keep
    their running statistics. If no gradient is needed, it runs without a checkpoint and warns once.

    Raises:
        ValueError: for a `length` outside of `args`.
        TypeError: for a `length` that is no number, and for tensors inside of lists or dictionaries, whose
            gradients would be lost.
        RuntimeError: in a second backward without `retain_graph`, under `create_graph`, and if a tensor was
            changed between forward and backward.

    Source: the function of this name in OpenAI's guided-diffusion; Chen et al. 2016.
    """

    @classmethod
    def apply(cls, run_function: Callable[..., Any], length: int, *args: Any) -> Any:
        """Returns the result of `run_function(*args[:length])`."""
        if not isinstance(length, int):
            raise TypeError(
                f"length is a {type(length).__name__}: it is the number of the inputs that follow it, as in "
                "CheckpointFunction.apply(run_function, 1, x)"
            )
        if not 0 <= length <= len(args):
            raise ValueError(f"length={length} is not within the {len(args)} arguments: count the inputs")
        if not torch.is_grad_enabled():
            return run_function(*args[:length])
        module = owner(run_function)
        if module is not None:
            args += tuple(module.parameters())
        _refuse_nested(args, "takes")
        if not wants_gradient(args):
            warn_no_gradient(run_function)
            return run_function(*args[:length])
        return super().apply(run_function, length, *args)

    @staticmethod
    def forward(ctx: Any, run_function: Callable[..., Any], length: int, *args: Any) -> Any:
        """Runs without a graph; keeps the inputs, and what recomputing needs."""
        ctx.run_function, ctx.ran_backward = run_function, False
        ctx.surroundings = Surroundings(arg for arg in args if isinstance(arg, Tensor))
        copies = [arg.clone() if isinstance(arg, Tensor) else arg for arg in args[:length]]
        outputs = run_function(*copies)
        _refuse_nested(outputs if isinstance(outputs, tuple) else (outputs,), "returned")
        ctx.edited = [isinstance(copy, Tensor) and copy._version > 0 for copy in copies]
        ctx.save_for_backward(*(arg for arg in args[:length] if isinstance(arg, Tensor)))
        ctx.inputs = [None if isinstance(arg, Tensor) else arg for arg in args[:length]]
        ctx.is_tensor = [isinstance(arg, Tensor) for arg in args[:length]]
        # Not saved: hooks on saved tensors may return copies, and gradients are needed for exactly these
        # tensors.
        ctx.parameters = args[length:]
        ctx.versions = _versions(ctx.parameters)
        ctx.set_materialize_grads(False)
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """Recomputes with a graph, and returns the gradient of every argument that needs one."""
        # torch's `once_differentiable` returns zero for gradients of gradients if `grads` need none.
        if torch.is_grad_enabled():
            raise RuntimeError(
                f"the checkpoint at {name(ctx.run_function)} has no gradient of its gradient: leave out "
                "create_graph=True, or use checkpoint_segment, which has"
            )
        try:
            saved = iter(ctx.saved_tensors)
        except RuntimeError as error:
            if not ctx.ran_backward:
                raise
            raise RuntimeError(
                f"the checkpoint at {name(ctx.run_function)} has been through backward and its inputs are "
                "gone: run forward again, or give the first backward retain_graph=True"
            ) from error
        ctx.ran_backward = True
        if _versions(ctx.parameters) != ctx.versions:
            raise RuntimeError(
                f"a parameter of the checkpoint at {name(ctx.run_function)} changed between forward and "
                "backward, which would run it with other values: step the optimiser after backward"
            )
        wants = ctx.needs_input_grad[_BEFORE:]
        inputs = [
            next(saved).detach().requires_grad_(want) if is_tensor else kept
            for kept, is_tensor, want in zip(ctx.inputs, ctx.is_tensor, wants, strict=False)
        ]
        with torch.enable_grad(), ctx.surroundings.restored(), KeepStatistics(owner(ctx.run_function)):
            # A tensor that needs a gradient cannot be edited in place; its copy can.
            copies = [x.clone() if edit else x for x, edit in zip(inputs, ctx.edited, strict=True)]
            outputs = ctx.run_function(*copies)
        return None, None, *_gradients(outputs, grads, [*inputs, *ctx.parameters], wants)


def _gradients(
    outputs: Any, grads: tuple[Tensor | None, ...], args: list[Any], wants: tuple[bool, ...]
) -> list[Tensor | None]:
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    pairs = [
        (output, grad)
        for output, grad in zip(outputs, grads, strict=True)
        if grad is not None and output.requires_grad
    ]
    # A tensor given twice would get its whole gradient twice.
    targets = {
        id(arg): (index, arg) for index, (arg, want) in enumerate(zip(args, wants, strict=True)) if want
    }
    result: list[Tensor | None] = [None] * len(args)
    if pairs and targets:
        indices, tensors = zip(*targets.values(), strict=True)
        made = torch.autograd.grad(
            [output for output, _ in pairs], tensors, [grad for _, grad in pairs], allow_unused=True
        )
        for index, grad in zip(indices, made, strict=True):
            result[index] = grad
    return result


def _versions(tensors: Any) -> list[int]:
    return [tensor._version for tensor in tensors if isinstance(tensor, Tensor)]


def _refuse_nested(values: tuple[Any, ...], does: str) -> None:
    for value in values:
        if not isinstance(value, Tensor) and any(isinstance(leaf, Tensor) for leaf in tree_leaves(value)):
            raise TypeError(
                f"a checkpointed function {does} tensors inside of a {type(value).__name__}, where gradients "
                "would be lost: pass and return tensors, or one tuple of them"
            )
