"""The predictions of several configurations, several at a time."""

import itertools
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import torch

from tinytl.config.plan import is_planned
from tinytl.config.train_config import TrainConfig
from tinytl.device import planned_device
from tinytl.memory.followed_steps import PREDICTED, StepKey, is_predicted
from tinytl.memory.gpu_scratch import known_scratch, scratch_bytes_of, use_scratch
from tinytl.memory.gpu_workspaces import Workspaces, known_workspaces, use_workspaces
from tinytl.memory.predict import predict_ahead, predict_memory, step_key, workspaces_of
from tinytl.memory.prediction import MemoryPrediction
from tinytl.step_time.calibration import known_step_times, step_times, use_step_times
from tinytl.step_time.step_times import StepTimes

WORTH_A_PROCESS = 6
"""Predictions that need as much time as starting a process."""


def predict_memories(configs: Sequence[TrainConfig], processes: int | None = None) -> list[MemoryPrediction]:
    """Predicts several configurations, each in one of `processes` (default: one per core, at most 8).

    A process needs some seconds to start, so a few predictions are made in this one, one after the other. So
    are all if processes cannot start (a script needs `if __name__ == "__main__":` for that).

    Raises:
        ConfigError: as `predict_memory` does, for any of them.
    """
    missing = [c for c in dict.fromkeys(configs) if not is_planned(c) or not is_predicted(step_key(c))]
    processes = min(processes or os.cpu_count() or 1, 8, len(missing) // WORTH_A_PROCESS)
    if processes > 1:
        spawn = multiprocessing.get_context("spawn")
        try:
            for config in missing:  # not measured in each of them, side by side
                workspaces_of(config)
                step_times(device=planned_device(config.device).type)
            scratch = known_scratch() if known_workspaces() else {}  # a CPU's predictions touch no GPU
            known = (torch.get_num_threads(), known_step_times(), known_workspaces(), scratch)
            with ProcessPoolExecutor(processes, spawn, _begin, known) as pool:
                _predict_in(pool, missing)
        except BrokenProcessPool:
            pass
    else:
        predict_ahead(filter(is_planned, missing))
    return [predict_memory(config) for config in configs]


def _predict_in(pool: ProcessPoolExecutor, configs: Sequence[TrainConfig]) -> None:
    """Predicts in other processes. What they lack of a GPU is asked for once, here, and those that lacked it
    predict again.
    """
    learnt: dict[str, int] = {}
    while configs:
        found = list(pool.map(_predict_elsewhere, configs, itertools.repeat(learnt)))
        for predicted in found:
            PREDICTED.update(predicted)
        unknown = [{call for p in predicted.values() for call in p.calls_not_known} for predicted in found]
        learnt = scratch_bytes_of(set().union(*unknown))
        configs = [config for config, calls in zip(configs, unknown, strict=True) if calls & learnt.keys()]


def _begin(
    threads: int,
    times: dict[tuple[str, int], StepTimes],
    found: dict[str, Workspaces],
    scratch: dict[str, int],
) -> None:
    """Begins a process that predicts."""
    torch.set_num_threads(threads)
    for (device, measured_with), of_device in times.items():
        use_step_times(of_device, measured_with, device)
    use_workspaces(found)
    use_scratch(scratch)


def _predict_elsewhere(config: TrainConfig, scratch: dict[str, int]) -> dict[StepKey, MemoryPrediction]:
    """Returns all predictions of this process, those of its plans included, so that none is repeated."""
    use_scratch(scratch)
    predict_memory(config)
    return PREDICTED
