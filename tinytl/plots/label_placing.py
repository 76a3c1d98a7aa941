"""Labels beside points that cover neither each other, nor a point, nor the axes' edge."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

PLACES = (
    (7, -7, "left", "top"),
    (-7, 7, "right", "bottom"),
    (10, 0, "left", "center"),
    (-10, 0, "right", "center"),
    (0, 9, "center", "bottom"),
    (0, -9, "center", "top"),
    (7, 7, "left", "bottom"),
    (-7, -7, "right", "top"),
)
"""Offsets of a label from its point, in points, best first: a front runs right, then up.

All are off the point itself: a label that touches it counts as covering it.
"""
POINT_RADIUS = 6.0
"""Half the width of a point, in points."""


def place_labels(
    axes: Axes, labels: Mapping[tuple[float, float], str], points: Sequence[tuple[float, float]]
) -> None:
    """Writes a text at each place of `labels`; omits one that fits nowhere. Needs the axes' final size."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    scale = figure.dpi / 72
    frame = axes.get_window_extent()
    taken = []
    for point in points:
        x, y = axes.transData.transform(point)
        taken.append(_around(float(x), float(y), POINT_RADIUS * scale))
    for place, text in labels.items():
        if not text:
            continue
        for dx, dy, horizontal, vertical in PLACES:
            label = axes.annotate(
                text,
                place,
                xytext=(dx, dy),
                textcoords="offset points",
                ha=horizontal,
                va=vertical,
                fontsize=7,
                color="0.25",
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.3},
                zorder=6,
            )
            box = label.get_window_extent()
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            if inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            label.remove()


def _around(x: float, y: float, radius: float) -> Bbox:
    return Bbox.from_extents(x - radius, y - radius, x + radius, y + radius)
