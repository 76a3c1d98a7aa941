"""Pictures of what was said of a split's images: which class is taken for which, and how far to trust it."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tinytl.plots.style import BLUE, GRID_ALPHA, MUTED, plain_text, save_formats
from tinytl.training.judgements import Judgements
from tinytl.training.mistakes import matrix_classes

MOST_COUNTED = 16
"""Classes up to which each cell has its count."""


def save_judgements(found: Judgements, classes: tuple[str, ...], folder: Path, title: str) -> list[Path]:
    """Writes `confusion.png` and `reliability.png` into `folder`, which is made; returns the files.

    Of more than MOST_IN_MATRIX classes, the matrix has those that are confused most.

    Raises:
        ConfigError: if they cannot be written.
    """
    figures = {
        "confusion": plot_confusion(found.confusion(len(classes)), classes, title),
        "reliability": plot_reliability(found, title),
    }
    return [path for name, figure in figures.items() for path in save_formats(figure, folder, name, ["png"])]


def plot_confusion(counts: NDArray[np.int64], classes: tuple[str, ...], title: str) -> Figure:
    """Returns the figure of `counts`, `(C, C)`: a row for each true class, in shares of its images.

    Of more than MOST_IN_MATRIX classes, it has those that are confused most, and says so.
    """
    shown = matrix_classes(counts)
    n = len(shown)
    if n < len(classes):
        title += f"\nthe {n} of {len(classes)} classes that are confused most"
    side = min(12.0, 3.0 + 0.3 * n)
    figure = Figure(figsize=(side + 1.0, side), layout="constrained")
    axes = figure.subplots()
    both = np.ix_(shown, shown)
    shares = (counts / np.maximum(counts.sum(1, keepdims=True), 1))[both]
    counts = counts[both]
    picture = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    names = [plain_text(classes[number]) for number in shown]
    axes.set_xticks(range(n), names, rotation=90, fontsize=8)
    axes.set_yticks(range(n), names, fontsize=8)
    if n <= MOST_COUNTED:
        for i, j in zip(*counts.nonzero(), strict=True):
            ink = "white" if shares[i, j] > 0.6 else "black"
            axes.text(j, i, str(counts[i, j]), ha="center", va="center", color=ink, fontsize=8)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.set_title("\n".join(map(plain_text, title.splitlines())), fontsize=10)
    figure.colorbar(picture, label="share of the true class's images", shrink=0.7)
    return figure


def plot_reliability(found: Judgements, title: str) -> Figure:
    """Returns the figure of accuracy against confidence: well calibrated is on the diagonal."""
    parts = found.reliability()
    confidence, accuracy = [part.confidence for part in parts], [part.accuracy for part in parts]
    figure = Figure(figsize=(5.0, 5.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.plot([0, 1], [0, 1], color=MUTED, linewidth=1)
    above.plot(confidence, accuracy, color=BLUE, marker="o", markersize=5)
    above.set_ylabel("accuracy")
    above.set_ylim(-0.02, 1.02)
    error = f"confidence misses accuracy by {found.calibration_error:.3f} on average"
    above.set_title(f"{plain_text(title)}\n{error}", fontsize=10)
    below.bar(confidence, [part.n_images for part in parts], width=0.03, color=BLUE)
    below.set_ylabel("images")
    below.set_xlabel("confidence: the probability of the predicted class")
    for axes in (above, below):
        axes.set_xlim(0, 1)
        axes.grid(alpha=GRID_ALPHA)
    return figure
