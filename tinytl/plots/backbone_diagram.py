"""A backbone as a diagram, one row per block: shape, lite residual, what trains and what is kept."""

from collections.abc import Sequence
from itertools import groupby

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tinytl.config.train_config import TrainConfig
from tinytl.plots.diagram import (
    FAINT,
    INK,
    add_title,
    add_trained_legend,
    canvas,
    config_text,
    draw_arrow,
    draw_box,
    gap_line,
    shape_text,
)
from tinytl.plots.network_shapes import Block
from tinytl.plots.style import BLUE

ROW, BOX_HEIGHT = 0.36, 0.25
TOP = 1.1
STAGE_X, MAIN_X, MAIN_WIDTH = 0.15, 0.95, 3.95
LITE_X, LITE_WIDTH = 5.2, 3.05
SHAPE_WIDTH, BAR_WIDTH, NUMBER_WIDTH = 1.35, 1.6, 0.65


def plot_backbone(blocks: Sequence[Block], config: TrainConfig) -> Figure:
    """Returns the diagram of `network_shapes(config)`."""
    has_lite = any(block.lite for block in blocks)
    shape_x = (LITE_X + LITE_WIDTH if has_lite else MAIN_X + MAIN_WIDTH) + 0.25
    bar_x = shape_x + SHAPE_WIDTH
    right = bar_x + BAR_WIDTH + NUMBER_WIDTH
    figure, axes = canvas(right + 0.1, TOP + len(blocks) * ROW + 0.5)
    total = sum(block.saved_kib for block in blocks)
    add_title(
        axes,
        config_text(config),
        f"kept from forward for backward: {total:,.0f} KiB a sample in all ({config.engine} engine)",
    )
    headers = {STAGE_X: "stage", MAIN_X: "block", shape_x: "output C x H x W", bar_x: "kept, KiB a sample"}
    for x, text in (headers | ({LITE_X: "lite residual"} if has_lite else {})).items():
        axes.text(x, TOP - 0.2, text, fontsize=8, color=FAINT, va="center")
    _draw_stages(axes, blocks, right)
    most = max(block.saved_kib for block in blocks) or 1.0
    for turn, block in enumerate(blocks):
        y = TOP + turn * ROW + (ROW - BOX_HEIGHT) / 2
        middle = y + BOX_HEIGHT / 2
        _draw_row(axes, block, y)
        if turn < len(blocks) - 1:
            below = MAIN_X + MAIN_WIDTH / 2
            draw_arrow(axes, [(below, y + BOX_HEIGHT), (below, y + ROW)], head=False)
        axes.text(shape_x, middle, shape_text(block.out_shape), fontsize=8, va="center", color=INK)
        width = BAR_WIDTH * block.saved_kib / most
        axes.add_patch(Rectangle((bar_x, y + 0.04), width, BOX_HEIGHT - 0.08, facecolor=BLUE))
        axes.text(bar_x + width + 0.06, middle, f"{block.saved_kib:,.1f}", fontsize=7.5, va="center")
    shown = [block.main_trained for block in blocks] + [block.lite_trained for block in blocks if block.lite]
    add_trained_legend(figure, shown)
    return figure


def stages(blocks: Sequence[Block]) -> list[tuple[str, list[Block]]]:
    """Returns the blocks in stages: inverted residuals of one width are one, numbered; the rest by name."""
    found: list[tuple[str, list[Block]]] = []
    number = 0
    for (kind, _), group in groupby(blocks, key=lambda block: (block.kind, block.out_shape[0])):
        members = list(group)
        if kind == "inverted residual":
            number += 1
            found.append((str(number), members))
        elif kind == "classifier":
            found.append(("head", members))
        else:
            found.append(("last" if found else "stem", members))
    return found


def block_text(block: Block) -> str:
    """Returns a block in words: `inverted residual, expand 6, 3x3, stride 2`."""
    if block.kind == "classifier":
        return f"mean, linear  {block.in_shape[0]} → {block.out_shape[0]}"
    text = f"conv {block.kernel_size}x{block.kernel_size}"
    if block.kind == "inverted residual":
        text = f"inverted residual, expand {block.expansion:g}, {block.kernel_size}x{block.kernel_size}"
    return text + (f", stride {block.stride}" if block.stride > 1 else "")


def lite_text(block: Block) -> str:
    """Returns a lite residual in words: its pooling and its convolution."""
    pooling, convolution = block.lite[0].text, block.lite[1].text
    return f"{pooling.removeprefix('average ')}, {convolution}"


def _draw_stages(axes: Axes, blocks: Sequence[Block], right: float) -> None:
    y = TOP
    for name, members in stages(blocks):
        gap_line(axes, (STAGE_X, right), y)
        axes.text(STAGE_X, y + ROW / 2, name, fontsize=8.5, va="center", color=INK)
        y += len(members) * ROW
    gap_line(axes, (STAGE_X, right), y)


def _draw_row(axes: Axes, block: Block, y: float) -> None:
    draw_box(axes, MAIN_X, y, MAIN_WIDTH, BOX_HEIGHT, block.main_trained, [block_text(block)])
    middle = y + BOX_HEIGHT / 2
    axes.text(
        MAIN_X + MAIN_WIDTH - 0.06,
        middle,
        block.name,
        fontsize=7,
        color=FAINT,
        va="center",
        ha="right",
        zorder=4,
    )
    if block.shortcut:
        side = MAIN_X - 0.16
        upper, lower = y + 0.06, y + BOX_HEIGHT - 0.06
        draw_arrow(axes, [(MAIN_X, upper), (side, upper), (side, lower), (MAIN_X, lower)])
    if block.lite:
        draw_box(axes, LITE_X, y, LITE_WIDTH, BOX_HEIGHT, block.lite_trained, [lite_text(block)])
        edge = MAIN_X + MAIN_WIDTH
        draw_arrow(axes, [(edge, y + 0.07), (LITE_X, y + 0.07)])
        draw_arrow(axes, [(LITE_X, y + BOX_HEIGHT - 0.07), (edge, y + BOX_HEIGHT - 0.07)])
