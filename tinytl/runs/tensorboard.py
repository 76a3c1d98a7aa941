"""TensorBoard's event files, if it is installed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinytl.errors import needs_extra


def check_tensorboard() -> None:
    """Raises ConfigError if TensorBoard is not installed."""
    with needs_extra("--tensorboard", "tensorboard"):
        import tensorboard  # noqa: F401


class TensorBoard:
    """Writes each epoch's numbers to `path`; `epoch` is the last that is already there."""

    def __init__(self, path: Path, epoch: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(path), purge_step=epoch + 1 if epoch else None)

    def add(self, row: Mapping[str, Any]) -> None:
        """Adds every number of an epoch's metrics."""
        for name, value in row.items():
            if name != "epoch" and isinstance(value, int | float):
                self._writer.add_scalar(name, value, row["epoch"])
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()
