"""One block as a diagram: every layer with its shape and what trains, lite residual beside main branch."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tinytl.config.train_config import TrainConfig
from tinytl.errors import choose
from tinytl.plots.diagram import (
    FAINT,
    add_title,
    add_trained_legend,
    canvas,
    config_text,
    draw_arrow,
    draw_box,
    draw_sum,
    shape_text,
)
from tinytl.plots.network_shapes import Block, Layer

BOX_WIDTH, BOX_HEIGHT, GAP = 3.0, 0.42, 0.27
MAIN_X, LITE_X, SHORTCUT_X = 0.75, 4.75, 0.35
TOP = 1.65
"""Where the first layers begin, in inches from the top."""


def choose_block(blocks: Sequence[Block], name: str | None) -> Block:
    """Returns the block `name`; without one the first with lite residual and shortcut, or the nearest to it.

    Raises:
        ConfigError: for a name that no block has.
    """
    if name is not None:
        known = {block.name: block for block in blocks}
        return known[choose("block", name, known)]
    wished = [
        lambda block: block.lite and block.shortcut,
        lambda block: block.lite,
        lambda block: block.shortcut,
    ]
    for wish in wished:
        for block in blocks:
            if wish(block):
                return block
    return blocks[0]


def plot_block(block: Block, config: TrainConfig) -> Figure:
    """Returns the diagram of `block` in the network of `config`."""
    columns = [(MAIN_X, block.main)] + ([(LITE_X, block.lite)] if block.lite else [])
    rows = max(len(layers) for _, layers in columns)
    bottom = TOP + rows * (BOX_HEIGHT + GAP)
    sums = bool(block.lite or block.shortcut)
    height = bottom + (0.55 if sums else 0.2) + 0.55
    figure, axes = canvas(max(6.0, columns[-1][0] + BOX_WIDTH + 0.3), height)
    kind = "lite residual block" if block.lite else block.kind
    add_title(
        axes,
        f"{kind[0].upper()}{kind[1:]}, {block.name}" if kind != block.name else kind.capitalize(),
        config_text(config),
        f"beside the arrows: C x H x W; kept for backward: {block.saved_kib:,.1f} KiB a sample "
        f"({config.engine} engine)",
    )
    middle = MAIN_X + BOX_WIDTH / 2
    fork = TOP - GAP - 0.08
    axes.text(middle + 0.1, fork - 0.2, f"input  {shape_text(block.in_shape)}", fontsize=8.5, va="center")
    draw_arrow(axes, [(middle, fork - 0.36), (middle, fork)], head=False)
    sum_y = bottom + 0.12
    out_y = sum_y + 0.42 if sums else bottom + 0.2
    main_end = sum_y - 0.1 if sums else out_y
    for x, layers in columns:
        name = "lite residual" if x == LITE_X else "main branch" if block.lite else ""
        axes.text(x + BOX_WIDTH, TOP - 0.1, name, fontsize=8, ha="right", va="bottom", color=FAINT)
        _draw_column(axes, x, layers, fork, main_end if x == MAIN_X else None)
    if sums:
        draw_sum(axes, middle, sum_y)
        draw_arrow(axes, [(middle, sum_y + 0.1), (middle, out_y)])
    if block.shortcut:
        path = [(middle, fork), (SHORTCUT_X, fork), (SHORTCUT_X, sum_y), (middle - 0.1, sum_y)]
        draw_arrow(axes, path)
        axes.text(
            SHORTCUT_X - 0.1,
            (fork + sum_y) / 2,
            "shortcut",
            fontsize=8,
            rotation=90,
            va="center",
            ha="center",
            color=FAINT,
        )
    if block.lite:
        lite_middle = LITE_X + BOX_WIDTH / 2
        draw_arrow(axes, [(middle, fork), (lite_middle, fork)], head=False)
        end = TOP + len(block.lite) * (BOX_HEIGHT + GAP) - GAP
        draw_arrow(axes, [(lite_middle, end), (lite_middle, sum_y), (middle + 0.1, sum_y)])
    axes.text(middle + 0.1, out_y - 0.1, f"output  {shape_text(block.out_shape)}", fontsize=8.5, va="center")
    add_trained_legend(figure, [layer.trained for _, layers in columns for layer in layers])
    return figure


def _draw_column(axes: Axes, x: float, layers: Sequence[Layer], top: float, end: float | None) -> None:
    """Draws layers one beneath the other, with arrows from `top` to the first and from the last to `end`."""
    middle = x + BOX_WIDTH / 2
    draw_arrow(axes, [(middle, top), (middle, TOP)])
    for turn, layer in enumerate(layers):
        y = TOP + turn * (BOX_HEIGHT + GAP)
        draw_box(axes, x, y, BOX_WIDTH, BOX_HEIGHT, layer.trained, [layer.text, _second_line(layer)])
        below = y + BOX_HEIGHT
        last = turn == len(layers) - 1
        if not last:
            draw_arrow(axes, [(middle, below), (middle, below + GAP)])
        elif end is not None:
            draw_arrow(axes, [(middle, below), (middle, end)])
        axes.text(
            middle + 0.1, below + GAP / 2, shape_text(layer.out_shape), fontsize=7.5, va="center", color=FAINT
        )


def _second_line(layer: Layer) -> str:
    some = {"biases": ", the biases train", "some": ", all but the biases train"}.get(layer.trained, "")
    return f"{layer.name}: {layer.n_parameters:,} parameters{some}" if layer.n_parameters else layer.name
