"""The look that figures share: colours for the colour-blind, dashes and marks for grey, files that repeat."""

import io
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from tinytl.files import naming_the_file, written_whole

DPI = 150
FORMATS = ("png", "svg")
BLUE, ORANGE, VERMILION, BLACK = "#0072b2", "#e69f00", "#d55e00", "#000000"
PURPLE, GREEN, SKY = "#cc79a7", "#009e73", "#56b4e9"
PALETTE = (BLUE, ORANGE, VERMILION, BLACK, PURPLE, GREEN, SKY)
"""Colours that stay apart in every common colour blindness; yellow is left out, too pale on white.

In this order, colours that share a dash (every fourth) are far apart in lightness.
Source: Okabe and Ito 2008.
"""
DASHES = ((), (5.0, 1.5), (1.2, 1.2), (6.0, 1.5, 1.2, 1.5))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
MUTED = "0.65"
"""Grey of the background."""
GRID_ALPHA = 0.25
LOG_FROM_RATIO = 3.0
"""Memory has a log axis if the largest is at least this many times the smallest."""


def set_look() -> None:
    """Makes matplotlib show names as text, whatever they hold: it asks as it makes a text."""
    matplotlib.rcParams["text.parse_math"] = False


set_look()


@dataclass(frozen=True)
class LineStyle:
    """How one of several lines or kinds of points looks."""

    color: str
    dashes: tuple[float, ...]
    """Lengths on and off in line widths; empty: solid."""
    marker: str


def line_style(index: int) -> LineStyle:
    """Returns the style of the line `index`; the first ten differ in their marks, 28 in colour or dash."""
    return LineStyle(
        PALETTE[index % len(PALETTE)], DASHES[index % len(DASHES)], MARKERS[index % len(MARKERS)]
    )


def plain_text(text: str) -> str:
    """Returns `text` so that matplotlib shows it as it is: one line, hidden from no legend."""
    text = " ".join(text.split())
    return f" {text}" if text.startswith("_") else text


def set_memory_axis(axes: Axes, values_mib: Iterable[float], what: str) -> None:
    """Makes x an axis of memory named `what`, logarithmic if `values_mib` span enough."""
    values = list(values_mib)
    low, high = min(values), max(values)
    if high / low >= LOG_FROM_RATIO:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlim(low / 1.35, high * 1.35)
        axes.set_xlabel(f"{what}, MiB (log scale)")
        return
    margin = max(0.2 * (high - low), 0.05 * high)
    axes.set_xlim(low - margin, high + margin)
    axes.set_xlabel(f"{what}, MiB")


def save_figure(figure: Figure, path: Path) -> None:
    """Writes `path` (PNG or SVG by its ending) whole or not at all; the same figure gives the same bytes.

    Text in an SVG stays text, to be searched and restyled.
    """
    with written_whole(path) as file:
        file.write(figure_bytes(figure, path.suffix[1:].lower()))


def figure_bytes(figure: Figure, kind: str = "png") -> bytes:
    """Returns the figure as a file of one of FORMATS, at DPI."""
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    look = matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "tinytl"})
    out = io.BytesIO()
    with look, any_script():
        figure.savefig(out, format=kind, dpi=DPI, metadata=metadata)
    return out.getvalue()


def save_formats(figure: Figure, folder: Path, name: str, formats: Sequence[str]) -> list[Path]:
    """Writes `folder/name.FORMAT` for each format; the folder is made. Returns the files.

    Raises:
        ConfigError: if they cannot be written.
    """
    paths = [folder / f"{name}.{kind}" for kind in formats]
    with naming_the_file(folder / name):
        folder.mkdir(parents=True, exist_ok=True)
        for path in paths:
            save_figure(figure, path)
    return paths


@contextmanager
def any_script() -> Iterator[None]:
    """Allows folder names in any script without a warning: an SVG shows characters that the PNG's font
    lacks.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        yield
