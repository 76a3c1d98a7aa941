"""Peak memory of a training step, predicted by running the step on fake tensors.

A dispatch mode follows every storage from its allocation to its release. Nothing is computed and no weight
is read, so a prediction depends on the configuration alone.
"""

import dataclasses
import multiprocessing
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tinytl.build import build_model
from tinytl.config.plan import Needs, UnderFloorError, is_planned, is_recorded, lean_plan, resolve
from tinytl.config.train_config import FIELDS_WITHOUT_MEMORY, SPARSE_FIELDS, TrainConfig
from tinytl.device import planned_device, resolve_device
from tinytl.errors import ConfigError
from tinytl.memory.fake_network import build_on_meta, to_fake_
from tinytl.memory.fake_step import FakeStep, tracker_for
from tinytl.memory.fill_budget import filled, is_open
from tinytl.memory.gpu_workspaces import Workspaces, compared, known_workspaces, use_workspaces, workspaces
from tinytl.memory.measure import PeakMeter, cublas_workspace_bytes
from tinytl.memory.storage_tracker import MemoryPrediction
from tinytl.networks.stored_weights import stored_weights
from tinytl.networks.update_scheme import Part, last_parts, layers_of, scheme_of
from tinytl.step_time.calibration import known_step_times, step_times, use_step_times
from tinytl.step_time.step_times import StepTimes
from tinytl.training.captured_step import planned_step
from tinytl.training.mixed_precision import MixedPrecision, backends_restored
from tinytl.training.step import InputNormalizer, build_optimizer, random_batch

MOST_STEPS = 1 << 16
"""The largest batch that `max_batch_size` tries."""

WORTH_A_PROCESS = 6
"""Predictions that need as much time as starting a process."""

_PREDICTED: dict[TrainConfig, MemoryPrediction] = {}
_SAID_BY_THE_SCHEME = [name for name in SPARSE_FIELDS if name != "update_scheme"]
_WITHOUT_EFFECT = {
    name: getattr(TrainConfig(), name) for name in (*FIELDS_WITHOUT_MEMORY, *_SAID_BY_THE_SCHEME)
} | {"weights": "none"}


def predict_memory(config: TrainConfig) -> MemoryPrediction:
    """Predicts the peak of a steady-state training step of `config` (`num_classes` set), in about a second.

    The plan of `config` sets its open choices. Results are cached by the fields on which memory depends. On a
    GPU the workspaces of its libraries count, if one was asked for them (`gpu_workspaces`).

    Raises:
        ConfigError: for `num_classes` unset, `n_groups` that does not divide (naming the block), a budget
            that nothing fits, or an operation of the network that does not run on fake tensors.
    """
    planned = resolve_plan(config)
    prediction, found = _of_tensors(planned), _workspaces(planned)
    if found is None:
        return prediction
    of_recordings = found.cublas_mib if is_recorded(planned) else 0.0  # their stream has one of its own
    return prediction.with_workspaces(found.total_mib + of_recordings)


def _workspaces(config: TrainConfig) -> Workspaces | None:
    if planned_device(config.device).type == "cpu":
        return None
    return workspaces_of(config.precision)


def workspaces_of(precision: str) -> Workspaces | None:
    """Returns what a GPU's libraries hold in steps of that precision; None if no GPU was asked or is here."""
    return workspaces(precision, _measure_workspaces)


def _measure_workspaces(precision: str) -> Workspaces:
    return compared(precision, measure_memory, lambda config: _of_tensors(config).peak_mib)


def _of_tensors(planned: TrainConfig) -> MemoryPrediction:
    key = _key(planned)
    if key not in _PREDICTED:
        with _BUILT.lock:
            _PREDICTED[key] = _predict(key)
    return _PREDICTED[key]


