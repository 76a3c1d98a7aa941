"""Parts of diagrams: a canvas measured in inches, boxes that show what trains, arrows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from tinytl.config.train_config import TrainConfig
from tinytl.plots.network_shapes import Trained
from tinytl.plots.style import ORANGE, PURPLE, SKY, plain_text

INK, FAINT = "0.1", "0.4"
STRIP = 0.3
"""Width of the part of a box that shows what trains, in inches."""


@dataclass(frozen=True)
class Fill:
    """How a box shows which part of it trains: colour for the screen, hatch for grey."""

    color: str
    hatch: str
    text: str


WEIGHTS = Fill(ORANGE, "////", "weights train")
FILLS: dict[Trained, Fill] = {
    "all": WEIGHTS,
    "some": WEIGHTS,
    "norms": Fill(PURPLE, "xxxx", "norms train"),
    "biases": Fill(SKY, "----", "biases train"),
    "nothing": Fill("white", "", "frozen"),
    "no parameters": Fill("0.88", "", "no parameters"),
}


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """Returns a figure whose one axes has the inch as its unit, the origin at the top left, y downward."""
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_axis_off()
    return figure, axes


def draw_box(
    axes: Axes, x: float, y: float, width: float, height: float, trained: Trained, lines: Sequence[str]
) -> None:
    """Draws a box with its top left at `(x, y)`: what trains as a strip, then a line of text or two."""
    fill = FILLS[trained]
    whole = Rectangle((x, y), width, height, facecolor="white", zorder=2)
    strip = Rectangle((x, y), STRIP, height, facecolor=fill.color, hatch=fill.hatch, zorder=3)
    for patch in (whole, strip):
        patch.set(edgecolor=INK, linewidth=0.8, linestyle="--" if trained == "no parameters" else "-")
        axes.add_patch(patch)
    for turn, line in enumerate(lines):
        middle = y + height * (turn + 0.5 + 0.12 * (len(lines) == 2) * (1 - 2 * turn)) / len(lines)
        axes.text(
            x + STRIP + 0.09,
            middle,
            plain_text(line),
            va="center",
            fontsize=8.5 if turn == 0 else 7,
            color=INK if turn == 0 else FAINT,
            zorder=4,
        )


def draw_arrow(axes: Axes, points: Sequence[tuple[float, float]], head: bool = True) -> None:
    """Draws a line through `points` with a head at its end."""
    xs, ys = zip(*points, strict=True)
    axes.plot(xs, ys, color=INK, linewidth=0.9, solid_capstyle="butt", zorder=1)
    if head:
        axes.annotate(
            "",
            points[-1],
            points[-2],
            arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0},
            zorder=1,
        )


def draw_sum(axes: Axes, x: float, y: float) -> None:
    """Draws the sign of a sum at `(x, y)`."""
    axes.plot([x], [y], marker="o", markersize=15, color="white", markeredgecolor=INK, zorder=4)
    axes.plot([x], [y], marker="+", markersize=9, color=INK, zorder=5)


def add_trained_legend(figure: Figure, shown: Iterable[Trained]) -> None:
    """Explains the strips that are `shown`, along the figure's lower edge."""
    fills = {FILLS[trained].text: FILLS[trained] for trained in FILLS if trained in set(shown)}
    handles = [
        Rectangle((0, 0), 1, 1, facecolor=fill.color, hatch=fill.hatch, edgecolor=INK, label=text)
        for text, fill in fills.items()
    ]
    figure.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0.01, 0.0),
        ncols=len(handles),
        fontsize=8,
        frameon=False,
        handlelength=2.2,
        handleheight=1.3,
    )


def shape_text(shape: Sequence[int]) -> str:
    """Returns `C x H x W`."""
    return " x ".join(map(str, shape))


def config_text(config: TrainConfig) -> str:
    """Returns the description of the configuration in a diagram's title."""
    return f"{config.method} on {config.backbone}, {config.norm}, {config.resolution} px"


def add_title(axes: Axes, text: str, *below: str) -> None:
    """Writes a title and fainter lines below it at the top left."""
    axes.text(0.15, 0.24, plain_text(text), fontsize=11, va="center", color=INK)
    for turn, line in enumerate(below):
        axes.text(0.15, 0.48 + 0.18 * turn, plain_text(line), fontsize=8, va="center", color=FAINT)


def gap_line(axes: Axes, x: tuple[float, float], y: float) -> None:
    """Draws a faint rule between two parts of a table."""
    axes.add_line(Line2D(x, (y, y), color="0.75", linewidth=0.7, zorder=0))
