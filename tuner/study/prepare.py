"""Everything that can be wrong with a study is found here, before a trial starts and anything is written.

Cheap checks come first: names, ranges and folders without torch, then images, then weights and memory.
"""

import dataclasses
import datetime
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from search_spaces.space import SearchSpace, load_space
from search_spaces.values import SpaceError
from tinytl.config.plan import PLANNED_FIELDS, Plan, UnderFloorError, fastest_within, least_within
from tinytl.config.train_config import TrainConfig
from tinytl.data.load import check_data_dir, download_dataset, load_dataset
from tinytl.errors import ConfigError
from tinytl.features.limit import most_stored_bytes
from tinytl.library_pages import release_library_pages
from tinytl.networks.own_resolution import at_own_resolution
from tinytl.passwords import without_password
from tinytl.plural import counted
from tinytl.runs.class_skew import check_metric
from tinytl.runs.directory import with_whole_paths
from tinytl.runs.tensorboard import check_tensorboard
from tuner.bucket.copies import copy_of
from tuner.config import StudyConfig, check_study_name
from tuner.prepared import PreparedStudy, StartingPoint, folder_of
from tuner.record.journal import journal_of
from tuner.study import machine_times
from tuner.study.resuming import check_same_study, study_to_resume
from tuner.study.server_checks import check_servers
from tuner.study.starting_points import front_of, points_of_file
from tuner.terminal.notice import Notice, no_notice
from tuner.trial.system_metrics import check_psutil, is_asked_for
from tuner.trial_config import (
    base_config,
    check_space,
    largest_resolution,
    lite_geometries,
    memory_varies,
    parse_settings,
    smallest_configs,
)

if TYPE_CHECKING:
    from tinytl.networks.backbones.weights import Weights


def prepare(
    config: StudyConfig,
    now: datetime.datetime,
    on_sound: Callable[[], None] | None = None,
    notice: Notice = no_notice,
) -> PreparedStudy:
    """Checks a study and loads its data.

    `on_sound` is called once nothing but images, weights and memory is left to check: Ray may start. It is
    not called if this machine is to be measured first, as nothing may run beside that.
    `notice` is called with each slow step as it begins.

    Raises:
        ConfigError: one line that says what is wrong and what to do.
    """
    space, base = read_space(config)
    if not config.download:
        check_data_dir(base)
    name = config.name or f"{space.name}-{now:%Y%m%d-%H%M%S}"
    check_study_name(name)
    check_servers(config)
    most_stored_bytes()  # a trial would find a bad value too late
    _check_runs_dir(config)
    _check_recorders(config)
    resumed = study_to_resume(config, name)
    given, notes = _starting_points(config, space, base)
    if not any(parameter.varies for parameter in space.parameters):
        raise ConfigError(f"space {space.name}: --set leaves nothing to search")
    if config.download:
        download_dataset(base, notice)
        check_data_dir(base)
    folder = folder_of(config, name)
    if on_sound is not None and machine_times.is_known(folder):
        on_sound()
    base = _at_own_resolution(space, base)
    data = load_dataset(base, largest_resolution(space, base), report=notice, notice=notice)
    check_metric(data, base.metric)
    base = dataclasses.replace(base, num_classes=len(data.classes))
    notice("reading weights")
    _check_device(config, base)
    _check_lite_residuals(space, base)
    weights = _read_weights(space, base)
    release_library_pages()
    machine_times.use_times(folder)
    from tinytl.device import with_threads

    if config.memory_budget_mib is not None:
        notice("predicting memory")
    with with_threads(1):  # as a trial on a CPU has
        _check_budget(config, space, base)
    base = with_whole_paths(base)  # a study is resumed from any folder
    prepared = PreparedStudy(
        config,
        name,
        space,
        base,
        data,
        weights,
        memory_varies(space),
        tuple(given),
        (*filter(None, [data.account]), *_advice(space), *notes, *left_aside(config, os.environ)),
    )
    if resumed is not None:
        check_same_study(prepared, resumed)
    return prepared


def _advice(space: SearchSpace) -> list[str]:
    """Returns a line if a space searches what a trial's plans have anyway."""
    searched = [parameter.name for parameter in space.parameters if parameter.name in PLANNED_FIELDS]
    if not searched:
        return []
    names = " and ".join(searched)
    return [
        f"Space {space.name} searches {names}, which changes no gradient: leave it out, and the memory of a "
        "trial is the least of all its plans."
    ]


