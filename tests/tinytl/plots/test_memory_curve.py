from pathlib import Path

from matplotlib.figure import Figure
from pytest import MonkeyPatch

from tinytl.config.plan import Plan
from tinytl.plots import memory_curve
from tinytl.plots.memory_curve import plot_curve

CURVE = [
    Plan(micro_batch_size=n, checkpoint=c, stock_below_kib=0.0, peak_memory_mib=mib, slowdown=slowdown)
    for n, c, mib, slowdown in [(8, "none", 40.0, 1.0), (8, "all", 25.0, 1.3), (1, "none", 20.0, 2.0)]
]


def test_each_plan_has_a_mark_with_its_samples_and_its_recomputation(
    tmp_path: Path, monkeypatch: MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(memory_curve, "save_figure", lambda figure, path: drawn.append(figure))
    plot_curve(CURVE, "FT-Full", tmp_path / "curve.svg")
    (axes,) = drawn[0].axes
    marks = {handle.get_label(): handle.get_offsets().tolist() for handle in axes.collections}
    assert marks == {"nothing": [[1.0, 40.0], [2.0, 20.0]], "every block": [[1.3, 25.0]]}
    assert [text.get_text() for text in axes.texts] == ["8", "8", "1"]
    assert axes.get_ylim()[0] == 0


def test_curve_is_written(tmp_path: Path) -> None:
    plot_curve(CURVE[:1], "FT-Last", tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 5000
