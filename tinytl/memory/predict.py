"""Peak memory of a training step, predicted by running the step on fake tensors.

A dispatch mode follows every storage from its allocation to its release. Nothing is computed and no weight
is read, so a prediction depends on the configuration alone.
"""

import dataclasses
import itertools
import multiprocessing
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tinytl.build import build_model
from tinytl.config.names import FIELDS_WITHOUT_MEMORY, SPARSE_FIELDS
from tinytl.config.plan import (
    Needs,
    UnderFloorError,
    choices,
    formats,
    is_planned,
    is_recorded,
    lean_plan,
    resolve,
)
from tinytl.config.train_config import TrainConfig
from tinytl.device import planned_device, resolve_device
from tinytl.errors import ConfigError
from tinytl.memory.fake_network import build_on_meta, to_fake_
from tinytl.memory.fake_step import tracker_for
from tinytl.memory.fill_budget import filled, is_open, least_of
from tinytl.memory.followed_steps import PREDICTED, StepKey, is_predicted, predict_steps, predict_tensors
from tinytl.memory.gpu_scratch import known_scratch, scratch_bytes_of, use_scratch
from tinytl.memory.gpu_workspaces import (
    Workspaces,
    compared,
    constant_workspaces,
    known_workspaces,
    use_workspaces,
    workspaces,
)
from tinytl.memory.measure import PeakMeter, cublas_workspace_bytes
from tinytl.memory.prediction import MemoryPrediction
from tinytl.networks.stored_weights import stored_weights
from tinytl.networks.update_scheme import Part, last_parts, layers_of, scheme_of
from tinytl.step_time.calibration import known_step_times, step_times, use_step_times
from tinytl.step_time.step_times import StepTimes
from tinytl.training.captured_step import planned_step
from tinytl.training.mixed_precision import MixedPrecision, backends_restored
from tinytl.training.step import InputNormalizer, build_optimizer, random_batch
from tinytl.training.weight_average import WeightAverage

MOST_STEPS = 1 << 16
"""The largest batch that `max_batch_size` tries."""

WORTH_A_PROCESS = 6
"""Predictions that need as much time as starting a process."""

_SAID_BY_THE_SCHEME = [name for name in SPARSE_FIELDS if name != "update_scheme"]
_WITHOUT_EFFECT = {
    name: getattr(TrainConfig(), name) for name in (*FIELDS_WITHOUT_MEMORY, *_SAID_BY_THE_SCHEME)
} | {"weights": "none"}


def predict_memory(config: TrainConfig) -> MemoryPrediction:
    """Predicts the peak of a steady-state training step of `config` (`num_classes` set), in about a second.

    The plan of `config` sets its open choices. Results are cached by the fields on which memory depends. On a
    GPU the workspaces of its libraries count (`gpu_workspaces`), and what its kernels allocate inside
    (`gpu_scratch`), if a GPU was asked for them. A GPU that is here is asked in 10 to 20 s.

    Raises:
        ConfigError: for `num_classes` unset, `n_groups` that does not divide (naming the block), a budget
            that nothing fits, or an operation of the network that does not run on fake tensors.
    """
    planned = resolve_plan(config)
    found, key = _workspaces(planned), _key(planned)
    predict_steps([key])
    if found is None:
        return PREDICTED[key]
    of_recordings = found.cublas_mib if is_recorded(planned) else 0.0  # their stream has one of its own
    return PREDICTED[key].with_workspaces(found.total_mib + of_recordings)


def predict_ahead(configs: Iterable[TrainConfig]) -> None:
    """Makes the predictions of planned configurations that will be asked for, so that a GPU is asked for what
    only a GPU can say of all of them at once. Does nothing if no GPU is asked.

    Raises:
        ConfigError: as `predict_memory`.
    """
    predict_steps([key for key in map(_key, configs) if key.by_call])


def _workspaces(config: TrainConfig) -> Workspaces | None:
    if planned_device(config.device).type == "cpu":
        return None
    return workspaces(config.precision)


def workspaces_for_another_machine(precision: str) -> Workspaces | None:
    """Returns what the libraries of this machine's GPU hold in steps of that precision, as constants; None if
    the GPU cannot say it.
    """
    return constant_workspaces(precision, _measure_workspaces)


def _measure_workspaces(precision: str) -> Workspaces:
    return compared(precision, measure_memory, lambda config: predict_tensors(config).peak_mib)


