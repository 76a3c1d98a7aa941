"""What a network is called with: a tensor, a tuple of inputs, or a mapping of keyword inputs."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

Batch: TypeAlias = Tensor | tuple[Any, ...] | Mapping[str, Any]
"""What is no tensor in it is handed on as it is."""


def call(net: nn.Module, batch: Batch) -> Any:
    """Returns what `net` makes of a batch."""
    if isinstance(batch, Mapping):
        return net(**batch)
    return net(*batch) if isinstance(batch, tuple) else net(batch)


def tensors_of(batch: Batch) -> list[Tensor]:
    """Returns every tensor of a batch.

    Raises:
        TypeError: if there is none.
    """
    leaves = tree_leaves(dict(batch) if isinstance(batch, Mapping) else batch)
    found = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    if not found:
        raise TypeError("a batch is a tensor, or a tuple or a mapping that has one")
    return found


def samples_in(batch: Batch) -> int:
    """Returns the samples of a batch: the length of its first tensor."""
    return len(tensors_of(batch)[0])


def changed(
    batch: Batch, of_samples: Callable[[Tensor], Tensor], of_others: Callable[[Tensor], Tensor]
) -> Batch:
    """Returns a batch of which `of_samples` made each tensor that is as long as the first one.

    `of_others` made the other tensors.
    """
    n = samples_in(batch)

    def change(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        return of_samples(leaf) if leaf.shape[:1] == (n,) else of_others(leaf)

    made: Batch = tree_map(change, dict(batch) if isinstance(batch, Mapping) else batch)
    return made
