from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure
from PIL import Image

from tinytl.plots.memory import ENGINE_COLORS, plot_memory

ROWS: list[dict[str, Any]] = [
    {
        "norm": norm,
        "method": method,
        "engine": engine,
        "micro_batch_size": micro,
        "predicted_peak_mib": 10.0 * micro + 3 * (engine == "stock"),
        "paper_mb": 20.0,
    }
    for norm in ("batch_norm", "frozen_bn")
    for method in ("FT-Full", "TinyTL-B", "TinyTL-L+B")
    for engine in ("stock", "lean")
    for micro in ((8,) if norm == "batch_norm" else (8, 1))
]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Figures that were written."""
    figures: list[Figure] = []
    save = Figure.savefig

    def savefig(figure: Figure, *args: Any, **kwargs: Any) -> None:
        figures.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return figures


def test_png_and_svg_are_written(tmp_path: Path) -> None:
    plot_memory(ROWS, "MobileNetV2, batch 8; more", tmp_path / "memory.png")
    with Image.open(tmp_path / "memory.png") as image:
        assert image.format == "PNG" and image.width > 600
        assert len(image.convert("RGB").getcolors(1 << 24) or []) > 10
    plot_memory(ROWS, "MobileNetV2, batch 8; more", tmp_path / "memory.svg")
    assert ElementTree.parse(tmp_path / "memory.svg").getroot().tag.endswith("svg")


def test_a_panel_a_norm_a_line_a_method_two_marks_a_row(tmp_path: Path, drawn: list[Figure]) -> None:
    plot_memory(ROWS, "MobileNetV2, batch 8; more", tmp_path / "memory.png")
    (figure,) = drawn
    assert figure.get_suptitle() == "MobileNetV2, batch 8"
    assert [axes.get_title() for axes in figure.axes] == ["batch_norm", "frozen_bn"]
    first, second = figure.axes
    assert [label.get_text() for label in first.get_yticklabels()] == ["FT-Full", "TinyTL-B", "TinyTL-L+B"]
    assert first.get_ylim() == (2.5, -0.5)
    # A mark and a cross each.
    assert len(first.collections) == 2 * 6 and len(second.collections) == 2 * 12
    x, y = second.collections[0].get_offsets()[0]
    assert (x, y) == (83.0, 0.0)
    x, y = second.collections[-1].get_offsets()[0]
    assert (x, y) == (pytest.approx(20 * 1e6 / 2**20), 2.0)


def test_hollow_marks_are_the_small_micro_batches(tmp_path: Path, drawn: list[Figure]) -> None:
    plot_memory(ROWS, "title", tmp_path / "memory.png")
    marks = drawn[0].axes[1].collections[::2]
    white = [tuple(mark.get_facecolor()[0]) == (1.0, 1.0, 1.0, 1.0) for mark in marks]
    assert white == [row["micro_batch_size"] == 1 for row in ROWS if row["norm"] == "frozen_bn"]
    (legend,) = drawn[0].legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "stock, micro-batch 8",
        "lean, micro-batch 8",
        "stock, micro-batch 1",
        "lean, micro-batch 1",
        "the paper's formula",
    ]
    handles = legend.legend_handles[:4]
    assert [handle.get_markeredgecolor() for handle in handles] == 2 * [*ENGINE_COLORS.values()]
    assert [handle.get_markerfacecolor() == "white" for handle in handles] == [False, False, True, True]
