"""Configurations that a study tries before any that its sampler proposes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import yaml

from search_spaces.space import SearchSpace
from tinytl.config.flags import parse_field
from tinytl.config.flat import FIELD_ALIASES, field_names, flat_from_config, with_defaults
from tinytl.config.method_aliases import own_name
from tinytl.config.names import LITE_RATIO
from tinytl.config.plan import PLANNED_FIELDS
from tinytl.config.train_config import TrainConfig
from tinytl.errors import ConfigError, choose
from tuner.prepared import StartingPoint
from tuner.record.reading import open_study
from tuner.record.trials import BASELINE
from tuner.trial_config import OF_THE_STUDY, trial_config

OF_A_WHOLE_FILE = {"dataset", "epochs", "seed", "device"}
"""Fields that a trial's `config.yaml` has in every version, and that a list of searched values has not."""


def baselines(space: SearchSpace) -> list[StartingPoint]:
    """Returns the points that the space itself names."""
    named = space.baselines.items()
    return [StartingPoint(dict(point), f"{BASELINE} {name}") for name, point in named]


def points_of_file(path_text: str, space: SearchSpace, base: TrainConfig) -> list[StartingPoint]:
    """Returns the configurations in a YAML file: one, or a list; whole ones such as a trial's `config.yaml`,
    or the searched values alone.

    Raises:
        ConfigError: naming file, configuration and value, if a value is not in the space.
    """
    path = Path(path_text)
    if not path.is_file():
        raise ConfigError(f"--from-config {path_text}: no such file")
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"--from-config {path}: not YAML ({' '.join(str(error).split())})") from None
    entries = content if isinstance(content, list) else [content]
    if not entries or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigError(
            f"--from-config {path}: expected `field: value` lines, or a list of such configurations"
        )
    several = len(entries) > 1
    found = []
    for index, entry in enumerate(entries, 1):
        place = f"--from-config {path}" + (f", configuration {index}" if several else "")
        point = _point(entry, space, base, place)
        found.append(StartingPoint(point, f"file {path.resolve()}: {json.dumps(point, sort_keys=True)}"))
    return found


def front_of(
    name: str, runs_dir: str, storage: str | None, space: SearchSpace, seed: int
) -> tuple[list[StartingPoint], list[str]]:
    """Returns the front of another study as points of `space`, and a line for each value that does not fit.

    What the other study did not search is drawn at random.

    Raises:
        ConfigError: if there is no such study, or it has no complete trial.
    """
    front = open_study(name, runs_dir, storage).front
    if not front:
        raise ConfigError(f"--warm-start {name}: that study has no complete trial yet")
    points, left_out = [], []
    drawn = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    for result in front:
        known = {parameter.name: parameter for parameter in space.parameters}
        kept = {}
        for key, value in result.params.items():
            if key not in known:
                left_out.append(f"{result.name}: {key} is not searched here")
            elif not known[key].contains(value):
                left_out.append(f"{result.name}: {key} {value} is outside {known[key].describe()}")
            else:
                kept[key] = value
        if not kept:
            continue
        drawn.enqueue_trial(kept)
        trial = drawn.ask()
        space.sample_trial(trial)
        points.append(StartingPoint(trial.params, f"{result.name} of study {name}"))
    return points, left_out


def _point(entry: Mapping[Any, Any], space: SearchSpace, base: TrainConfig, place: str) -> dict[str, Any]:
    """Returns the searched values of a configuration; its other values must be those of the study."""
    shared = flat_from_config(base) | dict(space.fixed)
    known = {parameter.name: parameter for parameter in space.parameters}
    values: dict[str, Any] = {}
    for given, raw in entry.items():
        try:
            key = choose("field", FIELD_ALIASES.get(str(given), str(given)), field_names())
            value = parse_field(key, raw) if isinstance(raw, str) else raw
        except ConfigError as error:
            raise ConfigError(f"{place}: {error}") from None
        value = tuple(value) if isinstance(value, list) else value
        values[key] = own_name(str(value)) if key == "method" else value
    if values.keys() >= OF_A_WHOLE_FILE:  # a field that an older version did not have yet had its default
        defaults = with_defaults({})
        values = {name: defaults[name] for name in known} | values
    point: dict[str, Any] = {}
    # A whole configuration also has values without effect, such as the rate of a group that its method does
    # not have: they are left out.
    for parameter in space.parameters:
        if parameter.name in values and parameter.active(dict(space.fixed) | point):
            point[parameter.name] = parameter.spelled(values[parameter.name])
    problem = space.problem(point)
    if problem:
        raise ConfigError(f"{place}: {problem}")
    settled = set(OF_THE_STUDY) | set(PLANNED_FIELDS)
    for key, value in values.items():
        if key in known or key in settled or key not in shared:
            continue
        if key == "update_scheme" and shared[key] is None:  # it follows from the other fields
            continue
        if key == LITE_RATIO:
            trained = trial_config(base, dict(space.fixed) | point)
            same = trained.lite_ratio(value) == trained.lite_ratio(shared[key])
        else:
            same = shared[key] == value
        if not same:
            raise ConfigError(
                f"{place}: {key} is {value}, and {shared[key]} in this study: add --set {key}={value}, or "
                "leave it out"
            )
    return point
