"""The search as Ray Tune asks it: the next trial is chosen, predicted and recorded while others train.

Everything that waits for a sampler, a prediction or a disk runs in one thread, in the order of arrival. So
the same seed with one worker gives the same study.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from ray.tune.search.searcher import Searcher

from tinytl.config.flat import flat_from_config
from tuner.bucket.copies import named
from tuner.record import schema
from tuner.record.refusals import UnwrittenError
from tuner.record.trials import Trial, figures_of
from tuner.search.candidates import Candidates, LiveTrial, NextTrial
from tuner.trial.worker_death import WorkerDeath

OF_THE_RESULT = (
    schema.STANDARD_ERROR,
    schema.EPOCH_TIME_S,
    schema.MEASURED_PEAK_MIB,
    schema.PROCESS_PEAK_MIB,
)
"""What a complete trial's record has of its last result, beside the metrics."""
OUT_OF_MEMORY_IN_A_ROW = 10
"""The search ends if this many trials in a row ran out of memory."""


class Observer(Protocol):
    """Follows a study: terminal, MLflow, metrics page. Called from several threads; must return at once."""

    def trial_started(
        self, name: str, params: Mapping[str, Any], searched: Mapping[str, Any], source: str | None
    ) -> None:
        """A trial starts with this flat configuration, of which `searched` were chosen.

        `source`: where it came from, if not from the sampler: `baseline user_report`.
        """

    def epoch_ended(self, name: str, row: Mapping[str, Any]) -> None:
        """A trial has trained an epoch: a row of its `metrics.jsonl`."""

    def trial_ended(self, name: str, state: str, reason: str | None) -> None:
        """A trial has ended, and its record says so. States are those of `schema.STATES`."""


