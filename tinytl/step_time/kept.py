"""What was measured of this machine, kept for the next program. Imports nothing heavy."""

import json
import logging
import os
from hashlib import sha256
from pathlib import Path
from typing import Any

from tinytl.errors import ConfigError
from tinytl.files import cache_folder, write_whole

FILE_VARIABLE = "TINYTL_STEP_TIMES"
STEP_TIMES = "step_times"
"""Begins the name of a file with times of steps on a CPU."""
GPU_STEP_TIMES = "gpu_step_times"

logger = logging.getLogger(__name__)


def kept_file(name: str, about: dict[str, Any]) -> Path:
    """Returns the file that keeps what was measured of `about`."""
    key = sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
    return cache_folder() / f"{name}_{key}.json"


def times_are_kept() -> bool:
    """Whether times of steps were measured here before, or a file is named; by another torch, perhaps."""
    return bool(os.environ.get(FILE_VARIABLE)) or any(cache_folder().glob(f"{STEP_TIMES}_*.json"))


def keep(path: Path, content: dict[str, Any]) -> None:
    """Writes what was measured as JSON, or warns that it cannot be kept."""
    try:
        write_json(path, content)
    except OSError as error:
        logger.warning("%s: %s; the next program measures again", path, error.strerror)
    except ConfigError as error:
        logger.warning("%s; the next program measures again", error)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes JSON, whole or not at all; makes the folder.

    Raises:
        ConfigError: for a file that cannot be written.
        OSError: for a folder that cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(content, indent=1) + "\n")
