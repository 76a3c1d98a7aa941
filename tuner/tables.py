"""Results as text for the terminal. Imports neither torch nor ray."""

from typing import Any

from rich.table import Table

from tuner.results import StudyStatus, TrialResult


def front_table(front: list[TrialResult]) -> Table:
    """Returns the front as a table: accuracy, memory, epoch time, and the parameters that were searched."""
    table = Table(title="Pareto front", title_justify="left")
    table.add_column("trial")
    for title in ("accuracy", "memory MiB", "epoch s"):
        table.add_column(title, justify="right")
    table.add_column("configuration")
    for result in front:
        table.add_row(
            result.trial,
            f"{result.accuracy_top1:.3f}",
            f"{result.peak_memory_mib:.1f}",
            f"{result.epoch_time_s:.1f}",
            ", ".join(f"{key} {short(value)}" for key, value in result.params.items()),
        )
    return table


def counts_line(status: StudyStatus) -> str:
    """Returns the numbers of trials by state that are not zero, of those requested."""
    counts = ", ".join(f"{count} {state}" for state, count in status.trials.items() if count)
    return f"{status.study}: {counts or 'no trials'} (of {status.requested} requested)"


def short(value: Any) -> str:
    """Returns a parameter's value as a reader would write it."""
    if value is None:
        return "none"
    return f"{value:.2g}" if isinstance(value, float) else str(value)