class MemoryAwareSearch(Searcher):
    """Suggests what `candidates` finds, and records what became of it.

    Each suggestion is `{"name", "config", "folder", "peak_memory_mib", "trained_memory_mib", "plans"}`: a
    whole TrainConfig with its plan, so that no worker builds or predicts it again. A trial that was cut off
    keeps its name and its folder with the last checkpoint. Ends after `remaining` trials, or once the study
    has to stop.
    """

    def __init__(
        self,
        *,
        candidates: Candidates,
        remaining: int,
        observers: Sequence[Observer] = (),
    ) -> None:
        super().__init__()
        self.candidates = candidates
        self.records = candidates.records
        self.proposals = candidates.proposals
        self.remaining = remaining
        self.stopping = candidates.stopping
        self.observers = observers
        self.gave_up: str | None = None
        """Why the search ended before its number of trials, if it did."""
        self.unwritten: str | None = None
        """What the disk or the database said, if a write failed."""
        self.bug: Exception | None = None
        """An unexpected error while a trial's end was recorded; the study has to stop for it."""
        self._out_of_memory_in_a_row = 0
        self._live: dict[str, LiveTrial] = {}
        self._thread = ThreadPoolExecutor(1, "optuna")
        self._next: Future[NextTrial | None] | None = None
        self.prepare()

    def prepare(self) -> None:
        """Begins to look for the next configuration, if another one is needed."""
        if self._next is None and self.remaining > 0 and not self.stopping.reason and not self.gave_up:
            self._next = self._thread.submit(self.candidates.find)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Returns the next configuration, None while it is looked for and others train, or Ray's FINISHED."""
        if self.stopping.reason or self.gave_up:
            return Searcher.FINISHED
        self.prepare()
        if self._next is None:
            # A trial that runs out of memory does not count, and leaves room for another.
            return None if self._live else Searcher.FINISHED
        if self._live and not self._next.done():
            return None
        found, self._next = self._next.result(), None
        if found is None:  # nothing is left, or the study stops
            self.unwritten = self.unwritten or self.candidates.unwritten
            self.gave_up = self.gave_up or self.candidates.gave_up
            return Searcher.FINISHED
        self.remaining -= 1
        live = self._live[trial_id] = found.live
        # Before the search for the next one: it would find this one still waiting in the record.
        self._submit(lambda: self.records.start(live.record))
        self.prepare()
        for observer in self.observers:
            observer.trial_started(live.name, flat_from_config(found.planned), live.searched, live.source)
        return {
            "name": live.name,
            "config": found.planned,
            "peak_memory_mib": live.peak_memory_mib,
            "trained_memory_mib": live.trained_memory_mib,
            "plans": Trial(
                name=live.name,
                params=live.searched,
                peak_memory_mib=live.peak_memory_mib,
                curve=live.curve,
            ).plan_figures,
            "folder": named(found.folder),
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Keeps the sampler out of the epochs: it learns of a trial when it ends."""

    def passed_rung(self, trial_id: str, epoch: int, score: float, goes_on: bool) -> None:
        """Records the scheduler's decision about a trial at a rung."""
        live = self._live[trial_id]
        live.rungs[epoch] = score
        if not goes_on:
            live.pruned_at = epoch
        accuracies = dict(live.rungs)
        self._submit(lambda: self.records.passed_rung(live.record, accuracies))

    def worker_died(self, trial_id: str, death: WorkerDeath) -> None:
        """Keeps the reason why a trial's process died."""
        if trial_id in self._live:
            self._live[trial_id].death = death

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Records how a trial ended: COMPLETE only with all its epochs."""
        live = self._live.pop(trial_id, None)
        if live is None:
            return
        result = result or {}
        if result.get("unsaved"):
            self.unwritten = self.gave_up = result["unsaved"]
            return  # it resumes from the epoch before, once there is room
        if error and live.death is not None and live.death.out_of_memory:
            self._ran_out_of_memory(live, live.death.reason, live.death.need_mib)
            return
        if result.get("out_of_memory"):
            self._ran_out_of_memory(live, result["failure"], result.get("measured_need_mib"))
            return
        self._out_of_memory_in_a_row = 0
        if error or result.get("failure"):
            died = "its process died" if live.death is None else live.death.reason
            reason = result.get("failure") or died
            self._submit(lambda: self._fail(live, reason))
        elif live.pruned_at is not None:
            self._submit(lambda: self._prune(live))
        elif result.get("finished"):
            self._submit(lambda: self._complete(live, result))
        # Else it was stopped in the middle: it stays RUNNING, and counts as cut off later.

    def __getstate__(self) -> dict[str, Any]:
        """Returns nothing: Ray pickles this with its own state, which a study never restores."""
        return {}

    def close(self) -> None:
        """Waits until all is recorded."""
        self._thread.shutdown()

    def save(self, checkpoint_path: str) -> None:
        """Writes nothing of use: the state of a search is in its records, and Ray never restores it."""
        Path(checkpoint_path).write_bytes(b"")

    def _submit(self, job: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                job()
            except UnwrittenError as error:
                # The record is the truth: a study that cannot write it must not continue.
                self.unwritten = self.gave_up = str(error)
            except Exception as error:  # a bug: raised again in the main thread, once all else is recorded
                self.bug = self.bug or error
                self.stopping.because("of a bug")

        self._thread.submit(guarded)

    def _complete(self, live: LiveTrial, result: Mapping[str, Any]) -> None:
        attributes = {key: result.get(key) for key in OF_THE_RESULT}
        attributes |= figures_of(result)
        score = float(result["score"])
        self.records.complete(live.record, score, live.peak_memory_mib, attributes)
        self.proposals.complete(live.proposal, score, live.peak_memory_mib)
        self._tell(live, "complete", None)

    def _prune(self, live: LiveTrial) -> None:
        assert live.pruned_at is not None
        self.records.pruned(live.record, live.pruned_at)
        self.proposals.stopped(live.proposal, live.rungs[live.pruned_at], live.peak_memory_mib)
        self._tell(live, "pruned", f"at epoch {live.pruned_at}")

    def _fail(self, live: LiveTrial, reason: str) -> None:
        self.records.failed(live.record, reason)
        self.proposals.failed(live.proposal)
        self._tell(live, "failed", reason)

    def _ran_out_of_memory(self, live: LiveTrial, reason: str, need_mib: float | None) -> None:
        self.remaining += 1
        self._out_of_memory_in_a_row += 1
        if self._out_of_memory_in_a_row >= OUT_OF_MEMORY_IN_A_ROW:
            self.gave_up = f"{OUT_OF_MEMORY_IN_A_ROW} trials in a row ran out of memory"

        def record() -> None:
            self.records.out_of_memory(live.record, reason, need_mib)
            self.proposals.failed(live.proposal)
            self._tell(live, "infeasible", reason)

        self._submit(record)

    def _tell(self, live: LiveTrial, state: str, reason: str | None) -> None:
        for observer in self.observers:
            observer.trial_ended(live.name, state, reason)
