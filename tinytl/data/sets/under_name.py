"""A folder under the name that torchvision's classes insist on, wherever it lies."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def under_name(folder: Path, name: str) -> Iterator[Path]:
    """Gives a folder, gone at the end, in which `folder` is called `name`: a link."""
    with tempfile.TemporaryDirectory() as root:
        (Path(root) / name).symlink_to(folder.resolve(), target_is_directory=True)
        yield Path(root)
