"""What MLflow has to say about a trial beside its epochs."""

from datetime import datetime

from tuner.record.trials import Trial, known


def tags_of(trial: Trial) -> dict[str, str]:
    """Returns what can change in a trial's life."""
    failure = {"failure": trial.failure} if trial.state == "failed" and trial.failure else {}
    source = {} if trial.source is None else {"source": trial.source}
    return {"state": trial.state, "on_front": str(trial.on_front).lower()} | source | failure


def judged(trial: Trial) -> dict[str, tuple[float, int]]:
    """Returns figures from after the search, each with its step: the more runs one averages, the higher."""
    found: dict[str, tuple[float, int]] = {}
    confirmed = trial.confirmed
    for name, figure in trial.on_test.items():
        found[f"test_{name}"] = (figure, 0)
    measured_slowdown = known(trial.measured_slowdown)
    if measured_slowdown is not None:
        found["measured_slowdown"] = (measured_slowdown, 0)
    if confirmed is not None and confirmed.again:
        found[f"confirmed_{trial.metric}"] = (confirmed.mean, confirmed.seeds)
        found["confirmed_deviation"] = (confirmed.deviation, confirmed.seeds)
    return found


def as_ms(moment: datetime | None) -> int | None:
    """Returns milliseconds since 1970."""
    return None if moment is None else int(moment.timestamp() * 1000)