def predict_memories(configs: Sequence[TrainConfig], processes: int | None = None) -> list[MemoryPrediction]:
    """Predicts several configurations, each in one of `processes` (default: one per core, at most 8).

    A process needs some seconds to start, so a few predictions are made in this one, one after the other. So
    are all if processes cannot start (a script needs `if __name__ == "__main__":` for that).

    Raises:
        ConfigError: as `predict_memory` does, for any of them.
    """
    missing = [c for c in dict.fromkeys(configs) if not is_planned(c) or not is_predicted(_key(c))]
    processes = min(processes or os.cpu_count() or 1, 8, len(missing) // WORTH_A_PROCESS)
    if processes > 1:
        spawn = multiprocessing.get_context("spawn")
        try:
            for config in missing:  # not measured in each of them, side by side
                _workspaces(config)
                step_times(device=planned_device(config.device).type)
            scratch = known_scratch() if known_workspaces() else {}  # a CPU's predictions touch no GPU
            known = (known_step_times(), known_workspaces(), scratch)
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
    times: dict[tuple[str, int], StepTimes], found: dict[str, Workspaces], scratch: dict[str, int]
) -> None:
    """Begins a process that predicts."""
    torch.set_num_threads(1)
    for (device, threads), of_device in times.items():
        use_step_times(of_device, threads, device)
    use_workspaces(found)
    use_scratch(scratch)


def _predict_elsewhere(config: TrainConfig, scratch: dict[str, int]) -> dict[StepKey, MemoryPrediction]:
    """Returns all predictions of this process, those of its plans included, so that none is repeated."""
    use_scratch(scratch)
    predict_memory(config)
    return PREDICTED


def _key(config: TrainConfig) -> StepKey:
    """Returns a planned configuration without the fields that do not affect its memory."""
    method = "FT-Full" if config.method == "Scratch" else config.method  # the same from other weights
    recorded, found = is_recorded(config), _workspaces(config)
    bare = dataclasses.replace(
        config,
        plan="fast",
        budget_mib=None,
        **_WITHOUT_EFFECT,
        method=method,
        cuda_graph=recorded,
        mixup_alpha=float(config.mixes_pictures),  # whichever mixes, and however much
        cutmix_alpha=0.0,
        weight_average=0.5 if config.weight_average else 0.0,  # whatever its decay
    )
    return StepKey(bare, by_call=found is not None and found.cudnn_mib is None)


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
    assert config.budget_mib is not None
    return filled(config, order, config.budget_mib, lambda planned: predict_memory(planned).peak_mib)


def filled_as(other: TrainConfig, config: TrainConfig, order: Sequence[Part]) -> TrainConfig:
    """Returns `config` with a scheme of as many parts, in their order, as need no more memory than `other`.

    If that has less than one part, it trains what `other` does.
    """

    def peak_of(planned: TrainConfig) -> float:
        return predict_memory(planned).peak_mib

    try:
        return filled(config, order, least_of(other, peak_of), peak_of)
    except UnderFloorError:  # less than a part of one convolution
        return dataclasses.replace(config, update_scheme=other.update_scheme)


def resolve_plan(config: TrainConfig) -> TrainConfig:
    """Returns `config` with `PLANNED_FIELDS` as its plan sets them.

    Raises:
        ConfigError: if nothing fits `budget_mib`, naming the least that the configuration needs.
    """
    config = with_scheme(config)
    if is_planned(config) and config.plan != "budget":
        return config

    _look_ahead(config)
    try:
        return resolve(config, needs_of)
    except UnderFloorError as error:
        raise ConfigError(f"{error}, {predict_memory(error.smallest).what_sets_it()}") from None


def _look_ahead(config: TrainConfig) -> None:
    """Lets a GPU be asked at once for all choices that the plan of `config` will compare."""
    if config.plan != "smallest" and len(formats(config)) > 1:
        predict_ahead(formats(config))
    if config.plan == "smallest" or (config.plan == "budget" and not _fits_fast(config)):
        predict_ahead(choices(config))


def _fits_fast(config: TrainConfig) -> bool:
    """Whether the fastest way to run a configuration fits its budget."""
    assert config.budget_mib is not None
    fast = resolve(dataclasses.replace(config, plan="fast", budget_mib=None), needs_of)
    return predict_memory(fast).peak_mib <= config.budget_mib


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
        update_scheme=None,
        mixup_alpha=0.0,
        cutmix_alpha=0.0,
        weight_average=0.0,
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
    average = WeightAverage(net, config)
    batch = (images, labels, *average.tensors)
    step(images, labels)
    with PeakMeter(net, optimizer, batch, recorded=is_recorded(config)) as meter:
        step(images, labels)
        average.update()
    return meter.peak_mib


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
