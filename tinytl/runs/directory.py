"""The folder of a training run: what made it, what it measured, and where it resumes."""

import dataclasses
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from tinytl.config.flags import parse_field
from tinytl.config.flat import config_from_flat, flat_from_config
from tinytl.config.train_config import TrainConfig
from tinytl.config.weights_source import with_whole_path
from tinytl.errors import ConfigError
from tinytl.files import naming_the_file, try_lock, write_whole
from tinytl.passwords import without_passwords

COMMIT = "TINYTL_COMMIT"
"""Environment variable with the commit of a copy without history, such as a container's or a job's."""
_POLL_S = 0.2


class FolderInUseError(ConfigError):
    """Another process writes the folder of a run."""


class RunDirectory:
    """The files of a run: `config.yaml` and `environment.json` (what made it), `metrics.jsonl` (one line per
    epoch), `last.pt` and `best.pt` (checkpoints) and, at the end, `val_judgements.npz` (what the network says
    of each validation image) and `result.json`.

    Every file except `metrics.jsonl` is written under another name and renamed, so it is never partial.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_file = path / "config.yaml"
        self.metrics_file = path / "metrics.jsonl"
        self.result_file = path / "result.json"
        self.last = path / "last.pt"
        self.best = path / "best.pt"
        self.val_judgements = path / "val_judgements.npz"

    def check_is_free(self) -> None:
        """Raises ConfigError if a new run would overwrite another."""
        if self.path.is_file():
            raise ConfigError(f"--out {self.path} is a file: choose a folder")
        if self.result_file.exists():
            raise ConfigError(f"--out {self.path} holds a finished run: choose another folder")
        if self.last.exists():
            raise ConfigError(
                f"--out {self.path} holds an unfinished run: add --resume to continue it, or choose "
                "another folder"
            )

    def check_can_resume(self) -> None:
        """Raises ConfigError if there is nothing to resume."""
        if self.result_file.exists():
            raise ConfigError(f"--out {self.path} holds a finished run: nothing to resume")
        if not self.config_file.exists():
            raise ConfigError(f"--out {self.path} holds no run: leave out --resume to start one")

    def make(self) -> None:
        """Creates the folder if it is missing.

        Raises:
            ConfigError: if it cannot be created.
        """
        with naming_the_file(self.path):
            self.path.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def claimed(self, wait_s: float = 0) -> Iterator[None]:
        """Creates the folder, and locks it against other runs.

        Raises:
            FolderInUseError: if another run still writes it after `wait_s` seconds.
            ConfigError: if it cannot be created.
        """
        self.make()
        with naming_the_file(self.path):
            folder = os.open(self.path, os.O_RDONLY)
        try:
            give_up = time.monotonic() + wait_s
            while not try_lock(folder):
                if time.monotonic() >= give_up:
                    raise FolderInUseError(
                        f"--out {self.path} is being written by another run: choose another folder"
                    )
                time.sleep(_POLL_S)
            yield
        finally:
            os.close(folder)

    def start(self, config: TrainConfig, rows: Sequence[Mapping[str, Any]] = ()) -> None:
        """Writes what makes the run, and the metrics of finished epochs.

        Raises:
            ConfigError: if a file cannot be written, as in every method that writes.
        """
        self.write_config(config)
        write_whole(self.path / "environment.json", json.dumps(environment(), indent=2) + "\n")
        self.write_metrics(rows)

    def write_config(self, config: TrainConfig) -> None:
        """Writes what makes the run."""
        write_whole(self.config_file, config_text(config))

    def write_metrics(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes the metrics of the epochs so far."""
        write_whole(self.metrics_file, "".join(json.dumps(row) + "\n" for row in rows))

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Appends one epoch's line."""
        with naming_the_file(self.metrics_file), self.metrics_file.open("a") as lines:
            lines.write(json.dumps(row) + "\n")

    def finish(self, result: Mapping[str, Any]) -> None:
        """Writes the result."""
        write_whole(self.result_file, json.dumps(result, indent=2) + "\n")


def with_whole_paths(config: TrainConfig) -> TrainConfig:
    """Returns `config` so that it means the same in any folder."""
    return dataclasses.replace(
        config,
        data_dir=None if config.data_dir is None else str(Path(config.data_dir).expanduser().resolve()),
        exclude=None if config.exclude is None else str(Path(config.exclude).expanduser().resolve()),
        weights=with_whole_path(config.weights),
        lite_weights=None if config.lite_weights is None else with_whole_path(config.lite_weights),
    )


def config_text(config: TrainConfig) -> str:
    """Returns `config` as the YAML that `read_config_file` reads."""
    flat = {k: list(v) if isinstance(v, tuple) else v for k, v in flat_from_config(config).items()}
    comment = "# Runs again with: python -m tinytl train --config THIS_FILE --out NEW_FOLDER\n"
    return comment + yaml.safe_dump(flat, sort_keys=False)


def read_config_file(path: Path, base: TrainConfig | None = None) -> TrainConfig:
    """Returns the configuration in a YAML file such as a run's `config.yaml`, on top of `base`.

    Raises:
        ConfigError: naming the file and what is wrong in it.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    try:
        flat = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{where}: not YAML ({str(error).splitlines()[0]})") from None
    if not isinstance(flat, dict) or not all(isinstance(key, str) for key in flat):
        raise ConfigError(f"{path} does not hold `field: value` lines")
    try:
        # YAML reads 3e-4 as text.
        flat = {name: parse_field(name, v) if isinstance(v, str) else v for name, v in flat.items()}
        return config_from_flat(flat, base)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def environment() -> dict[str, Any]:
    """Returns versions, the project's commit, the machine, and this process's command."""
    import numpy
    import PIL
    import torch

    return {
        "command": without_passwords(sys.argv),
        "commit": code_commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": _version("torchvision"),
        "numpy": numpy.__version__,
        "pillow": PIL.__version__,
        "machine": platform.platform(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
    }


def _version(package: str) -> str | None:
    """Returns the version of a package that may not be installed, without importing it."""
    with suppress(PackageNotFoundError):
        return version(package)
    return None


def code_commit() -> str | None:
    """Returns the checkout's commit, with `-dirty` if files differ; None if this is no checkout.

    For a copy without history, the environment variable TINYTL_COMMIT gives the commit.
    """
    told = os.environ.get(COMMIT)
    if told:
        return told
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