def predict_memories(configs: Sequence[TrainConfig], processes: int | None = None) -> list[MemoryPrediction]:
    """Predicts several configurations, each in one of `processes` (default: one per core, at most 8).

    A process needs some seconds to start, so a few predictions are made in this one, one after the other. So
    are all if processes cannot start (a script needs `if __name__ == "__main__":` for that).

    Raises:
        ConfigError: as `predict_memory` does, for any of them.
    """
    missing = list(dict.fromkeys(c for c in configs if not is_planned(c) or _key(c) not in _PREDICTED))
    processes = min(processes or os.cpu_count() or 1, 8, len(missing) // WORTH_A_PROCESS)
    if processes > 1:
        spawn = multiprocessing.get_context("spawn")
        try:
            for config in missing:  # not measured in each of them, side by side
                _workspaces(config)
                step_times(device=planned_device(config.device).type)
            known = (known_step_times(), known_workspaces())
            with ProcessPoolExecutor(processes, spawn, _begin, known) as pool:
                for found in pool.map(_predict_elsewhere, missing):
                    _PREDICTED.update(found)
        except BrokenProcessPool:
            pass
    return [predict_memory(config) for config in configs]


def _begin(times: dict[tuple[str, int], StepTimes], found: dict[str, Workspaces]) -> None:
    """Begins a process that predicts."""
    torch.set_num_threads(1)
    for (device, threads), of_device in times.items():
        use_step_times(of_device, threads, device)
    use_workspaces(found)


def _predict_elsewhere(config: TrainConfig) -> dict[TrainConfig, MemoryPrediction]:
    """Returns all predictions of this process, those of its plans included, so that none is repeated."""
    predict_memory(config)
    return _PREDICTED


def _key(config: TrainConfig) -> TrainConfig:
    """Returns a planned configuration without the fields that do not affect its memory."""
    method = "FT-Full" if config.method == "Scratch" else config.method  # the same from other weights
    recorded = is_recorded(config)
    return dataclasses.replace(
        config, plan="fast", budget_mib=None, **_WITHOUT_EFFECT, method=method, cuda_graph=recorded
    )


def with_scheme(config: TrainConfig) -> TrainConfig:
    """Returns `config` with `update_scheme` set, if it is of method Sparse and selects without images.

    Raises:
        ConfigError: if it selects by images, or for a budget that nothing fits.
    """
    if config.method != "Sparse" or config.update_scheme is not None:
        return config
    if config.select == "last" and is_open(config):
        return fill_budget(config, last_parts(config))
    return dataclasses.replace(config, update_scheme=scheme_of(config).text(layers_of(config)))


def fill_budget(config: TrainConfig, order: Sequence[Part]) -> TrainConfig:
    """Returns `config` with a scheme of as many parts, in their order, as fit its budget; needs 10 s or so.

    Raises:
        ConfigError: if not even the first part fits.
    """
    return filled(config, order, lambda planned: predict_memory(planned).peak_mib)


def resolve_plan(config: TrainConfig) -> TrainConfig:
    """Returns `config` with `PLANNED_FIELDS` as its plan sets them.

    Raises:
        ConfigError: if nothing fits `budget_mib`, naming the least that the configuration needs.
    """
    config = with_scheme(config)
    if is_planned(config) and config.plan != "budget":
        return config

    try:
        return resolve(config, needs_of)
    except UnderFloorError as error:
        raise ConfigError(f"{error}, {predict_memory(error.smallest).what_sets_it()}") from None


def needs_of(choice: TrainConfig) -> Needs:
    """Returns the memory and the time of a step of a planned configuration on this machine.

    Raises:
        ConfigError: as `predict_memory`, and for a file of times that is none.
    """
    prediction = predict_memory(dataclasses.replace(choice, plan="fast", budget_mib=None))
    times = step_times(device=planned_device(choice.device).type)
    return Needs(prediction.peak_mib, times.seconds(prediction.work))


def max_batch_size(config: TrainConfig, budget_mib: float) -> int:
    """Returns the largest `batch_size` (up to 65,535) whose step fits `budget_mib`, all else as in `config`.

    Under plan `fast` the whole batch is in memory at once, in lean blocks; if `micro_batch_size` is set, the
    batch is a multiple of it and costs only its images. Under plan `budget`, a batch fits if its smallest
    plan does.

    Raises:
        ConfigError: if not even the smallest batch fits, naming what it needs.
    """
    if config.plan == "budget":
        config = dataclasses.replace(config, plan="smallest", budget_mib=None)
    if config.norm == "batch_norm":  # has no micro-batches
        config = dataclasses.replace(config, micro_batch_size=None)
    step = config.micro_batch_size or 1
    fewest = 2 if config.norm == "batch_norm" and config.pools_to_one_pixel else 1

    def predict(n_steps: int) -> MemoryPrediction:
        sized = dataclasses.replace(config, batch_size=n_steps * step)
        return predict_memory(lean_plan(sized) if sized.plan == "fast" else sized)

    def peak(n_steps: int) -> float:
        return predict(n_steps).peak_mib

    smallest = predict(fewest)
    if smallest.peak_mib > budget_mib:
        raise ConfigError(
            f"budget_mib={budget_mib:g} is under what batch_size={fewest * step} needs: "
            f"{smallest.peak_mib:.1f} MiB {smallest.what_sets_it()}"
        )
    low, high = fewest, 2 * fewest
    while high < MOST_STEPS and peak(high) <= budget_mib:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if peak(middle) <= budget_mib else (low, middle)
    return low * step


def stock_inference_peak_mib(config: TrainConfig) -> float:
    """Predicts the peak of PyTorch's own inference of `batch_size` images, in MiB."""
    config = dataclasses.replace(
        config,
        method="FT-Last",
        norm="frozen_bn",
        weight_standardization=False,
        frozen_weights="float32",
        micro_batch_size=None,
        engine="stock",
        plan="fast",
        budget_mib=None,
        checkpoint="none",
        stock_below_kib=0.0,
        slice_mib=None,
        cuda_graph=False,
        memory_format=None,
        **_WITHOUT_EFFECT,
    )
    return _predict_inference(config)


@backends_restored()
def measure_memory(config: TrainConfig) -> float:
    """Runs two steps of `config` for real, on random weights and images; returns the second's peak in MiB."""
    device = resolve_device(config.device)
    if device.type == "cuda":
        cublas_workspace_bytes()  # in a step's middle it would be in the way
    torch.manual_seed(config.seed)
    config = dataclasses.replace(resolve_plan(config), weights="none", lite_weights=None)
    net = build_model(config).net.to(device)
    optimizer = build_optimizer(net, config)
    normalize, precision = InputNormalizer(config, device), MixedPrecision(config.precision, device)
    step = planned_step(config, net, optimizer, normalize, precision)
    images, labels = random_batch(config, device)
    step(images, labels)
    with PeakMeter(net, optimizer, (images, labels), recorded=is_recorded(config)) as meter:
        step(images, labels)
    return meter.peak_mib


class _LastBuilt:
    """The network of the last prediction: the plans of a configuration follow one another."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._of: TrainConfig | None = None
        self._step: FakeStep | None = None

    def step(self, config: TrainConfig) -> FakeStep:
        """Returns a step of `config`, or of the same configuration under another plan."""
        of = dataclasses.replace(
            config,
            micro_batch_size=None,
            checkpoint="none",
            stock_below_kib=0.0,
            slice_mib=None,
            cuda_graph=None,
            memory_format=None,
        )
        if self._step is None or self._of != of:
            self._of, self._step = None, FakeStep(config)
            self._of = of
        return self._step


_BUILT = _LastBuilt()


def _predict(config: TrainConfig) -> MemoryPrediction:
    tracker = _BUILT.step(config).run(config)
    # A pass was followed. A last one with fewer samples counts as a part.
    n_passes = config.batch_size / config.samples_in_memory
    work = tracker.work.of_passes(n_passes, tracker.optimizer_work)
    return dataclasses.replace(tracker.prediction(), work=work)


@lru_cache(maxsize=256)
def _predict_inference(config: TrainConfig) -> float:
    net = build_on_meta(config).eval()
    with FakeTensorMode(), torch.no_grad():
        device = planned_device(config.device)
        to_fake_(net, device)
        images, _ = random_batch(config, device)
        normalize = InputNormalizer(config, device)
        tracker = tracker_for(config)
        tracker.add_existing("parameters", [*net.parameters(), *stored_weights(net)])
        tracker.add_existing("batch_and_buffers", [*net.buffers(), images])
        with tracker.modules, tracker:
            net(normalize(images))
    return tracker.prediction().peak_mib
