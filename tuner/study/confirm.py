"""Trials trained again with other seeds, before one is named best: those of the front (`--confirm K`), or
those that cannot be told apart from the best (`race.py`).

These runs are not trials: Optuna does not know them. Each has a folder, STUDY/confirm/TRIAL-seedS, and their
results are kept in STUDY/confirm.json. Imports torch and ray only to train.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinytl.config.train_config import TrainConfig
from tinytl.data.splits import DataSplits
from tinytl.errors import NonFiniteLossError
from tinytl.plural import counted
from tinytl.runs.directory import RunDirectory, read_config_file
from tuner.bucket.copies import named
from tuner.record.confirmed import FOLDER, Outcomes, read_outcomes, run_name, write_outcomes
from tuner.record.trials import Trial, figures_of, known
from tuner.trial.trial_folder import borrowed

if TYPE_CHECKING:
    from tinytl.networks.backbones.weights import Weights
    from tuner.cluster.resources import TrialResources
    from tuner.prepared import PreparedStudy

CLAIM_WAIT_S = 60.0
"""How long a run waits for a process that outlived its driver and still writes to the run's folder."""
_POLL_S = 0.5


def trial_configs(folder: Path, front: Sequence[Trial]) -> dict[str, TrainConfig]:
    """Returns what each trial of a study in `folder` was trained with, by its name.

    Raises:
        ConfigError: if a trial's `config.yaml` is gone or damaged.
    """
    return {r.name: read_config_file(RunDirectory(folder / r.name).config_file) for r in front}


