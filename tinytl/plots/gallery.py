"""A sheet of pictures with what was said of each."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from tinytl.data.named_pictures import NamedPictures
from tinytl.data.pictures import BrokenPicture
from tinytl.plots.style import VERMILION, plain_text, save_formats
from tinytl.runs.judged_pictures import LEAST_CERTAIN, WORST_MISTAKES
from tinytl.training.mistakes import Judged

SHEETS = {
    "mistakes": (WORST_MISTAKES, "surest and wrong"),
    "uncertain": (LEAST_CERTAIN, "least certain"),
}
"""Each sheet's name, the gallery that it shows, and its title."""

COLUMNS = 6
LONGEST = 26
"""Characters of a line below a picture; a longer name keeps its end."""
CELL, TEXT, TITLE = 1.9, 0.55, 0.45
"""Inches: edge of a picture's square, height of the text below it, height of the sheet's title."""
SIDE = 160
"""Longest edge of a picture in pixels."""


def save_galleries(
    judged: Mapping[str, Sequence[Judged]], pictures: NamedPictures, folder: Path, title: str
) -> list[Path]:
    """Writes `mistakes.png` and `uncertain.png` into `folder`, which is made; returns the files.

    A gallery without pictures is not written. `judged`: as `galleries` returns it.

    Raises:
        ConfigError: if they cannot be written.
    """
    paths = []
    for name, (gallery, words) in SHEETS.items():
        shown = [(one, _decoded(pictures, one.row)) for one in judged[gallery]]
        if shown:
            paths += save_formats(plot_gallery(shown, f"{words}: {title}"), folder, name, ["png"])
    return paths


def plot_gallery(pictures: Sequence[tuple[Judged, Image.Image | None]], title: str) -> Figure:
    """Returns the sheet; None: a picture that does not decode has its text alone.

    Below each: the class that was said, with its probability; the label, if it is another; the file.
    """
    rows = max(1, math.ceil(len(pictures) / COLUMNS))
    width, height = COLUMNS * CELL, rows * (CELL + TEXT) + TITLE
    figure = Figure(figsize=(width, height))
    figure.suptitle(plain_text(title), fontsize=11, y=1 - 0.3 * TITLE / height)
    places = {"left": 0.01, "right": 0.99, "top": 1 - TITLE / height, "bottom": TEXT / height}
    spaces = {"wspace": 0.08, "hspace": TEXT / CELL}
    grid = figure.subplots(rows, COLUMNS, squeeze=False, gridspec_kw=places | spaces)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, (judged, picture) in zip(grid.flat, pictures, strict=False):
        if picture is not None:
            small = picture.copy()
            small.thumbnail((SIDE, SIDE))
            axes.imshow(small)
        wrong = judged.label != judged.predicted
        color = VERMILION if wrong else "black"
        text = "\n".join(_lines(judged, wrong))
        axes.text(0.5, -0.04, text, fontsize=7, color=color, ha="center", va="top", transform=axes.transAxes)
    return figure


def _decoded(pictures: NamedPictures, row: int) -> Image.Image | None:
    found = pictures.picture(row, at_least=SIDE)
    return None if isinstance(found, BrokenPicture) else found


def _lines(judged: Judged, wrong: bool) -> list[str]:
    said = f"{_short(judged.predicted)} {judged.confidence:.2f}"
    label = f"not {_short(judged.label)} {judged.label_probability:.2f}"
    return [said, *([label] if wrong else []), _short(judged.file)]


def _short(text: str) -> str:
    text = plain_text(text)
    return text if len(text) <= LONGEST else f"…{text[1 - LONGEST :]}"
