"""A folder under the name that torchvision's classes require, wherever it is."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def under_name(folder: Path, name: str) -> Iterator[Path]:
    """Gives a temporary folder with a link `name` to `folder`."""
    with tempfile.TemporaryDirectory() as root:
        (Path(root) / name).symlink_to(folder.resolve(), target_is_directory=True)
        yield Path(root)
