"""A study whose trials run, to its end: whatever ends it, no trial may look as if it still ran."""

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import optuna

from tinytl.errors import ConfigError
from tuner.next_commands import resume_command
from tuner.prepared import PreparedStudy
from tuner.record.reading import StudyReading, read_study
from tuner.record.refusals import UnwrittenError
from tuner.record.writer import StudyRecords
from tuner.stopping import Stopping
from tuner.study.driving import KeptHere
from tuner.study.looking_again import look_again
from tuner.study.searching import rungs_of

if TYPE_CHECKING:
    from tuner.cluster.resources import TrialResources
    from tuner.search.searcher import MemoryAwareSearch
    from tuner.terminal.lines import TrialLines
    from tuner.tracking.live import StudyTracking


@dataclass(frozen=True)
class RunningStudy:
    """What a study has while its trials run."""

    prepared: PreparedStudy
    kept: KeptHere
    study: optuna.Study
    records: StudyRecords
    tracking: "StudyTracking | None"
    resources: "TrialResources"
    stopping: Stopping
    search: "MemoryAwareSearch"
    lines: "TrialLines"
    remaining: int
    """Trials that it lacks."""

    def run(self) -> None:
        """Runs the trials, looks at the best again, and records how it ended.

        Raises:
            ConfigError: if a disk, a database or a bucket refused what was to be recorded.
            Exception: what the search itself stumbled over, which is a bug.
        """
        with self.lines, self.stopping.on_signals(self.lines.stopping):
            try:
                self._train()
                if self.stopping.reason is None and self.search.unwritten is None:
                    self.records.end_cut_off()
                    look_again(self.prepared, self._read, self.resources, self.stopping, self.lines)
            except (KeyboardInterrupt, UnwrittenError):
                pass  # a second Ctrl-C, which `stopping` knows, or a failed storage, which `records` knows
            except Exception:
                if self.search.bug is None:  # that is raised below: Ray may stumble over how the search ended
                    raise
            finally:
                with suppress(KeyboardInterrupt):
                    self._record_the_end()
        self._raise_what_failed()

    def _train(self) -> None:
        from tuner.cluster.waiting import Waiting
        from tuner.search.scheduler import StudyScheduler
        from tuner.study import ray_tune

        if self.remaining > 0:
            rungs = rungs_of(self.prepared, self.records)
            scheduler = StudyScheduler(
                self.search, rungs, self.stopping, Waiting(self.lines.note), self.resources.workers
            )
            ray_tune.run_trials(self.prepared, self.search, scheduler, self.resources)
        self.search.close()

    def _read(self) -> StudyReading:
        """Returns the study as it is now, with what runs on other machines wrote."""
        self.records.reach(self.kept.collect)
        runs_dir = str(self.prepared.folder.parent)
        reading: StudyReading = self.records.reach(read_study, self.study, runs_dir, driver_is_gone=True)
        return reading

    def _record_the_end(self) -> None:
        self.lines.phase("recording the end")
        self.search.close()
        if self.search.unwritten is None:
            with suppress(UnwrittenError):
                self.records.end_cut_off()
        unfinished = True
        with suppress(UnwrittenError):
            ended = self.records.reach(read_study, self.study).ended
            unfinished = ended < self.prepared.config.trials
        if self.tracking is not None:
            with suppress(UnwrittenError):
                self.records.reach(self.kept.collect)
            self.tracking.close(self.study, self.stopping.interrupted or unfinished)
            unsent = self.kept.send_tracking() if self.prepared.config.tracking_uri is None else None
            if unsent is not None:
                self.lines.note(unsent)

    def _raise_what_failed(self) -> None:
        resume = resume_command(self.prepared.name, self.prepared.config.runs_dir)
        if self.search.bug is not None:
            self.search.bug.add_note(f"This is a bug. What was trained is kept; resume with `{resume}`")
            raise self.search.bug
        unwritten = self.search.unwritten or self.records.unwritten
        if unwritten is not None:
            remedy = "" if self.records.remedy is None else f"{self.records.remedy}, then "
            raise ConfigError(
                f"study {self.prepared.name} was stopped: {unwritten}. What was trained is kept: {remedy}"
                f"resume with `{resume}`"
            )
