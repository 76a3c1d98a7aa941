"""A search space: parsed from YAML, checked, narrowed, sampled. A user's file works like those here.

Imports optuna only to sample: an error or a list of the spaces does not wait for it.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from search_spaces.values import Choices, Range, Scalar, SpaceError, Values, read_values

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.distributions import BaseDistribution

FOLDER = Path(__file__).parent
_SPACE_KEYS = ("description", "fixed", "parameters", "baselines")
_RANGE_KEYS = ("low", "high", "log", "step", "when")
_CHOICE_KEYS = ("choices", "when")


@dataclass(frozen=True)
class Parameter:
    """One searched parameter: its values, and the values of others under which it exists."""

    name: str
    values: Values
    when: Mapping[str, tuple[Scalar, ...]]

    @property
    def distribution(self) -> BaseDistribution:
        """What Optuna samples from."""
        return self.values.distribution()

    def active(self, values: Mapping[str, Any]) -> bool:
        """Whether the parameter exists with these `values` of the parameters before it."""
        return all(
            key in values and any(_same(values[key], value) for value in allowed)
            for key, allowed in self.when.items()
        )

    @property
    def varies(self) -> bool:
        """Whether there is more than one value to choose from."""
        return isinstance(self.values, Range) or len(self.values.choices) > 1

    def contains(self, value: Any) -> bool:
        """Whether `value` can be sampled."""
        return self.values.contains(value)

    def spelled(self, value: Any) -> Any:
        """Returns a value as the choices spell it: `TinyTL-B` for `tinytl-b`."""
        choices = self.values.choices if isinstance(self.values, Choices) else ()
        return next((choice for choice in choices if _same(value, choice)), value)

    def describe(self) -> str:
        """Returns the range or the choices as a reader would write them.

        A study records this text, and a resume compares it: with other words no older study would resume.
        """
        conditions = " and ".join(f"{key} is {' or '.join(map(str, v))}" for key, v in self.when.items())
        return f"{self.values.describe()} (where {conditions})" if conditions else self.values.describe()


@dataclass(frozen=True)
class SearchSpace:
    """Fixed values, searched parameters in order, and named baselines that are tried first."""

    name: str
    description: str
    fixed: Mapping[str, Scalar]
    parameters: tuple[Parameter, ...]
    baselines: Mapping[str, Mapping[str, Scalar]]

    def sample(self, suggest: Callable[[Parameter], Any]) -> dict[str, Any]:
        """Returns a whole configuration: fixed values, and `suggest`'s value for each active parameter."""
        values: dict[str, Any] = dict(self.fixed)
        for parameter in self.parameters:
            if parameter.active(values):
                values[parameter.name] = suggest(parameter)
        return values

    def sample_trial(self, trial: Trial) -> dict[str, Any]:
        """Samples through an optuna trial; the sampler sees each parameter."""
        return self.sample(lambda parameter: _suggest(trial, parameter))

    def product(self, candidates: Callable[[Parameter], Sequence[Any]]) -> Iterator[dict[str, Any]]:
        """Yields every configuration in which each active parameter has one of its `candidates`."""

        def extend(values: dict[str, Any], rest: tuple[Parameter, ...]) -> Iterator[dict[str, Any]]:
            if not rest:
                yield values
            elif not rest[0].active(values):
                yield from extend(values, rest[1:])
            else:
                for candidate in candidates(rest[0]):
                    yield from extend(values | {rest[0].name: candidate}, rest[1:])

        return extend(dict(self.fixed), self.parameters)

    def narrowed(self, settings: Mapping[str, Scalar | list[Scalar]]) -> SearchSpace:
        """Returns the space with names fixed to a value or, for a list, with only these choices.

        A baseline gets the fixed values, and the nearest of given choices; one that is no longer in the space
        is left out.

        Raises:
            SpaceError: for a list, if the space does not search the name.
        """
        searched = {parameter.name: parameter for parameter in self.parameters}
        fixed = dict(self.fixed)
        for name, value in settings.items():
            if isinstance(value, list) or (name in searched and searched[name].when):
                # A parameter with a condition keeps it: it is fixed if it exists, else absent.
                value = value if isinstance(value, list) else [value]
                if name not in searched:
                    given = ",".join(map(str, value))
                    raise SpaceError(
                        f"--set {name}={given}: {self.name} does not search {name}; give one value"
                    )
                searched[name] = dataclasses.replace(searched[name], values=Choices(tuple(value)))
            else:
                searched.pop(name, None)
                fixed[name] = value
        parameters = tuple(searched[p.name] for p in self.parameters if p.name in searched)
        space = dataclasses.replace(self, fixed=fixed, parameters=parameters, baselines={})
        baselines: dict[str, Mapping[str, Scalar]] = {}
        for name, point in self.baselines.items():
            kept = {
                key: _nearest(value, settings.get(key)) for key, value in point.items() if key in searched
            }
            kept = {p.name: kept[p.name] for p in space.active_parameters(kept) if p.name in kept}
            if not space.problem(kept) and kept not in baselines.values():
                baselines[name] = kept
        return dataclasses.replace(space, baselines=baselines)

    def active_parameters(self, point: Mapping[str, Any]) -> list[Parameter]:
        """Returns the parameters that exist with the values of `point` and the fixed ones."""
        values = dict(self.fixed) | dict(point)
        return [parameter for parameter in self.parameters if parameter.active(values)]

    def problem(self, point: Mapping[str, Any]) -> str | None:
        """Returns what is wrong with a point of searched values, or None if it lies in the space."""
        known = {parameter.name for parameter in self.parameters}
        for key in point:
            if key not in known:
                return f"{key} is not searched" + (
                    ", it is fixed" if key in self.fixed else f";{_near(key, known)}"
                )
        active = self.active_parameters(point)
        for parameter in active:
            if parameter.name not in point:
                return f"{parameter.name} is missing"
            if not parameter.contains(point[parameter.name]):
                return f"{parameter.name}: {point[parameter.name]} is outside {parameter.describe()}"
        extra = point.keys() - {parameter.name for parameter in active}
        return f"{min(extra)} does not exist beside its other values" if extra else None


