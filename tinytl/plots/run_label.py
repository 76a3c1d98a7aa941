"""Names of runs in a figure: the fields in which they differ, and those that they share."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tinytl.config.flat import with_defaults
from tinytl.config.plan import PLANNED_FIELDS
from tinytl.runs.record import RunRecord

SAY_THEMSELVES = ("dataset", "backbone", "method", "norm", "optimizer")
"""Fields whose value needs no name beside it."""
TITLE_FIELDS = ("dataset", "backbone", "method", "norm", "resolution", "batch_size")
MOST_CHARACTERS = 96
"""Characters that fit in a line of a legend."""


def differing_fields(configs: Sequence[Mapping[str, Any]], without: Sequence[str] = ()) -> list[str]:
    """Returns the fields in which `configs` differ, the method first.

    A field that a configuration lacks (an older run) counts as its default. A field that only a plan sets is
    named only if configurations differ in nothing else.
    """
    filled = [with_defaults(config) for config in configs]
    names = [name for name in dict.fromkeys(name for config in filled for name in config)]
    differ = [
        name
        for name in names
        if name not in without and len({repr(config.get(name)) for config in filled}) > 1
    ]
    differ.sort(key=lambda name: name != "method")
    chosen = [name for name in differ if name not in PLANNED_FIELDS]
    if _distinct(filled, chosen) < _distinct(filled, differ):
        return differ
    return chosen


def run_labels(runs: Sequence[RunRecord]) -> list[str]:
    """Returns a name for each run, all different: the fields in which runs differ, or its folder."""
    fields = differing_fields([run.config for run in runs if run.config])
    labels = [describe(run.config, fields) if run.config else "" for run in runs]
    folders = _folder_names([run.folder for run in runs])
    times = Counter(labels)
    named = [
        label if label and times[label] == 1 else f"{label} ({folder})" if label else folder
        for label, folder in zip(labels, folders, strict=True)
    ]
    short = [shorten(label) for label in named]
    again = Counter(short)
    return [f"{label} #{n}" if again[label] > 1 else label for n, label in enumerate(short, 1)]


def describe(config: Mapping[str, Any], fields: Sequence[str]) -> str:
    """Returns `fields` of a configuration in words: `TinyTL-B, seed 1`."""
    filled = with_defaults(config)
    return ", ".join(
        str(filled.get(name)) if name in SAY_THEMSELVES else f"{name} {_value_text(filled.get(name))}"
        for name in fields
    )


def shared_title(configs: Sequence[Mapping[str, Any]]) -> str:
    """Returns in words what all known configurations have in common, of the fields that matter most."""
    known = [with_defaults(config) for config in configs if config]
    if not known:
        return ""
    differ = differing_fields(known)
    first = known[0]
    units = {"resolution": "{} px", "batch_size": "batch {}"}
    return ", ".join(units.get(name, "{}").format(first[name]) for name in TITLE_FIELDS if name not in differ)


def shorten(text: str, most: int = MOST_CHARACTERS) -> str:
    """Returns `text` with its middle left out if it is longer than `most` characters."""
    if len(text) <= most:
        return text
    tail = most // 2
    return f"{text[: most - tail - 1]}…{text[-tail:]}"


def _distinct(configs: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> int:
    return len({tuple(repr(config.get(name)) for name in fields) for config in configs})


def _value_text(value: Any) -> str:
    if value is None:
        return "unset"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _folder_names(folders: Sequence[Path]) -> list[str]:
    """Returns for each folder the shortest end of its path that no other ends in."""
    parts = [folder.resolve().parts for folder in folders]
    return [str(Path(*_shortest_end(own, [p for p in parts if p != own]))) for own in parts]


def _shortest_end(own: tuple[str, ...], others: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    for length in range(1, len(own)):
        if all(other[-length:] != own[-length:] for other in others):
            return own[-length:]
    return own
