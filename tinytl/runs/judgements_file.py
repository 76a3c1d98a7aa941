"""What a network said of each image of a split, as a file: numpy's `.npz`, some bytes per image."""

import io
import zipfile
import zlib
from pathlib import Path

import numpy as np

from tinytl.errors import ConfigError
from tinytl.files import write_whole
from tinytl.training.judgements import Judgements

FIELDS = {"labels": np.int64, "predicted": np.int64, "confidence": np.float32, "losses": np.float32}
"""Names in the file, and the types that `Judgements` has."""


def save_judgements(found: Judgements, path: Path) -> None:
    """Writes the file, whole or not at all.

    Raises:
        ConfigError: if it cannot be written.
    """
    content = io.BytesIO()
    np.savez_compressed(content, **{name: getattr(found, name) for name in FIELDS})
    write_whole(path, content.getvalue())


def read_judgements(path: Path) -> Judgements | None:
    """Returns what the file holds; None if there is no such file: older runs have none.

    Raises:
        ConfigError: for a file that is damaged.
    """
    if not path.is_file():
        return None
    try:
        with np.load(io.BytesIO(path.read_bytes())) as arrays:
            return Judgements(**{name: arrays[name].astype(kind) for name, kind in FIELDS.items()})
    except (ValueError, KeyError, TypeError, OSError, EOFError, zlib.error, zipfile.BadZipFile):
        raise ConfigError(f"{path} is damaged: remove it, and its figures are left out") from None
