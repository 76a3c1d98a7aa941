"""Results as text for the terminal. Imports neither torch nor ray."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from tinytl.config.names import METRICS
from tinytl.plural import counted
from tuner.record.confirmed import ConfirmedResult
from tuner.record.reading import StudyReading
from tuner.record.trials import Trial, known, metric_shared

if TYPE_CHECKING:
    from tuner.findings.importance import Importance

SHARES_SHOWN = 4
LEAST_SHARE = 0.02
"""A parameter with a smaller share is not named."""
LONGEST_VALUE = 60
"""Characters of a value that a list shows."""


def front_table(front: Sequence[Trial], width: int | None = None) -> Table:
    """Returns the front as a table: accuracy, memory in MiB, slowdown, seconds per epoch, and what differs.

    Memory and slowdown are those of one plan; a trial was trained, and its epochs timed, with a faster one.
    The measured slowdown stands in brackets.

    One line per trial, cut off at the terminal's width: names first, then numbers. What all have in common is
    below. If the front was trained again, accuracy is the mean over seeds. Accuracy on the test images has a
    column if there is any.

    `width`: of the terminal, in characters. If the figures do not fit, the beginning that all names share is
    left out, then the errors of test, then the columns in `_LESS_NEEDED`; the caption names these.
    """
    shared = shared_params(front)
    columns, notes = _fitting(_front_columns(front), width)
    if shared:
        notes.append(f"All have {describe(shared)}.")
    table = Table(title="Pareto front", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.caption, table.caption_justify = " ".join(notes) or None, "left"
    for title in columns:
        table.add_column(title, justify="left" if title == _NAME else "right", no_wrap=True)
    table.add_column("configuration")
    for index, result in enumerate(front):
        # If space is short, rich narrows the columns that may wrap: only this one.
        text = Text(_configuration(result, shared), no_wrap=True, overflow="ellipsis")
        table.add_row(*(cells[index] for cells in columns.values()), text)
    return table


_NAME, _TEST = "trial", "test"
_LESS_NEEDED = ("epoch s", "slowdown", "seeds")
"""Columns that a narrow terminal does without, in this order."""
_LEAST_CONFIGURATION = 14
"""Characters that the last column needs to say anything."""
_GAP = 3
"""Characters between two columns."""


def _front_columns(front: Sequence[Trial]) -> dict[str, list[str]]:
    """Returns the columns of the front's table by title, but for the last one."""
    columns = {
        _NAME: [trial.name for trial in front],
        METRICS[metric_shared(front)]: [accuracy_text(trial).partition(" (")[0] for trial in front],
    }
    if any(trial.confirmed is not None for trial in front):
        columns["seeds"] = ["1" if t.confirmed is None else over_seeds(t.confirmed) for t in front]
    if any(known(trial.test_score) is not None for trial in front):
        columns[_TEST] = [test_text(trial) or "-" for trial in front]
    columns["peak MiB"] = [f"{trial.peak_memory_mib:.1f}" for trial in front]
    if any(trial.curve for trial in front):
        columns["slowdown"] = [slowdown_text(trial) for trial in front]
    return columns | {"epoch s": [epoch_text(trial) for trial in front]}


def _fitting(columns: dict[str, list[str]], width: int | None) -> tuple[dict[str, list[str]], list[str]]:
    """Returns the columns that fit a width, and lines that say what was left out."""

    def fits() -> bool:
        widths = (max(map(len, [title, *cells])) + _GAP for title, cells in columns.items())
        return width is None or sum(widths) + _LEAST_CONFIGURATION <= width

    columns, notes, left_out = dict(columns), [], []
    beginning, *others = {name.rpartition("-")[0] for name in columns[_NAME]} or {""}
    if not fits() and beginning and not others:
        columns[_NAME] = [f"…{name.removeprefix(beginning)}" for name in columns[_NAME]]
        notes.append(f"… stands for {beginning}.")
    if not fits() and _TEST in columns:
        columns[_TEST] = [cell.partition(" ")[0] for cell in columns[_TEST]]
    for title in _LESS_NEEDED:
        if not fits() and columns.pop(title, None) is not None:
            left_out.append(title)
    if left_out:
        notes.append(f"Left out, for width: {', '.join(left_out)}.")
    return columns, notes


def _configuration(trial: Trial, shared: Mapping[str, Any]) -> str:
    own = {key: value for key, value in trial.params.items() if key not in shared}
    names = [shortened(value) for value in own.values() if isinstance(value, str)]
    numbers = describe({key: value for key, value in own.items() if not isinstance(value, str)})
    return ", ".join(filter(None, [trial.baseline, *names, numbers]))


def metric_axis(metric: str) -> str:
    """Returns the title of an axis of a study's metric."""
    return f"validation {METRICS[metric]}" + (", top-1" if metric == "accuracy_top1" else "")


