"""What happened to every tensor when weights were loaded, as a line for the user."""

from collections.abc import Sequence
from dataclasses import dataclass

STATISTICS = ("running_mean", "running_var")
COUNTER = "num_batches_tracked"
"""Batch norm's counter of steps. Nothing here reads it, so no account counts it."""
_NAMED = 3
"""This many tensors are named; the rest is counted."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What was loaded from one source."""

    source: str
    """As the user named it."""
    loaded: tuple[str, ...]
    """Names of the tensors that came from it."""
    values: int
    """Numbers in them."""
    dropped: tuple[str, ...]
    """Names that the network does not have."""


@dataclass(frozen=True, kw_only=True)
class LoadAccount:
    """Where a network's tensors came from. Names are those of the backbone, without `main_branch`."""

    backbone: Taken | None
    """None: the backbone is random."""
    lite: Taken | None
    """Pretrained lite residuals."""
    new: tuple[str, ...]
    """Tensors that no source has."""
    hint: str = ""
    """What the configuration may lack for these weights."""

    def __str__(self) -> str:
        parts = [] if self.backbone is not None else ["backbone random"]
        for taken, of in ((self.backbone, ""), (self.lite, " of lite residuals")):
            if taken is not None:
                values = count_text(taken.values)
                parts.append(f"{len(taken.loaded)} tensors{of} ({values} values) from {taken.source}")
        parts.append(f"new: {self._new_text()}")
        for taken, of in ((self.backbone, ""), (self.lite, " of the lite residuals")):
            if taken is not None and taken.dropped:
                parts.append(f"dropped{of}: {_dropped_text(taken.dropped)}")
        if self.backbone and any(map(is_lite, self.backbone.dropped)) and any(map(is_lite, self.new)):
            parts.append(f"lite_weights={self.backbone.source} would load its lite residuals")
        if self.hint:
            parts.append(self.hint)
        return "; ".join(parts)

    def _new_text(self) -> str:
        head = sum(name.startswith("classifier.") for name in self.new)
        lite = sum(is_lite(name) and not is_statistic(name) for name in self.new)
        # Statistics of a new branch count as part of it.
        statistics = sum(is_statistic(n) and (self.lite is not None or not is_lite(n)) for n in self.new)
        lite_text = f", {lite} of lite residuals" if lite else ""
        reset = f", {statistics} running statistics (reset)" if self.backbone and statistics else ""
        return f"{head} of the head{lite_text} (random){reset}"


def count_text(count: int) -> str:
    """Returns a number of values in short form: 2.2 M, 34.1 k, 512."""
    if count >= 1_000_000:
        return f"{count / 1e6:.1f} M"
    return f"{count / 1e3:.1f} k" if count >= 1000 else str(count)


def is_lite(name: str) -> bool:
    """Whether a tensor belongs to a lite residual."""
    return ".lite_residual." in name


def is_statistic(name: str) -> bool:
    """Whether a tensor is one of batch norm's running statistics."""
    return name.endswith(STATISTICS)


def _dropped_text(names: Sequence[str]) -> str:
    """Returns `names` as a few phrases: lite residuals and statistics are counted, others named."""
    lite = sum(is_lite(name) and not is_statistic(name) for name in names)
    statistics = sum(is_statistic(name) for name in names)
    others = [name for name in names if not is_lite(name) and not is_statistic(name)]
    phrases = [f"{lite} of lite residuals"] if lite else []
    phrases += [f"{statistics} running statistics"] if statistics else []
    phrases += others[:_NAMED]
    return ", ".join(phrases) + (f" and {len(others) - _NAMED} more" if len(others) > _NAMED else "")
