"""Files in a study's folder that hold something for each of its trials, as JSON."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tinytl.errors import ConfigError

Value = TypeVar("Value")


def read_by_trial(path: Path, read: Callable[[Any], Value], again: str) -> dict[str, Value]:
    """Returns what a file holds, by trial, each as `read` makes it: nothing if there is no such file.

    `again`: what is done again if the file is removed, for the message.

    Raises:
        ConfigError: for a file that is damaged.
    """
    if not path.exists():
        return {}
    try:
        return {str(trial): read(value) for trial, value in json.loads(path.read_text()).items()}
    except (ValueError, TypeError, AttributeError):
        raise ConfigError(f"{path} is damaged: remove it, and {again}") from None
