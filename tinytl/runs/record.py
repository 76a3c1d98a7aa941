"""What a run left in its folder, read for figures; torch is not needed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinytl.config.flat import flat_from_config
from tinytl.errors import ConfigError
from tinytl.runs.directory import RunDirectory, read_config_file


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run of `python -m tinytl train`."""

    folder: Path
    epochs: tuple[Mapping[str, Any], ...]
    """The lines of its metrics in the order of their epochs, at least one."""
    result: Mapping[str, Any] | None
    """None: not finished."""
    config: Mapping[str, Any]
    """Flat; empty where the folder does not hold it (unfinished, without a config.yaml)."""
    note: str | None = None
    """What a reader of the figures should know."""

    def series(self, key: str) -> list[float]:
        """Returns the metric `key` of each epoch; NaN where it is missing or not finite."""
        return [_finite(row.get(key)) for row in self.epochs]

    @property
    def epoch_numbers(self) -> list[int]:
        """The number of each epoch, from 1."""
        return [row["epoch"] for row in self.epochs]


def read_run(folder: Path) -> RunRecord:
    """Reads a run's folder, finished or not.

    A last line that was cut off (a run killed while writing) is left out, with a note. Where an epoch stands
    twice (a run that went on from a checkpoint), its last line counts.

    Raises:
        ConfigError: where the folder is none of a run, holds no epoch, or a file is damaged.
    """
    files = RunDirectory(folder)
    metrics = files.metrics_file
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder")
    if not metrics.is_file():
        raise ConfigError(f"{folder} holds no {metrics.name}: name a folder that `tinytl train --out` wrote")
    *whole, last = metrics.read_text(encoding="utf-8", errors="replace").split("\n")
    rows = [_parse_epoch(line, f"{metrics}, line {n}") for n, line in enumerate(whole, 1) if line.strip()]
    note = None
    if last.strip():
        try:
            rows.append(_parse_epoch(last, str(metrics)))
        except ConfigError:
            note = f"{metrics}: the last line is cut off and left out"
    if not rows:
        raise ConfigError(f"{metrics} holds no whole epoch yet: wait for the first to end")
    by_epoch = {row["epoch"]: row for row in rows}
    result = _read_result(files.result_file)
    config = result["config"] if result else _read_config(files.config_file)
    return RunRecord(
        folder=folder,
        epochs=tuple(by_epoch[epoch] for epoch in sorted(by_epoch)),
        result=result,
        config=config,
        note=note,
    )


def _parse_epoch(line: str, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        raise ConfigError(f"{place}: not JSON") from None
    if not isinstance(row, dict) or not isinstance(row.get("epoch"), int):
        raise ConfigError(f"{place}: no `epoch` in it")
    return row


def _read_result(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ConfigError(f"{path}: not JSON") from None
    if not isinstance(result, dict) or not isinstance(result.get("config"), dict):
        raise ConfigError(f"{path}: no `config` in it")
    return result


def _read_config(path: Path) -> dict[str, Any]:
    return flat_from_config(read_config_file(path)) if path.is_file() else {}


def _finite(value: Any) -> float:
    number = float(value) if isinstance(value, (int, float)) else float("nan")
    return number if abs(number) != float("inf") else float("nan")