OPEN = {name: getattr(TrainConfig(), name) for name in PLANNED_FIELDS}
"""What leaves a plan's choices to it."""
NO_NETWORK_MIB = 1.0
"""The parameters of the smallest network alone need several times this."""
OF_OTHER_TOOLS = {
    "MLFLOW_TRACKING_URI": ("tracking_uri", "--tracking-uri"),
    "MLFLOW_EXPERIMENT_NAME": ("experiment", "--experiment"),
    "RAY_ADDRESS": ("address", "--address"),
}
"""Environment variables of MLflow and Ray, and the flags that say the same."""


def left_aside(config: StudyConfig, environment: Mapping[str, str]) -> list[str]:
    """Returns a line for each variable of MLflow's and Ray's that is set and that a study does not use.

    A study is resumed with what its flags said, on any machine: a variable could change that unseen.
    """
    return [
        f"{name} is set and left aside: {flag} {without_password(environment[name])} would use it"
        for name, (field, flag) in OF_OTHER_TOOLS.items()
        if environment.get(name) and getattr(config, field) is None
    ]


def read_space(config: StudyConfig) -> tuple[SearchSpace, TrainConfig]:
    """Returns the space of a study and what its trials share; reads nothing but the space's file.

    Raises:
        ConfigError: for a space or a setting that is impossible, or that the other excludes.
    """
    try:
        space = load_space(config.space).narrowed(parse_settings(config.settings))
    except SpaceError as error:
        raise ConfigError(str(error)) from None
    base = base_config(config, space)
    check_space(space, base)
    return space, base


def _at_own_resolution(space: SearchSpace, base: TrainConfig) -> TrainConfig:
    """Returns `base` at its network's own size if the space names no size and no other network."""
    searched = {parameter.name for parameter in space.parameters}
    if "backbone" in searched or "resolution" in searched | space.fixed.keys():
        return base
    backbone = str(space.fixed.get("backbone") or base.backbone)
    own = at_own_resolution(dataclasses.replace(base, backbone=backbone))
    return dataclasses.replace(base, resolution=own.resolution)


