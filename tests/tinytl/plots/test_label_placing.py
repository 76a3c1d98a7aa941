import itertools

import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from tinytl.plots.label_placing import PLACES, POINT_RADIUS, place_labels


def _axes(dpi: float = 100) -> Axes:
    """Four inches square, 0 to 100 both ways."""
    figure = Figure(figsize=(4, 4), dpi=dpi)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100)
    return axes


def _placed(axes: Axes) -> dict[str, Annotation]:
    return {text.get_text(): text for text in axes.texts if isinstance(text, Annotation)}


def _turn(label: Annotation) -> int:
    """Which of the places the label took."""
    return [(x, y) for x, y, _, _ in PLACES].index(label.get_position())


def test_a_label_alone_takes_the_best_place() -> None:
    axes = _axes()
    place_labels(axes, {(50, 50): "alone"}, [(50, 50)])
    assert _turn(_placed(axes)["alone"]) == 0


@pytest.mark.parametrize("dpi", [50, 200])
def test_a_point_in_the_way_sends_a_label_elsewhere_at_any_resolution(dpi: float) -> None:
    axes = _axes(dpi)
    a_point = 100 / (4 * 72)
    # To the right and below, where the best place is: its label's corner lies 7 points off.
    in_the_way = (50 + 9 * a_point, 50 - 9 * a_point)
    place_labels(axes, {(50, 50): "label"}, [(50, 50), in_the_way])
    assert _turn(_placed(axes)["label"]) == 1


@pytest.mark.parametrize("place", [*itertools.product((1, 50, 99), (1, 50, 99))])
def test_labels_at_edges_and_corners_stay_within_the_axes(place: tuple[float, float]) -> None:
    axes = _axes()
    place_labels(axes, {place: "a label"}, [place])
    (label,) = axes.texts
    box, frame = label.get_window_extent(), axes.get_window_extent()
    assert frame.x0 <= box.x0
    assert box.x1 <= frame.x1
    assert frame.y0 <= box.y0
    assert box.y1 <= frame.y1


def test_in_a_crowd_nothing_covers_anything_and_what_fits_nowhere_is_left_out() -> None:
    axes = _axes()
    crowd = {(48.0 + 1.5 * x, 48.0 + 1.5 * y): f"label {x}{y}" for x in range(5) for y in range(5)}
    place_labels(axes, crowd, [*crowd])
    labels = list(_placed(axes).values())
    assert 0 < len(labels) < len(crowd)
    boxes = [label.get_window_extent() for label in labels]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    for box, point in itertools.product(boxes, crowd):
        x, y = axes.transData.transform(point)
        radius = POINT_RADIUS * 100 / 72
        assert x + radius <= box.x0 or box.x1 <= x - radius or y + radius <= box.y0 or box.y1 <= y - radius


def test_an_empty_text_takes_no_room() -> None:
    axes = _axes()
    place_labels(axes, {(50, 50): "", (50.0, 50.01): "seen"}, [])
    assert [text.get_text() for text in axes.texts] == ["seen"]
    assert _turn(_placed(axes)["seen"]) == 0
