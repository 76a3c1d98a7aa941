"""How long a study's trials trained: by the clock, and summed over its workers."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from tuner.record.confirmed import FOLDER, run_name
from tuner.record.reading import StudyReading
from tuner.record.trials import Trial, read_rows
from tuner.report.folders import Rows

Span = tuple[datetime, datetime]


def busy_spans(study: StudyReading, rows: Rows) -> list[Span]:
    """Returns when a worker was at work on a trial: a span per attempt.

    An attempt that was cut off, or still runs, lasted until the last epoch that it wrote.
    """
    return [span for trial in study.trials for span in _of_trial(trial, rows.get(trial.name, ()))]


def summed(spans: Sequence[Span]) -> timedelta:
    """Returns the time of all spans, also of those beside each other."""
    return sum((end - begin for begin, end in spans), timedelta())


def by_the_clock(spans: Sequence[Span]) -> timedelta:
    """Returns how long at least one of the spans lasted: time beside each other counts once."""
    total, until = timedelta(), datetime.min
    for begin, end in sorted(spans):
        total += max(end, until) - max(begin, until) if end > until else timedelta()
        until = max(until, end)
    return total


def again_s(study: StudyReading) -> float:
    """Returns the seconds of the epochs that trials trained with other seeds, after the search."""
    runs = [
        study.folder / FOLDER / run_name(name, seed)
        for name, found in study.confirmed.items()
        for seed in [*found.again, *found.failures]
    ]
    return sum(float(row.get("epoch_time_s") or 0.0) for run in runs for row, _ in read_rows(run))


def _of_trial(trial: Trial, rows: Sequence[Mapping[str, Any]]) -> list[Span]:
    written = [
        datetime.fromtimestamp(row["timestamp_ms"] / 1000)
        for row in rows
        if isinstance(row.get("timestamp_ms"), (int, float))
    ]
    begins = [begin for begin, _ in trial.spans]
    found = []
    for turn, (begin, end) in enumerate(trial.spans):
        after = begins[turn + 1] if turn + 1 < len(begins) else datetime.max
        last = max((moment for moment in written if begin <= moment < after), default=None)
        if end is None:
            end = last
        if end is not None and end > begin:
            found.append((begin, end))
    return found