def _check_runs_dir(config: StudyConfig) -> None:
    folder = Path(config.runs_dir)
    copy = copy_of(folder)
    if copy is not None:
        copy.bucket.check_writable()
        return
    written = [journal_of(folder, config.name), folder / config.name] if config.resume and config.name else []
    for path in written:
        if path.exists() and not os.access(path, os.W_OK):
            raise ConfigError(
                f"--runs-dir {config.runs_dir}: {path} cannot be written: change its mode or owner"
            )
    nearest = next(parent for parent in (folder.resolve(), *folder.resolve().parents) if parent.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise ConfigError(f"--runs-dir {config.runs_dir}: {nearest} is not a folder that can be written to")


def _check_recorders(config: StudyConfig) -> None:
    if config.tensorboard:
        check_tensorboard()
    if is_asked_for(config.system_metrics):
        check_psutil()


def _read_weights(space: SearchSpace, base: TrainConfig) -> dict[str, "Weights"]:
    """Reads the weights of every backbone of the space, and checks that they fit it with every norm."""
    from tinytl.build import check_weights
    from tinytl.networks.backbones.weights import read_weights

    every = smallest_configs(space, base)
    smallest = [config for config in every if config.method != "Scratch"] or every  # Scratch has no weights
    found = {c.backbone: read_weights(c) for c in {c.backbone: c for c in smallest}.values()}
    checked = list({(c.backbone, c.norm): c for c in smallest}.values())
    if base.lite_weights is not None:
        checked += lite_geometries(space, base)
    for config in checked:
        check_weights(config, found[config.backbone])
    return found


def _check_lite_residuals(space: SearchSpace, base: TrainConfig) -> None:
    """Checks that the groups of every lite residual of the space divide its widths."""
    import torch

    from tinytl.networks.backbones import backbone_of
    from tinytl.networks.lite_residual import check_groups_of_net

    decisive = dict.fromkeys((c.backbone, c.n_groups, c.expand) for c in lite_geometries(space, base))
    with torch.device("meta"):
        nets = {backbone: backbone_of(backbone).build(2) for backbone, *_ in decisive}
    for backbone, n_groups, expand in decisive:
        try:
            check_groups_of_net(nets[backbone], n_groups, expand)
        except ConfigError as error:
            raise ConfigError(f"space {space.name}: {error} on {backbone}") from None


def _starting_points(
    config: StudyConfig, space: SearchSpace, base: TrainConfig
) -> tuple[list[StartingPoint], list[str]]:
    given: list[StartingPoint] = []
    notes: list[str] = []
    if config.from_config is not None:
        given += points_of_file(config.from_config, space, base)
    if config.warm_start is not None:
        points, left_out = front_of(config.warm_start, config.runs_dir, config.storage, space, config.seed)
        given += points
        notes.append(
            f"Warm start: {counted(len(points), 'configuration')} from the front of {config.warm_start}."
        )
        notes += [f"  left out: {text}" for text in left_out]
    return given, notes


def _check_device(config: StudyConfig, base: TrainConfig) -> None:
    """Checks that the device is here; the nodes of a cluster are checked there."""
    from tinytl.device import resolve_device

    if config.address is None:
        resolve_device(base.device)


def _check_budget(config: StudyConfig, space: SearchSpace, base: TrainConfig) -> None:
    flag, budget_mib = "--memory-budget-mib", config.memory_budget_mib
    of_plan = space.fixed.get("budget_mib")
    if budget_mib is None and isinstance(of_plan, (int, float)):
        flag, budget_mib = "budget_mib", of_plan
    elif budget_mib is not None and isinstance(of_plan, (int, float)) and budget_mib < of_plan:
        raise ConfigError(
            f"{flag} {budget_mib:g} is under the budget_mib {of_plan:g} for which space {space.name} plans "
            f"each trial: leave {flag} out, or give --set budget_mib={budget_mib:g}"
        )
    if budget_mib is None:
        return
    if budget_mib < NO_NETWORK_MIB:  # to predict the least of every configuration would need a minute
        raise ConfigError(f"{flag} {budget_mib:g}: no network trains within {NO_NETWORK_MIB:g} MiB")
    from tinytl.memory.curve import curve_under_plan
    from tinytl.memory.predict import predict_memory, with_scheme

    found = []
    for c in smallest_configs(space, base):
        if c.plan == "budget":  # raises for the first configuration that does not fit
            try:
                c = dataclasses.replace(with_scheme(c), plan="smallest", budget_mib=None)
            except UnderFloorError as error:
                c = error.smallest
        curve = curve_under_plan(c)
        least = least_within(curve, config.max_slowdown)
        if least.peak_memory_mib <= budget_mib:
            return
        found.append((c, curve, least))
    c, _, least = min(found, key=lambda one: one[2].peak_memory_mib)
    _check_pinned(c, least, space, config.max_slowdown, f"{flag} {budget_mib:g}")
    fitting = [plan for _, curve, _ in found if (plan := fastest_within(curve, budget_mib))]
    within = "" if math.isinf(config.max_slowdown) else f" within --max-slowdown {config.max_slowdown:g}"
    slowdown = min((plan.slowdown for plan in fitting), default=math.inf)
    remedy = f"; --max-slowdown {math.ceil(slowdown * 100) / 100:g} would fit" if fitting else ""
    raise ConfigError(
        f"{flag} {budget_mib:g} is under what every configuration of space {space.name} needs{within}: "
        f"the least is {least.peak_memory_mib:.1f} MiB ({c.method}, {c.norm}, {c.resolution} px, "
        f"batch {c.batch_size}, {least.describe()}), {predict_memory(least.of(c)).what_sets_it()}{remedy}"
    )


def _check_pinned(
    config: TrainConfig, least: Plan, space: SearchSpace, max_slowdown: float, budget: str
) -> None:
    """Says so if it is the plan that a space fixes which breaks a budget."""
    from tinytl.memory.curve import curve_under_plan

    fixed = {name: space.fixed[name] for name in PLANNED_FIELDS if name in space.fixed}
    if not fixed:
        return
    free = least_within(
        curve_under_plan(dataclasses.replace(config, **{name: OPEN[name] for name in fixed})), max_slowdown
    )
    if free.peak_memory_mib < least.peak_memory_mib:
        words = ", ".join(f"{name} {value}" for name, value in fixed.items())
        raise ConfigError(
            f"{budget} is under what every configuration of space {space.name} needs with the plan that it "
            f"fixes ({words}): the least is {least.peak_memory_mib:.1f} MiB; if the plan is left "
            f"open, it is {free.peak_memory_mib:.1f} ({free.describe()})"
        )