def train_with_seeds(
    prepared: "PreparedStudy",
    trials: Sequence[Trial],
    configs: Mapping[str, TrainConfig],
    seeds: int,
    resources: "TrialResources",
    on_done: Callable[[str, int, float], None],
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Trains trials again with the `seeds` seeds after their own, on the Ray that is running.

    A run that is in `confirm.json` is not repeated; one that was cut off resumes after its last epoch. If its
    loss diverges, a run is recorded as failed; if its process dies, the next `--resume` tries it again. Once
    `stopped()` is true the runs end at once, and the results so far are returned.

    Args:
        prepared: the study.
        trials: the trials.
        configs: what each was trained with (`trial_configs`).
        seeds: how many for each; those that it has already are not trained again.
        resources: how many runs at a time, and the share of each.
        on_done: called with trial, seed and accuracy as each run ends; NaN if it failed.
        stopped: asked twice a second.

    Raises:
        ConfigError: for a `confirm.json` that is damaged or cannot be written.
    """
    outcomes = read_outcomes(prepared.folder)
    waiting = _waiting(trials, configs, seeds, outcomes)
    if waiting:
        peaks_mib = {result.name: result.trained_memory_mib for result in trials}
        _train_all(prepared, waiting, configs, peaks_mib, resources, outcomes, on_done, stopped)


def cost_line(
    folder: Path, trials: Sequence[Trial], configs: Mapping[str, TrainConfig], seeds: int, workers: int
) -> str | None:
    """Returns what training trials again will cost, in runs, epochs and time; None if nothing is left to do.

    The time is that of the trials' own epochs, with `workers` runs at a time: the longest of them sets the
    end, so it may take a run longer. Where a trial read stored features no epoch was timed, and the line says
    so.

    Raises:
        ConfigError: for a `confirm.json` that is damaged.
    """
    waiting = _waiting(trials, configs, seeds, read_outcomes(folder))
    if not waiting:
        return None
    epochs = {trial.name: configs[trial.name].epochs for trial in trials}
    timed = {trial.name: known(trial.epoch_time_s) for trial in trials}
    total_s = sum(epochs[name] * (timed[name] or 0.0) for name, _ in waiting) / workers
    untimed = sum(timed[name] is None for name, _ in waiting)
    without = f", without {counted(untimed, 'run')} whose epochs were not timed" if untimed else ""
    time = f"about {total_s / 60:.1f} min" if total_s >= 60 else f"about {total_s:.0f} s"
    return (
        f"training again: {counted(len(waiting), 'run')} of "
        f"{counted(len({name for name, _ in waiting}), 'trial')}, with up to "
        f"{counted(seeds, 'other seed')} each: {counted(sum(epochs[name] for name, _ in waiting), 'epoch')}, "
        f"{time} with {workers} at a time{without}"
    )


def _waiting(
    trials: Sequence[Trial], configs: Mapping[str, TrainConfig], seeds: int, outcomes: Outcomes
) -> list[tuple[str, int]]:
    """Returns trial and seed of each run that has no result yet."""
    return [
        (trial.name, seed)
        for trial in trials
        for seed in other_seeds(configs[trial.name], seeds)
        if seed not in outcomes.get(trial.name, {})
    ]


def other_seeds(config: TrainConfig, count: int) -> range:
    """Returns the `count` seeds after a trial's own."""
    return range(config.seed + 1, config.seed + 1 + count)


def train_again(
    config: TrainConfig, data: DataSplits, weights: "Weights", place: Path | str
) -> dict[str, Any]:
    """Trains `config` in a folder, or resumes there, on one thread; returns its figures, or the failure.

    `place`: its path, or its address in a bucket, which gets the files at the end. The result of a finished
    run is read from there.
    """
    import torch

    from tinytl.runs.progress import PlainProgress
    from tinytl.runs.run import train_loaded

    torch.set_num_threads(1)
    with borrowed(str(place), CLAIM_WAIT_S) as folder:
        finished = RunDirectory(folder).result_file
        if finished.exists():
            result = json.loads(finished.read_text())
        else:
            silent = PlainProgress(lambda line: None)
            try:
                result = train_loaded(config, data, weights, folder, silent, resume=True, wait_s=CLAIM_WAIT_S)
            except NonFiniteLossError as error:
                return {"failure": str(error)}
        return figures_of(result | {"accuracy_top1": result["val_accuracy_top1"]})


def _train_all(
    prepared: "PreparedStudy",
    waiting: list[tuple[str, int]],
    configs: Mapping[str, TrainConfig],
    peaks_mib: Mapping[str, float],
    resources: "TrialResources",
    outcomes: Outcomes,
    on_done: Callable[[str, int, float], None],
    stopped: Callable[[], bool],
) -> None:
    """Adds the result of each of `waiting` to `outcomes`, and writes it to the file."""
    import ray

    kept: Outcomes = {trial: dict(seeds) for trial, seeds in outcomes.items()}
    remote = ray.remote(
        num_cpus=resources.cpus_per_trial,
        max_retries=prepared.config.max_failures,
    )(train_again)
    # Test images are left out, as in the search.
    data = ray.put(dataclasses.replace(prepared.data, test=None))
    weights = {name: ray.put(prepared.weights[name]) for name in {configs[t].backbone for t, _ in waiting}}
    running: dict[Any, tuple[str, int]] = {}
    try:
        while (waiting or running) and not stopped():
            while waiting and len(running) < resources.workers:
                trial, seed = waiting.pop(0)
                config = dataclasses.replace(configs[trial], seed=seed)
                place = named(prepared.folder / FOLDER / run_name(trial, seed))
                gpus = resources.gpus_of(peaks_mib[trial])
                task = remote.options(num_gpus=gpus)
                running[task.remote(config, data, weights[config.backbone], place)] = trial, seed
            for done in ray.wait(list(running), timeout=_POLL_S)[0]:
                trial, seed = running.pop(done)
                try:
                    outcome = ray.get(done)
                    kept.setdefault(trial, {})[seed] = outcome
                    write_outcomes(prepared.folder, kept)
                except ray.exceptions.RayError as error:
                    outcome = {"failure": _reason(error)}
                outcomes.setdefault(trial, {})[seed] = outcome
                on_done(trial, seed, outcome.get(prepared.config.metric, math.nan))
    finally:
        for ref in running:
            ray.cancel(ref, force=True)


def _reason(error: Exception) -> str:
    """Returns one line that says why Ray has no result of a run."""
    cause = getattr(error, "cause", None)
    if not isinstance(cause, Exception):
        return "its process died"
    return f"{type(cause).__name__}: {str(cause).strip().partition(chr(10))[0]}"
