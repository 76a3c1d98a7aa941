"""Other names for methods. A configuration always holds the method's own name."""

from collections.abc import Mapping
from typing import Any

from tinytl.config.names import METHODS
from tinytl.errors import choose, nearest

METHOD_ALIASES: Mapping[str, Mapping[str, Any]] = {
    "feature-extractor": {"method": "FT-Last"},
    "finetune": {"method": "FT-Full"},
    "norm+last": {"method": "FT-Norm+Last"},
    "bias": {"method": "TinyTL-B"},
    "low": {"method": "Last-5"},
    "deep": {"method": "FT-Full", "lr_ratio.late": 0.6, "lr_ratio.early": 0.4},
}
"""Each alias with the fields that it stands for. A field that the user gives too keeps the user's value."""
AS_GOOD_AS_SPELLED = 0.8
"""Similarity to an alias, 0 to 1, from which a word has the aliases suggested: `lora` is not `low`."""


def choose_method(value: str) -> str:
    """Returns the method or the alias that `value` means, without regard to case.

    Raises:
        ConfigError: for an unknown one. The message names all methods, and an alias only if `value` nearly
            spells it.
    """
    alias = nearest(value, METHOD_ALIASES, cutoff=AS_GOOD_AS_SPELLED)
    return choose("method", value, METHODS if alias is None else (*METHODS, *METHOD_ALIASES))


def own_name(value: str) -> str:
    """Returns the method's own name. An alias that stands for more than a method is returned unchanged.

    Raises:
        ConfigError: for a method that is unknown.
    """
    name = choose_method(value)
    fields = METHOD_ALIASES.get(name, {"method": name})
    return str(fields["method"]) if len(fields) == 1 else name


def expand_method(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a flat configuration in which an alias of `method` is replaced by the fields it stands for.

    Raises:
        ConfigError: for a method that is unknown.
    """
    if "method" not in flat:
        return dict(flat)
    name = choose_method(flat["method"])
    fields = METHOD_ALIASES.get(name, {"method": name})
    return {**fields, **flat, "method": fields["method"]}


def alias_note(value: str) -> str | None:
    """Returns the sentence that says what `value` stands for, or None if it is a method's own name."""
    fields = METHOD_ALIASES.get(choose_method(value))
    if fields is None:
        return None
    ratios = [f"{name}={ratio:g}" for name, ratio in fields.items() if name != "method"]
    besides = f" with {' and '.join(ratios)}, if these are not given" if ratios else ""
    return f"method {value} stands for {fields['method']}{besides}"
