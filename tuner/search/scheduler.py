"""Which trials stop early: asynchronous successive halving, by accuracy alone or by accuracy and memory."""

from bisect import bisect_right, insort
from collections.abc import Iterable, Mapping
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from tuner.cluster.waiting import Waiting
from tuner.record import trials
from tuner.search.searcher import MemoryAwareSearch
from tuner.stopping import Stopping
from tuner.trial.trainable import GAVE_UP
from tuner.trial.worker_death import describe_death, last_error


class Rungs:
    """What trials reached at each rung, and the rule that says which trial continues.

    A trial is judged when it reaches a rung, against those that reached it before: no trial waits.

    - `asha`: continues if it is among the most accurate 1 / `reduction_factor`, rounded up.
    - `pareto`: continues if no other trial at the rung beats it: none has its accuracy or more in at most its
      memory, and is better in one of them. If memory is the same for all, only the best trial would continue,
      so `asha`'s rule holds.

    `past`: the trials of a study that is resumed.

    Source: Li et al. 2020, A System for Massively Parallel Hyperparameter Tuning (ASHA).
    """

    def __init__(
        self,
        *,
        rule: str,
        epochs: Iterable[int],
        reduction_factor: int,
        past: Iterable[trials.Trial] = (),
    ) -> None:
        self.rule = rule
        self.reduction_factor = reduction_factor
        self._rungs = {epoch: _Rung() for epoch in epochs}
        for judged in past:
            for epoch in judged.rungs.keys() & self._rungs.keys():
                self._rungs[epoch].add(judged.name, (judged.rungs[epoch], judged.peak_memory_mib))

    def __contains__(self, epoch: int) -> bool:
        """Whether trials are judged after `epoch`."""
        return epoch in self._rungs

    def goes_on(self, name: str, epoch: int, accuracy: float, memory_mib: float) -> bool:
        """Records what a trial reached at the rung `epoch`, and returns whether it is worth more epochs."""
        rung, reached = self._rungs[epoch], (accuracy, memory_mib)
        if name in rung.reached:  # a resumed trial reports its last epoch again
            rung = self._rungs[epoch] = rung.without(name)
        rung.add(name, reached)
        if self.rule == "pareto" and len(rung.memories) > 1:
            return reached in rung.front
        better = len(rung.accuracies) - bisect_right(rung.accuracies, accuracy)
        return better < -(-len(rung.accuracies) // self.reduction_factor)


class _Rung:
    """What trials reached at one rung. Ray's loop waits for a judgement: it must not look at all of them."""

    def __init__(self) -> None:
        self.reached: dict[str, tuple[float, float]] = {}
        """Accuracy and memory in MiB, by the trial's name."""
        self.accuracies: list[float] = []
        """Rising."""
        self.memories: set[float] = set()
        self.front: list[tuple[float, float]] = []
        """What nothing here beats, equals once."""

    def add(self, name: str, reached: tuple[float, float]) -> None:
        """Records what a trial reached that is not here yet."""
        self.reached[name] = reached
        insort(self.accuracies, reached[0])
        self.memories.add(reached[1])
        if reached not in self.front and not any(_beats(best, reached) for best in self.front):
            self.front = [*(best for best in self.front if not _beats(reached, best)), reached]

    def without(self, name: str) -> "_Rung":
        """Returns a rung of all others."""
        others = _Rung()
        for other, reached in self.reached.items():
            if other != name:
                others.add(other, reached)
        return others


class StudyScheduler(FIFOScheduler):
    """Stops trials at the rungs, and all of them once the study has to stop. Trials start in order."""

    def __init__(
        self,
        search: MemoryAwareSearch,
        rungs: Rungs | None,
        stopping: Stopping,
        waiting: Waiting,
        workers: int,
    ) -> None:
        super().__init__()
        self.workers = workers
        self.search = search
        self.rungs = rungs
        self.stopping = stopping
        self.waiting = waiting

    def __getstate__(self) -> dict[str, Any]:
        """Returns nothing: Ray pickles this with its own state, which a study never restores."""
        return {}

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Records why a trial's process died; one that itself ran out of memory is not tried again."""
        error = last_error(trial)
        if error is None:
            return
        death = describe_death(error)
        self.search.worker_died(trial.trial_id, death)
        if death.is_its_own(self.workers):
            gave_up = {
                "out_of_memory": True,
                "failure": death.reason,
                "measured_need_mib": death.need_mib,
            }
            trial.set_config(trial.config | {GAVE_UP: gave_up})

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: Mapping[str, Any]) -> str:
        """Judges a trial at a rung; no trial continues in a study that stops."""
        epoch = result["epoch"]
        if self.rungs is not None and epoch in self.rungs:
            score, memory_mib = result["score"], result["peak_memory_mib"]
            goes_on = self.rungs.goes_on(trial.config["name"], epoch, score, memory_mib)
            self.search.passed_rung(trial.trial_id, epoch, score, goes_on)
            if not goes_on:
                return str(TrialScheduler.STOP)
        return str(TrialScheduler.STOP if self.stopping.reason else TrialScheduler.CONTINUE)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Lets trials start in order; a study that stops ends the waiting ones, which report nothing.

        Ray asks ten times a second.
        """
        chosen = super().choose_trial_to_run(tune_controller)
        if chosen is None:
            self.waiting.look(None)
            return None
        controller = tune_controller._tune_controller  # inside Ray's wrapper
        if self.stopping.reason:
            for trial in tune_controller.get_trials():
                if trial.status in (Trial.PENDING, Trial.PAUSED):
                    # Not `stop_trial`: it makes Ray print that the trial is complete.
                    tune_controller.search_alg.on_trial_complete(trial.trial_id)
                    controller._schedule_trial_stop(trial)
            return None
        # A starting process already has its resources, though its trial is pending until it is up.
        all_wait = not controller._actor_manager.num_live_actors
        self.waiting.look(chosen.placement_group_factory.required_resources if all_wait else None)
        return chosen


def _beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one != other and one[0] >= other[0] and one[1] <= other[1]
