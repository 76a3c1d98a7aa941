"""Replacing modules of a network in place."""

from collections.abc import Callable

from torch import nn


def replace_modules_(
    net: nn.Module,
    filter_fn: Callable[[str, nn.Module], bool],
    replacement_fn: Callable[[str, nn.Module], nn.Module],
) -> list[str]:
    """Replaces every submodule for which `filter_fn(name, module)` is true by `replacement_fn(name, module)`.

    Replaced modules are not searched further. Returns the dotted names replaced, in order.
    """
    replaced: list[str] = []

    def walk(parent: nn.Module, prefix: str) -> None:
        for key, child in list(parent.named_children()):
            name = f"{prefix}{key}"
            if filter_fn(name, child):
                setattr(parent, key, replacement_fn(name, child))
                replaced.append(name)
            else:
                walk(child, f"{name}.")

    walk(net, "")
    return replaced
