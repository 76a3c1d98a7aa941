"""Peak memory of a training step, predicted by running the step on fake tensors.

A dispatch mode follows every storage from its allocation to its release. Nothing is computed and no weight
is read, so a prediction depends on the configuration alone.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import torch

from tinytl.config.names import FIELDS_WITHOUT_MEMORY, SPARSE_FIELDS
from tinytl.config.plan import (
    Needs,
    UnderFloorError,
    choices,
    formats,
    is_planned,
    is_recorded,
    resolve,
)
from tinytl.config.train_config import TrainConfig
from tinytl.device import planned_device
from tinytl.errors import ConfigError
from tinytl.memory.fill_budget import check_floor, filled, is_open, least_of
from tinytl.memory.followed_steps import PREDICTED, StepKey, predict_steps
from tinytl.memory.gpu_workspaces import (
    Workspaces,
    workspaces,
)
from tinytl.memory.prediction import MemoryPrediction
from tinytl.networks.update_scheme import Part, last_parts, layers_of, scheme_of
from tinytl.step_time.calibration import step_times

_SAID_BY_THE_SCHEME = [name for name in SPARSE_FIELDS if name != "update_scheme"]
WITHOUT_EFFECT = {
    name: getattr(TrainConfig(), name) for name in (*FIELDS_WITHOUT_MEMORY, *_SAID_BY_THE_SCHEME)
} | {"weights": "none"}
"""What a step is predicted with instead of the fields that change nothing of its memory."""


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
    found, key = workspaces_of(planned), step_key(planned)
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
    predict_steps([key for key in map(step_key, configs) if key.by_call])


def workspaces_of(config: TrainConfig) -> Workspaces | None:
    """Returns what the libraries of a configuration's GPU hold beside a step; None on a CPU."""
    if planned_device(config.device).type == "cpu":
        return None
    return workspaces(config.precision)


def step_key(config: TrainConfig) -> StepKey:
    """Returns a planned configuration without the fields that do not affect its memory."""
    method = "FT-Full" if config.method == "Scratch" else config.method  # the same from other weights
    recorded, found = is_recorded(config), workspaces_of(config)
    bare = dataclasses.replace(
        config,
        plan="fast",
        budget_mib=None,
        **WITHOUT_EFFECT,
        method=method,
        cuda_graph=recorded,
        mixup_alpha=float(config.mixes_pictures),  # whichever mixes, and however much
        cutmix_alpha=0.0,
        weight_average=0.5 if config.weight_average else 0.0,  # whatever its decay
    )
    threads = torch.get_num_threads() if planned_device(config.device).type == "cpu" else 0
    return StepKey(bare, by_call=found is not None and found.cudnn_mib is None, threads=threads)


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


def check_budget(config: TrainConfig) -> None:
    """Checks that a budget which decides how much trains holds anything, before images are looked at.

    Raises:
        ConfigError: if not even one part of one convolution fits.
    """
    assert config.budget_mib is not None
    check_floor(
        config, last_parts(config), config.budget_mib, lambda planned: predict_memory(planned).peak_mib
    )


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

    The machine is measured if the time is looked at: that raises `ConfigError` for a file of times that is
    none.

    Raises:
        ConfigError: as `predict_memory`.
    """
    prediction = predict_memory(dataclasses.replace(choice, plan="fast", budget_mib=None))
    device = planned_device(choice.device).type
    return Needs(prediction.peak_mib, lambda: step_times(device=device).seconds(prediction.work))
