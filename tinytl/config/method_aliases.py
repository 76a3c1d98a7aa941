"""Names under which a method may be given beside its own; a configuration holds the method's own name."""

from collections.abc import Mapping
from typing import Any

from tinytl.config.train_config import METHODS
from tinytl.errors import choose, nearest

METHOD_ALIASES: Mapping[str, Mapping[str, Any]] = {
    "feature-extractor": {"method": "FT-Last"},
    "finetune": {"method": "FT-Full"},
    "norm+last": {"method": "FT-Norm+Last"},
    "bias": {"method": "TinyTL-B"},
    "low": {"method": "Last-5"},
    "deep": {"method": "FT-Full", "lr_ratio.late": 0.6, "lr_ratio.early": 0.4},
}
"""Each alias, with the fields that it stands for; fields that are given beside it stay as given."""
AS_GOOD_AS_SPELLED = 0.8
"""How alike a word must be to an alias, 0 to 1, to have the aliases suggested: `lora` is not `low`."""


def choose_method(value: str) -> str:
    """Returns the method or the alias that `value` means, without regard to case.

    Raises:
        ConfigError: naming all methods by their own names; an alias only if it is as good as spelled.
    """
    alias = nearest(value, METHOD_ALIASES, cutoff=AS_GOOD_AS_SPELLED)
    return choose("method", value, METHODS if alias is None else (*METHODS, *METHOD_ALIASES))


def own_name(value: str) -> str:
    """Returns the method's own name, but an alias that stands for more than a method as it is.

    Raises:
        ConfigError: for a method that is unknown.
    """
    name = choose_method(value)
    fields = METHOD_ALIASES.get(name, {"method": name})
    return str(fields["method"]) if len(fields) == 1 else name


def expand_method(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a flat configuration with what an alias of its `method` stands for.

    Raises:
        ConfigError: for a method that is unknown.
    """
    if "method" not in flat:
        return dict(flat)
    name = choose_method(flat["method"])
    fields = METHOD_ALIASES.get(name, {"method": name})
    return {**fields, **flat, "method": fields["method"]}


def alias_note(value: str) -> str | None:
    """Returns the sentence that says what `value` stands for, None where it is a method's own name."""
    fields = METHOD_ALIASES.get(choose_method(value))
    if fields is None:
        return None
    ratios = [f"{name}={ratio:g}" for name, ratio in fields.items() if name != "method"]
    besides = f" with {' and '.join(ratios)}, where these are not given" if ratios else ""
    return f"method {value} stands for {fields['method']}{besides}"
