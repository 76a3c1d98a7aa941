"""Gradient checkpoints: a segment keeps only its inputs, and is recomputed in backward.

Memory falls from all intermediates of all segments to the inputs of all and the intermediates of one; time
grows by one forward pass. Gradients stay the same: recomputing uses the same random numbers and autocast, and
leaves running statistics alone.
Source: Training Deep Nets with Sublinear Memory Cost, Chen et al. 2016.
"""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any, cast

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

from tinytl.gradient_checkpoints.function import CheckpointFunction
from tinytl.gradient_checkpoints.recompute import KeepStatistics, wants_gradient, warn_no_gradient
from tinytl.networks.backbones.inverted_residual import is_inverted_residual
from tinytl.networks.backbones.sequence import SequenceNet
from tinytl.networks.lite_residual import LiteResidualModule
from tinytl.networks.surgery import replace_modules_, set_class_, with_mixin

__all__ = ["CheckpointFunction", "checkpoint_segment", "insert_checkpoints_"]


class checkpoint_segment(nn.Module):  # noqa: N801 (the user's name for it)
    """A module that runs under `torch.utils.checkpoint`: `checkpoint_segment(module)` is
    `checkpoint_segment.insert_checkpoint(module)`, and `.segment` is the module itself.
    """

    checkpointed_class: type[nn.Module]
    """The class that the module had, stock or lean; its forward runs."""
    checkpoint_quiet = False
    """Does not warn if no gradient is needed."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Returns the module that is given, with a checkpoint; of a class that has one, an instance."""
        return cls.insert_checkpoint(*args, **kwargs) if cls is checkpoint_segment else super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        given = (*args, *kwargs.values())
        if not (len(given) == 1 and given[0] is self):  # else __new__ has returned a module that was there
            super().__init__(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """Returns itself as `segment`, unless the module has something of this name."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "segment":
                return self
            raise

    @staticmethod
    def insert_checkpoint(segment: nn.Module) -> nn.Module:
        """Lets `segment` keep only its inputs for backward, in place, and returns it.

        It stays the same object with a subclass of its class: parameters, `state_dict` keys, `isinstance`,
        copies and pickles are as before, and it may be made lean before or after. If no gradient is recorded
        or needed, it runs without a checkpoint; if none is needed, it also warns once. Inserting twice does
        nothing.

        Raises:
            TypeError: for anything but a module.
            ValueError: for a module with a forward on the instance, which a class cannot change.
        """
        if not isinstance(segment, nn.Module):
            raise TypeError(f"a checkpoint needs an nn.Module, not {type(segment).__name__}: wrap it in one")
        if "forward" in vars(segment):
            raise ValueError(
                f"this {type(segment).__name__} has a forward of its own on the instance, which a checkpoint "
                "would miss: define it in a class"
            )
        set_class_(segment, _checkpointed(class_beneath(segment)))
        return segment

    @staticmethod
    def remove_checkpoint(segment: nn.Module) -> nn.Module:
        """Undoes `insert_checkpoint` in place; returns `segment`."""
        set_class_(segment, class_beneath(segment))
        vars(segment).pop("checkpoint_quiet", None)
        return segment

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the module's own forward, under a checkpoint if a gradient is recorded and needed."""
        if not torch.is_grad_enabled():
            return super().forward(*args, **kwargs)
        if not wants_gradient([*tree_leaves((args, kwargs)), *self.parameters()]):
            if not self.checkpoint_quiet:
                warn_no_gradient(self)
            return super().forward(*args, **kwargs)
        # Recompute to the end: stopping early leaves modules by an exception and skips their trackers' hooks.
        # Fake tensors draw nothing, and torch looks for a generator on a GPU without a number for them.
        draws = not any(isinstance(value, FakeTensor) for value in tree_leaves((args, kwargs)))
        return checkpoint(
            partial(super().forward, **kwargs),
            *args,
            use_reentrant=False,
            early_stop=False,
            preserve_rng_state=draws,
            context_fn=lambda: (nullcontext(), KeepStatistics(self)),
        )

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickles and copies as the class beneath, with the checkpoint."""
        mine: type[nn.Module] = type(self)
        set_class_(self, self.checkpointed_class)
        try:
            make, args, *rest = cast(tuple[Any, ...], self.__reduce_ex__(protocol))
        finally:
            set_class_(self, mine)
        return _restore, (make, args), *rest


def insert_checkpoints_(net: nn.Module) -> list[str]:
    """Puts a checkpoint at every block (inverted residual) of `net`, in place; returns their names.

    With a lite residual, the checkpoint covers block and branch. Blocks in which nothing trains run without a
    checkpoint and without a warning. Needs the least memory if blocks keep full tensors (FT-Full,
    FT-Norm+Last, group norm, the stock engine); lean TinyTL blocks keep little more than their input anyway.
    """

    def quiet(_: str, block: nn.Module) -> nn.Module:
        block = checkpoint_segment.insert_checkpoint(block)
        vars(block)["checkpoint_quiet"] = True
        return block

    named = {f"features.{block.place}" for block in net.blocks} if isinstance(net, SequenceNet) else set()

    def is_block(name: str, module: nn.Module) -> bool:
        return isinstance(module, LiteResidualModule) or name in named or is_inverted_residual(module)

    return replace_modules_(net, is_block, quiet)


def class_beneath(module: nn.Module) -> type[nn.Module]:
    """Returns the class that `module` has without its checkpoint."""
    return module.checkpointed_class if isinstance(module, checkpoint_segment) else type(module)


def set_class_beneath_(module: nn.Module, cls: type[nn.Module]) -> None:
    """Gives `module` another class; a checkpoint stays above it."""
    set_class_(module, _checkpointed(cls) if isinstance(module, checkpoint_segment) else cls)


def _checkpointed(cls: type[nn.Module]) -> type[nn.Module]:
    """Returns the subclass of `cls` with a checkpoint, the same one in every call."""
    stock = getattr(cls, "stock_class", cls)  # `memory_efficient.block.stock.base_class` reads it
    return with_mixin(checkpoint_segment, cls, "Checkpointed", checkpointed_class=cls, stock_class=stock)


def _restore(make: Callable[..., nn.Module], args: tuple[Any, ...]) -> nn.Module:
    segment = make(*args)
    set_class_(segment, _checkpointed(type(segment)))
    return segment
