"""A run's folder, read for figures without torch."""

import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinytl.config.flat import flat_from_config
from tinytl.errors import ConfigError
from tinytl.runs.directory import RunDirectory, read_config_file


@dataclass(frozen=True, kw_only=True)
class EpochRows:
    """The lines of a run's `metrics.jsonl`."""

    rows: tuple[Mapping[str, Any], ...]
    """In order of epoch, each epoch once."""
    damaged: tuple[str, ...]
    """For each line that is left out, its place and what is wrong with it."""
    cut_off: bool
    """Whether a kill cut the last line off, so that it is left out."""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run of `python -m tinytl train`."""

    folder: Path
    epochs: tuple[Mapping[str, Any], ...]
    """The lines of its metrics in order of epoch, at least one."""
    result: Mapping[str, Any] | None
    """None: the run has not finished."""
    config: Mapping[str, Any]
    """Flat; empty if the folder has none (unfinished, without a config.yaml)."""
    note: str | None = None
    """Notes for the reader of the figures."""

    def series(self, key: str) -> list[float]:
        """Returns the metric `key` of each epoch; NaN if it is missing or not finite."""
        return [_finite(row.get(key)) for row in self.epochs]

    @property
    def epoch_numbers(self) -> list[int]:
        """The number of each epoch, from 1."""
        return [row["epoch"] for row in self.epochs]


def read_run(folder: Path) -> RunRecord:
    """Reads a run's folder, finished or not.

    A last line that was cut off is left out, with a note (see `read_epochs`).

    Raises:
        ConfigError: if the folder is not a run's, holds no epoch, or a file is damaged.
    """
    files = RunDirectory(folder)
    metrics = files.metrics_file
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder")
    if not metrics.is_file():
        raise ConfigError(f"{folder} holds no {metrics.name}: name a folder that `tinytl train --out` wrote")
    epochs = read_epochs(metrics)
    if epochs.damaged:
        raise ConfigError(epochs.damaged[0])
    if not epochs.rows:
        raise ConfigError(f"{metrics} holds no whole epoch yet: wait for the first to end")
    result = _read_result(files.result_file)
    config = result["config"] if result else _read_config(files.config_file)
    return RunRecord(
        folder=folder,
        epochs=epochs.rows,
        result=result,
        config=config,
        note=f"{metrics}: the last line is cut off and left out" if epochs.cut_off else None,
    )


def read_epochs(metrics: Path) -> EpochRows:
    """Reads a run's metrics, in any state. Every reader of a run sees these epochs.

    A resumed run drops the lines after its checkpoint's epoch and trains those epochs again. If an epoch is
    still there twice, its last line counts: it belongs to the weights that training continued with.

    Raises:
        OSError: if `metrics` cannot be read.
    """
    by_epoch: dict[int, Mapping[str, Any]] = {}
    damaged: list[str] = []
    cut_off = False
    lines = metrics.read_text(encoding="utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = _parse_epoch(line, f"{metrics}, line {number}")
        except ConfigError as error:
            if number == len(lines):
                cut_off = True
            else:
                damaged.append(str(error))
            continue
        by_epoch[row["epoch"]] = row
    rows = tuple(by_epoch[epoch] for epoch in sorted(by_epoch))
    return EpochRows(rows=rows, damaged=tuple(damaged), cut_off=cut_off)


def seconds_per_epoch(rows: Iterable[Mapping[str, Any]]) -> float | None:
    """Returns the median time of the epochs that computed all their features; None if none of them did.

    An epoch that read some that another run had left (`tinytl.features`) was faster than training is.
    """
    seconds = [row["epoch_time_s"] for row in rows if not row.get("features_read")]
    return statistics.median(seconds) if seconds else None


def _parse_epoch(line: str, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        raise ConfigError(f"{place}: not JSON") from None
    if not isinstance(row, dict) or type(row.get("epoch")) is not int:
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