def capitalized(words: str) -> str:
    """Returns words with their first letter large, the others as they are: `Macro F1`."""
    return words[:1].upper() + words[1:]


def epoch_text(trial: Trial) -> str:
    """Returns a trial's seconds per epoch; `-` if it computed no epoch whole, but read stored features."""
    seconds = known(trial.epoch_time_s)
    return "-" if seconds is None else f"{seconds:.1f}"


def slowdown_text(trial: Trial) -> str:
    """Returns the predicted slowdown of a trial's plan and, if there is one, the measured: `1.80 (1.74)`."""
    measured = known(trial.measured_slowdown)
    predicted = "-" if trial.plan is None else f"{trial.slowdown:.2f}"
    return predicted if measured is None else f"{predicted} ({measured:.2f})"


def shared_params(front: Sequence[Trial]) -> dict[str, Any]:
    """Returns the parameters that every row has with the same value; none if there is one row."""
    if len(front) < 2:
        return {}
    first = front[0].params
    return {
        key: value
        for key, value in first.items()
        if all(key in r.params and r.params[key] == value for r in front)
    }


def over_seeds(confirmed: ConfirmedResult) -> str:
    """Returns the number of seeds, and of those that failed: `3`, `3, 1 failed`."""
    return f"{confirmed.seeds}" + (f", {len(confirmed.failures)} failed" if confirmed.failures else "")


def accuracy_text(trial: Trial) -> str:
    """Returns a trial's accuracy, or its study's other metric, with its standard error if that is known.

    The mean over seeds, and their number, if it was trained again.
    """
    error = known(trial.error_over_seeds)
    spread = "" if error is None else f" ± {error:.3f}"
    if trial.confirmed is None:
        return f"{trial.score:.3f}{spread}"
    seeds, _, failed = over_seeds(trial.confirmed).partition(", ")
    n_seeds = counted(int(seeds), "seed") + (failed and f", {failed}")
    return f"{trial.confirmed.mean:.3f}{spread} ({n_seeds})"


def test_text(trial: Trial) -> str | None:
    """Returns a trial's metric on the test images, with its standard error if that is known."""
    score, error = known(trial.test_score), known(trial.test_standard_error)
    if score is None:
        return None
    return f"{score:.3f}" if error is None else f"{score:.3f} ± {error:.3f}"


def counts_line(study: StudyReading) -> str:
    """Returns the numbers of trials by state that are not zero, of those requested; infeasible ones apart."""
    counts = dict(study.counts)
    infeasible = counts.pop("infeasible")
    trials = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    line = f"{study.name}: {trials or 'no trials'} (of {study.requested} requested)"
    return f"{line}; {infeasible} more infeasible, not counted" if infeasible else line


def hypervolume_line(study: StudyReading) -> str | None:
    """Returns the front's hypervolume and what it is measured from."""
    volume = study.hypervolume
    if volume is None:
        return None
    source = "the largest seen" if study.budget_mib is None else "the budget"
    return (
        f"Hypervolume {volume.fraction:.3f} of 1 "
        f"(reference: {METRICS[study.metric]} 0 in {volume.reference_mib:.1f} MiB, {source})"
    )


def spread(front: Sequence[Trial], count: int) -> list[Trial]:
    """Returns at most `count` (2 or more) of a front, from one end to the other."""
    if len(front) <= count:
        return list(front)
    return [front[round(index * (len(front) - 1) / (count - 1))] for index in range(count)]


def importance_line(objective: str, importance: "Importance") -> str:
    """Returns the parameters that decide an objective most, with their shares and how sure those are."""
    shares, spread = importance
    shown = [
        f"{name} {share * 100:.0f} ± {spread[name] * 100:.0f} %"
        for name, share in shares.items()
        if share >= LEAST_SHARE
    ][:SHARES_SHOWN]
    return f"{objective} depends on {', '.join(shown) or 'none of the parameters'}"


def describe(params: Mapping[str, Any]) -> str:
    """Returns parameters with their values in one line."""
    return ", ".join(f"{key} {short(value)}" for key, value in params.items())


def point_name(trial: Trial, trials: Sequence[Trial]) -> str:
    """Returns what stands beside a trial's dot: its baseline, else its method, under its network if `trials`
    have several.
    """
    if trial.baseline is not None:
        return trial.baseline
    method = str(trial.params.get("method", ""))
    networks = {one.params.get("backbone") for one in trials}
    network = str(trial.params.get("backbone", "")).rpartition("/")[2] if len(networks) > 1 else ""
    return "\n".join(filter(None, (network, method)))


def short(value: Any) -> str:
    """Returns a parameter's value as a reader would write it."""
    if value is None:
        return "none"
    return f"{value:.2g}" if isinstance(value, float) else shortened(str(value))


def shortened(text: str) -> str:
    """Returns the beginning of a text that is too long for a list: an `update_scheme` has thousands of
    characters.
    """
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"
