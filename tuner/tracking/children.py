"""The runs of a study's trials: the one place that knows their tags, parameters, metrics and states.

A run is brought in line here both while the study runs and when it is rebuilt from the record.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from tuner.record.sessions import session_at
from tuner.record.trials import Trial
from tuner.tracking.runs import StudyRuns, changed, digests_of
from tuner.tracking.trials import as_ms, judged, tags_of

if TYPE_CHECKING:
    from mlflow.entities import Run

STATUS = {
    "complete": "FINISHED",
    "pruned": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
    "running": "RUNNING",
}
"""MLflow's status of a trial that is in that state."""
Row: TypeAlias = tuple[Mapping[str, Any], int]
"""A row of metrics.jsonl, and when it came, in ms."""


@dataclass
class Child:
    """A trial's run as it stands, kept up to date with what is written here."""

    run: "Run"
    status: str
    has_params: bool
    """MLflow refuses to change a run's parameters, for example after a resume on another device."""
    digests: set[str]
    """Digests of the data sets that are its inputs."""
    epochs: set[int] | None = None
    """The recorded epochs; None: not read yet."""

    @property
    def run_id(self) -> str:
        """MLflow's id of the run."""
        return str(self.run.info.run_id)


class TrialRuns:
    """The runs of the trials as MLflow has them: read once, then kept up to date."""

    def __init__(self, runs: StudyRuns) -> None:
        self.runs = runs
        self._client = runs.client
        self.by_trial = {
            name: [Child(run, run.info.status, bool(run.data.params), digests_of(run)) for run in found]
            for name, found in runs.children().items()
        }
        """If a trial has several runs, the oldest is first."""

    def bring_in_line(
        self, trial: Trial, rows: Sequence[Row], read_params: Callable[[], Mapping[str, Any]]
    ) -> bool:
        """Makes a trial's run in MLflow match `trial` and `rows`; returns whether anything was written.

        A trial that ran out of memory has no run. Epochs that are recorded are left as they are.
        `read_params` is called only if the run has no parameters yet.
        """
        present = self.by_trial.get(trial.name, [])
        kept = [] if trial.state == "infeasible" else present[:1]
        unwanted = present[len(kept) :]
        for double in unwanted:
            self._client.delete_run(double.run_id)
        self.by_trial[trial.name] = kept
        if trial.state == "infeasible":
            return bool(unwanted)
        return self._write(trial, rows, read_params) or bool(unwanted)

    def leaves_front(self, name: str) -> None:
        """Writes that a trial is no longer on the front."""
        for child in self.by_trial.get(name, [])[:1]:
            self._client.set_tag(child.run_id, "on_front", "false")
            child.run.data.tags["on_front"] = "false"

    def _write(self, trial: Trial, rows: Sequence[Row], read_params: Callable[[], Mapping[str, Any]]) -> bool:
        session = session_at(self.runs.labels.sessions, as_ms(trial.last_start))
        children = self.by_trial[trial.name]
        made = not children
        params: Mapping[str, Any] = {} if children and children[0].has_params else read_params()
        if made:
            run = self.runs.new_child(trial.name, params, as_ms(trial.start), session)
            children.append(Child(run, "RUNNING", False, set(), set()))
        child = children[0]
        if rows and child.epochs is None:
            child.epochs = self.runs.recorded_epochs(child.run_id)
        new = [row for row in rows if row[0]["epoch"] not in (child.epochs or ())]
        devices = [str(row["device_name"]) for row, _ in rows if "device_name" in row]
        wanted = tags_of(trial) | ({"device.name": devices[-1]} if devices else {})
        tags = changed(wanted | ({} if session is None else session.tags), child.run.data.tags)
        wrote = bool(params or new or tags)
        if wrote:
            self.runs.log(child.run_id, params, new, tags, searched=trial.params)
            child.has_params = child.has_params or bool(params)
            child.run.data.tags.update(tags)
            if child.epochs is not None:
                child.epochs.update(row["epoch"] for row, _ in new)
        wrote |= self._add_judged(child, trial) | self.runs.add_images(child.run_id, child.digests, session)
        status = STATUS[trial.state]
        if status != child.status:
            if status == "RUNNING":
                self._client.update_run(child.run_id, status=status)
            else:
                self.runs.end(child.run_id, status, as_ms(trial.end))
            child.status = status
            wrote = True
        return wrote or made

    def _add_judged(self, child: Child, trial: Trial) -> bool:
        """Writes accuracies from after the search that a run lacks or that differ."""
        metrics = child.run.data.metrics
        values = {key: value for key, value in judged(trial).items() if metrics.get(key) != value[0]}
        if values:
            again = metrics.keys() & values.keys()
            self.runs.log_values(child.run_id, values, None if again else as_ms(trial.end))
            metrics.update({key: value for key, (value, _) in values.items()})
        return bool(values)
