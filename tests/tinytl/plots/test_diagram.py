from typing import get_args

import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from tests.support.cases import small
from tinytl.plots.diagram import (
    FILLS,
    STRIP,
    add_title,
    add_trained_legend,
    canvas,
    config_text,
    draw_arrow,
    draw_box,
    shape_text,
)
from tinytl.plots.network_shapes import Trained


def _box(lines: list[str], trained: Trained = "all") -> Axes:
    _, axes = canvas(4, 2)
    draw_box(axes, 1, 0.5, 2.5, 0.4, trained, lines)
    return axes


def test_an_inch_is_an_inch_from_the_top_left() -> None:
    figure, axes = canvas(5, 3)
    assert figure.get_size_inches().tolist() == [5, 3]
    x, y = axes.transData.transform((1, 0.5)) / figure.dpi
    assert (x, y) == pytest.approx((1, 3 - 0.5))


def test_whatever_trains_has_a_fill_and_differs_without_color() -> None:
    assert set(FILLS) == set(get_args(Trained))
    by_text = {fill.text: fill for fill in FILLS.values()}
    assert set(by_text.values()) == set(FILLS.values()), "one text, one look"
    grey = {(fill.hatch, fill.color if not fill.hatch else "") for fill in by_text.values()}
    assert len(grey) == len(by_text)


@pytest.mark.parametrize("lines", [["conv 3x3"], ["conv 3x3", "24 x 24 x 24"]])
def test_the_lines_of_a_box_stand_in_it_right_of_its_strip(lines: list[str]) -> None:
    axes = _box(lines)
    axes.get_figure().draw_without_rendering()  # type: ignore[union-attr]
    whole, strip = axes.patches
    assert isinstance(strip, Rectangle)
    assert (strip.get_x(), strip.get_width()) == (1, STRIP)
    boxes = [text.get_window_extent() for text in axes.texts]
    outer, left = whole.get_window_extent(), strip.get_window_extent().x1
    for box in boxes:
        assert left < box.x0
        assert box.x1 <= outer.x1
        assert outer.y0 <= box.y0
        assert box.y1 <= outer.y1
    if len(boxes) == 2:
        assert boxes[0].y0 >= boxes[1].y1, "the first line is above the second"


def test_what_has_no_parameters_is_dashed() -> None:
    for trained in FILLS:
        styles = {patch.get_linestyle() for patch in _box(["x"], trained).patches}
        assert styles == {"--" if trained == "no parameters" else "-"}


def test_names_are_shown_as_they_are() -> None:
    axes = _box(["_a $name$"])
    add_title(axes, "a $title$", "_below")
    assert [text.get_text() for text in axes.texts] == [" _a $name$", "a $title$", " _below"]
    axes.figure.draw_without_rendering()


def test_an_arrow_has_its_head_at_its_end() -> None:
    _, axes = canvas(4, 2)
    draw_arrow(axes, [(0, 0), (1, 0), (1, 2)], head=False)
    assert not axes.texts
    draw_arrow(axes, [(0, 0), (1, 0), (1, 2)])
    (head,) = axes.texts
    assert (head.xy, head.get_position()) == ((1, 2), (1, 0))  # type: ignore[attr-defined]


def test_the_legend_explains_what_is_shown_once_and_in_one_order() -> None:
    figure, _ = canvas(4, 2)
    add_trained_legend(figure, ["nothing", "some", "biases", "all", "nothing"])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["weights train", "biases train", "frozen"]
    patches = legend.get_patches()
    assert [patch.get_hatch() or "" for patch in patches] == [
        FILLS[t].hatch for t in ("all", "biases", "nothing")
    ]
    assert to_hex(patches[1].get_facecolor()) == FILLS["biases"].color


def test_texts() -> None:
    assert shape_text((24, 12, 6)) == "24 x 12 x 6"
    assert shape_text((3,)) == "3"
    assert config_text(small(method="FT-Last")) == "FT-Last on mobilenet_v2, frozen_bn, 32 px"
