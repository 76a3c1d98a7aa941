"""A finished model for `mlflow.pyfunc` and `mlflow models serve`: pictures to classes.

MLflow copies this file and tinytl beside the model and loads them from there: this file needs nothing else of
the search. A request names pictures by their bytes alone, so a server never opens a file for one.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinytl.runs.trained import TrainedNetwork, load_trained

if TYPE_CHECKING:
    from pandas import DataFrame

PICTURE = "picture"
"""The input's column: an encoded picture (PNG, JPEG, ...) as bytes, base64 in a request; in Python also the
path of a file."""
CLASS, PROBABILITY, PROBABILITIES = "class", "probability", "probabilities"
"""The output's columns: the likeliest class, its probability, and the probability of each class by name."""


class PictureModel:
    """What `mlflow.pyfunc` calls: a row per picture in, a row per picture out."""

    def __init__(self, trained: TrainedNetwork) -> None:
        self.trained = trained

    def predict(self, model_input: "DataFrame", params: dict[str, Any] | None = None) -> "DataFrame":
        """Returns class and probabilities of each picture in the column `picture`.

        Raises:
            ConfigError: naming a file that does not decode.
        """
        from pandas import DataFrame

        # MLflow makes one row of a dict with a list of one: its cell is that list.
        cells = (cell if isinstance(cell, list) else [cell] for cell in model_input[PICTURE])
        rows = self._probabilities([picture for cell in cells for picture in cell])
        names = self.trained.classes
        best = rows.argmax(1)
        return DataFrame(
            {
                CLASS: [names[index] for index in best],
                PROBABILITY: [float(row[index]) for row, index in zip(rows, best, strict=True)],
                PROBABILITIES: [dict(zip(names, map(float, row), strict=True)) for row in rows],
            }
        )

    def _probabilities(self, pictures: Sequence[bytes | str | Path]) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            files = [_file(picture, Path(folder, f"picture-{row}")) for row, picture in enumerate(pictures)]
            return self.trained.probabilities(files)


def _file(picture: bytes | str | Path, place: Path) -> Path:
    """Returns the file of a picture; bytes are written to `place`."""
    if not isinstance(picture, bytes | bytearray):
        return Path(picture)
    place.write_bytes(picture)
    return place


def _load_pyfunc(data_path: str) -> PictureModel:
    """Returns the model in a folder; MLflow calls this by name."""
    return PictureModel(load_trained(Path(data_path)))
