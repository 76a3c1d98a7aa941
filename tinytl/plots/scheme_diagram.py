"""What method Sparse trains, as a picture: blocks by kinds of convolutions, the share of each, its memory."""

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tinytl.config.names import LAYER_KINDS
from tinytl.config.train_config import TrainConfig
from tinytl.networks.update_scheme import Layer, UpdateScheme, layers_of, scheme_of
from tinytl.plots.style import BLUE, MUTED, ORANGE

CELL_INCHES = 0.52
MIB = 2**20
_BIAS_ROW = len(LAYER_KINDS)


def plot_scheme(config: TrainConfig) -> Figure:
    """Returns the picture of a configuration of method Sparse.

    A cell is a convolution, filled by the share of its input channels that train. Its number is what that
    takes in MiB: the kept input of the samples in memory, gradients and moments.

    Raises:
        ConfigError: if images have to choose first.
    """
    layers, scheme = layers_of(config), scheme_of(config)
    blocks = sorted({layer.block for layer in layers})
    column = {block: x for x, block in enumerate(blocks)}
    width = 1.4 + CELL_INCHES * len(blocks)
    figure = Figure(figsize=(width, 1.5 + CELL_INCHES * (_BIAS_ROW + 1)), layout="constrained")
    axes = figure.subplots()
    total_mib = 0.0
    for layer in layers:
        n_trained = len(scheme.channels.get(layer.name, ()))
        corner = (column[layer.block], LAYER_KINDS.index(layer.kind))
        axes.add_patch(Rectangle(corner, 1, 1, facecolor="none", edgecolor=MUTED))
        if n_trained:
            share, mib = n_trained / layer.channels, _mib(layer, n_trained, config)
            total_mib += mib
            axes.add_patch(Rectangle(corner, share, 1, facecolor=BLUE, alpha=0.45, edgecolor="none"))
            axes.text(corner[0] + 0.5, corner[1] + 0.5, _short(mib), ha="center", va="center", fontsize=7)
    for block in blocks:
        trains = scheme.bias_from is not None and block >= scheme.bias_from
        corner = (column[block], _BIAS_ROW)
        axes.add_patch(
            Rectangle(corner, 1, 1, facecolor=ORANGE if trains else "none", alpha=0.5, edgecolor=MUTED)
        )
    axes.set_xlim(0, len(blocks))
    axes.set_ylim(_BIAS_ROW + 1, 0)
    axes.set_aspect("equal")
    axes.set_xticks([x + 0.5 for x in range(len(blocks))], [str(block) for block in blocks], fontsize=8)
    axes.set_yticks([y + 0.5 for y in range(_BIAS_ROW + 1)], [*LAYER_KINDS, "biases"], fontsize=8)
    axes.tick_params(length=0)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.set_xlabel("block", fontsize=9)
    axes.set_title(_title(config, scheme, total_mib), fontsize=9, loc="left")
    return figure


def _mib(layer: Layer, n_trained: int, config: TrainConfig) -> float:
    of_more = (config.samples_in_memory - 1) * layer.pixels * 4 * n_trained
    return (layer.bytes_of(n_trained, config) + of_more) / MIB


def _short(mib: float) -> str:
    return f"{mib:.1f}" if mib >= 0.95 else f"{mib:.2f}".lstrip("0")


def _title(config: TrainConfig, scheme: UpdateScheme, total_mib: float) -> str:
    return (
        f"What Sparse trains on {config.backbone}, select {config.select}, {config.resolution} px\n"
        f"{len(scheme.channels)} convolutions, {total_mib:.1f} MiB: kept inputs of "
        f"{config.samples_in_memory} samples, gradients, moments; filled: share of input channels"
    )
