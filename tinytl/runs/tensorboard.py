"""TensorBoard's event files, if it is installed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tinytl.errors import needs_extra


def check_tensorboard() -> None:
    """Raises ConfigError if TensorBoard is not installed."""
    with needs_extra("--tensorboard", "tensorboard"):
        import tensorboard  # noqa: F401


class TensorBoard:
    """Writes each epoch's numbers to `path`; `epoch` is the last that is already there.

    `again`: the metrics of all epochs so far, written in place of what is there, which may lack some.
    """

    def __init__(self, path: Path, epoch: int, again: Sequence[Mapping[str, Any]] = ()) -> None:
        from torch.utils.tensorboard import SummaryWriter

        first = 1 if again else epoch + 1
        self._writer = SummaryWriter(str(path), purge_step=first if epoch else None)
        for row in again:
            self.add(row)

    def add(self, row: Mapping[str, Any]) -> None:
        """Adds every number of an epoch's metrics."""
        at_s = row["timestamp_ms"] / 1000 if "timestamp_ms" in row else None
        for name, value in row.items():
            if name != "epoch" and isinstance(value, int | float):
                self._writer.add_scalar(name, value, row["epoch"], walltime=at_s)
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()
