"""Replacing modules of a network in place, or their classes: the one place where a module's class is set."""

from collections.abc import Callable

from torch import nn


def set_class_(module: nn.Module, cls: type[nn.Module]) -> None:
    """Gives `module` another class with the same attributes: it stays the same object, with its hooks."""
    module.__class__ = cls


def with_mixin(mixin: type[nn.Module], cls: type[nn.Module], name: str, **members: type) -> type[nn.Module]:
    """Returns the subclass of `cls` with `mixin` before it, the same one for the same arguments."""
    key = (mixin, cls, *members.values())
    if key not in _WITH_MIXIN:
        known = {"__module__": mixin.__module__, **members}
        _WITH_MIXIN[key] = type(f"{name}{cls.__name__}", (mixin, cls), known)
    return _WITH_MIXIN[key]


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


_WITH_MIXIN: dict[tuple[type, ...], type[nn.Module]] = {}
