import itertools
import warnings
from pathlib import Path
from typing import BinaryIO

import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image, ImageColor

from tinytl.plots.style import (
    BLACK,
    FORMATS,
    PALETTE,
    any_script,
    line_style,
    plain_text,
    save_figure,
    save_formats,
    set_memory_axis,
)

JUST_APART_IN_GREY = 25
"""Of 255: the difference in lightness that two lines of the same dash need."""


def _lightness(color: str) -> int:
    red, green, blue = ImageColor.getrgb(color)
    return (299 * red + 587 * green + 114 * blue) // 1000


def _deuteranope(color: str) -> tuple[float, ...]:
    """Source: Machado et al. 2009, severity 1."""
    matrix = (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    )
    linear = [value**2.2 for value in to_rgb(color)]
    seen = (sum(m * v for m, v in zip(row, linear, strict=True)) for row in matrix)
    return tuple(min(1.0, max(0.0, value)) ** (1 / 2.2) for value in seen)


def _figure(title: str = "title") -> Figure:
    figure = Figure(figsize=(2, 2), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([1, 2], [1, 2])
    axes.set_title(title)
    return figure


def test_lines_are_told_apart_in_grey() -> None:
    for (i, a), (j, b) in itertools.combinations(enumerate(line_style(i) for i in range(7)), 2):
        assert a.marker != b.marker
        apart = abs(_lightness(a.color) - _lightness(b.color)) >= JUST_APART_IN_GREY
        assert a.dashes != b.dashes or apart, (i, j)


def test_lines_are_told_apart_in_colour() -> None:
    assert len({(s.color, s.dashes) for s in map(line_style, range(28))}) == 28
    for a, b in itertools.combinations(PALETTE, 2):
        seen = zip(_deuteranope(a), _deuteranope(b), strict=True)
        assert sum((x - y) ** 2 for x, y in seen) ** 0.5 > 0.08, (a, b)
    assert all(_lightness(color) < 200 for color in PALETTE), "readable on white"
    assert BLACK in PALETTE


@pytest.mark.parametrize(
    ("values", "scale", "label"),
    [
        ([10, 90], "log", "peak, MiB (log scale)"),
        ([20, 21], "linear", "peak, MiB"),
        ([20], "linear", "peak, MiB"),
    ],
)
def test_memory_axis(values: list[float], scale: str, label: str) -> None:
    axes = Figure().add_subplot()
    set_memory_axis(axes, values, "peak")
    assert (axes.get_xscale(), axes.get_xlabel()) == (scale, label)
    low, high = axes.get_xlim()
    assert low < min(values) and max(values) < high


def test_the_same_figure_gives_the_same_files(tmp_path: Path) -> None:
    first = save_formats(_figure(), tmp_path / "new" / "first", "f", FORMATS)
    second = save_formats(_figure(), tmp_path / "second", "f", FORMATS)
    assert [path.name for path in first] == ["f.png", "f.svg"]
    for a, b in zip(first, second, strict=True):
        assert a.read_bytes() == b.read_bytes()
        assert [path.name for path in a.parent.iterdir() if ".part" in path.name] == []
    with Image.open(first[0]) as image:
        assert image.format == "PNG" and "Software" not in image.info
    svg = first[1].read_text()
    assert ">title</text>" in svg
    assert "<dc:date>" not in svg


def test_a_failure_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f.png"
    path.write_text("old")

    def fail(figure: Figure, file: BinaryIO, **kwargs: object) -> None:
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        save_figure(_figure(), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_names_are_shown_as_they_are(tmp_path: Path) -> None:
    assert plain_text("_a  b\nc") == " _a b c"
    figure = _figure(plain_text("cost $a_b$ of 日本"))
    save_figure(figure, tmp_path / "f.svg")
    assert ">cost $a_b$ of 日本</text>" in (tmp_path / "f.svg").read_text()
    with pytest.raises(UserWarning, match="other"), any_script():
        warnings.warn("other", UserWarning, stacklevel=1)