def list_spaces() -> list[str]:
    """Returns the names of the spaces that come with the project."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_space(name_or_file: str) -> SearchSpace:
    """Loads a space by name, or by the path of a YAML file.

    Raises:
        SpaceError: for an unknown name (with the nearest) or a mistake in the file.
    """
    path = space_path(name_or_file)
    try:
        content = yaml.load(path.read_text(), _Loader)
    except OSError as error:
        raise SpaceError(f"--space {name_or_file}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # `!!int abc`, 10,000 brackets
        raise SpaceError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    return parse_space(content, path.stem, str(path))


def space_path(name_or_file: str) -> Path:
    """Returns the file of a space given by name or by path.

    Raises:
        SpaceError: if there is none, with the nearest name; for a file of another kind.
    """
    path = Path(name_or_file)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise SpaceError(f"--space {name_or_file}: no such file")
        return path
    if name_or_file not in list_spaces():
        if path.is_file():
            raise SpaceError(
                f"--space {name_or_file}: not a YAML file of a space (its name would end in .yaml); "
                f"known spaces: {', '.join(list_spaces())}"
            )
        raise SpaceError(
            f"unknown space {name_or_file!r}:{_near(name_or_file, list_spaces())} known: "
            f"{', '.join(list_spaces())}, or a file ending in .yaml"
        )
    return FOLDER / f"{name_or_file}.yaml"


def parse_space(content: Any, name: str, place: str) -> SearchSpace:
    """Checks what was read from a file called `place` and returns the space.

    Raises:
        SpaceError: naming the place and the mistake.
    """
    content = _mapping(content, place)
    _check_keys(content, _SPACE_KEYS, place)
    fixed = _mapping(content.get("fixed") or {}, f"{place}: fixed")
    raw_parameters = _mapping(content.get("parameters") or {}, f"{place}: parameters")
    if not raw_parameters:
        raise SpaceError(f"{place}: no parameters to search")
    parameters: list[Parameter] = []
    for key, raw in raw_parameters.items():
        if key in fixed:
            raise SpaceError(f"{place}: {key} is both fixed and searched; keep one")
        before = {p.name: p for p in parameters}
        parameters.append(_parameter(key, raw, fixed, before, f"{place}: {key}"))
    description = str(content.get("description", ""))
    baselines = _mapping(content.get("baselines") or {}, f"{place}: baselines")
    space = SearchSpace(name, description, fixed, tuple(parameters), baselines)
    spelled = {}
    for baseline, point in baselines.items():
        where = f"{place}: baseline {baseline}"
        problem = space.problem(_mapping(point, where))
        if problem:
            raise SpaceError(f"{where}: {problem}")
        searched = {parameter.name: parameter for parameter in parameters}
        spelled[baseline] = {key: searched[key].spelled(value) for key, value in point.items()}
    return dataclasses.replace(space, baselines=spelled)


def _parameter(
    name: str, raw: Any, fixed: Mapping[str, Any], before: Mapping[str, Parameter], place: str
) -> Parameter:
    raw = _mapping(raw, place)
    _check_keys(raw, _CHOICE_KEYS if "choices" in raw else _RANGE_KEYS, place)
    when = {}
    for key, value in _mapping(raw.get("when") or {}, f"{place}: when").items():
        if key not in before and key not in fixed:
            near = _near(key, before.keys() | fixed.keys())
            raise SpaceError(f"{place}: when {key}: {key} is neither fixed nor searched above;{near}")
        when[key] = tuple(value) if isinstance(value, list) else (value,)
        for wanted in when[key]:
            if key in before and not before[key].contains(wanted):
                raise SpaceError(f"{place}: when {key}: {wanted} is outside {before[key].describe()}")
    return Parameter(name, read_values(raw, place), when)


def _suggest(trial: Trial, parameter: Parameter) -> Any:
    name, values = parameter.name, parameter.values
    if isinstance(values, Choices):
        return trial.suggest_categorical(name, values.choices)
    if values.whole:
        low, high, step = int(values.low), int(values.high), int(values.step or 1)
        return trial.suggest_int(name, low, high, step=step, log=values.log)
    return trial.suggest_float(name, values.low, values.high, step=values.step, log=values.log)


def _nearest(value: Any, choices: Any) -> Any:
    """Returns the choice nearest to a number; `value` itself if there are no numbers to choose from."""
    if isinstance(value, (int, float)) and isinstance(choices, list):
        numbers = [choice for choice in choices if isinstance(choice, (int, float))]
        return min(numbers, key=lambda choice: abs(choice - value), default=value)
    return value if choices is None or isinstance(choices, list) else choices


def _same(a: Any, b: Any) -> bool:
    """Equality in which 1 is 1.0 but true is not 1, and names match in any case."""
    if isinstance(a, str) and isinstance(b, str):
        return a.lower() == b.lower()
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


def _mapping(content: Any, place: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise SpaceError(f"{place}: expected 'key: value' lines, found {type(content).__name__}")
    return {str(key): value for key, value in content.items()}


def _check_keys(content: Mapping[str, Any], known: Sequence[str], place: str) -> None:
    for key in content:
        if key not in known:
            raise SpaceError(f"{place}: unknown key {key!r}:{_near(key, known)} known: {', '.join(known)}")


def _near(name: str, known: Sequence[str] | set[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" did you mean {near[0]!r}?" if near else ""


class _Loader(yaml.SafeLoader):
    """YAML as people write it: 1e-4 is a number (YAML 1.1 reads text), and a key given twice is a mistake."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuses a key that is given twice."""
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node.value, str):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key is a list or a mapping, not a name", key_node.start_mark
                )
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key_node.value!r} is given twice", key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^none$", re.IGNORECASE), list("nN"))
