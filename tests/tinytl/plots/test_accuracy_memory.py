import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from tinytl.config.names import METHODS
from tinytl.plots.accuracy_memory import (
    accuracy_key,
    average_over_seeds,
    comparable,
    method_style,
    pareto_front,
    plot_accuracy_memory,
)
from tinytl.plots.style import MUTED
from tinytl.runs.record import RunRecord, read_run

MakeRun = Callable[..., Path]
VAL = "val_accuracy_top1"


@pytest.fixture
def runs(make_run: MakeRun) -> list[RunRecord]:
    """FT-Last with two seeds; TinyTL-B beats FT-Full in both; TinyTL-L+B is the most accurate."""
    folders = [
        make_run("a", method="FT-Last", accuracy=0.5, memory=10.0, seed=0),
        make_run("b", method="FT-Last", accuracy=0.7, memory=10.0, seed=1),
        make_run("c", method="FT-Full", accuracy=0.75, memory=90.0, measured=None),
        make_run("d", method="TinyTL-B", accuracy=0.8, memory=20.0),
        make_run("e", method="TinyTL-L+B", accuracy=0.9, memory=40.0),
    ]
    return [read_run(folder) for folder in folders]


def test_seeds_are_averaged(runs: list[RunRecord]) -> None:
    points = average_over_seeds(runs, VAL)
    assert [(p.method, p.n_runs) for p in points] == [
        ("FT-Last", 2),
        ("FT-Full", 1),
        ("TinyTL-B", 1),
        ("TinyTL-L+B", 1),
    ]
    first = points[0]
    assert (first.accuracy, first.lowest, first.highest) == pytest.approx((0.6, 0.5, 0.7))
    assert (points[1].measured_mib, points[2].measured_mib) == (None, 20.5)


def test_a_seed_of_an_older_run_without_a_field_is_one_of_its_seeds(make_run: MakeRun) -> None:
    new, other = read_run(make_run("a")), read_run(make_run("b", dropout=0.5))
    old = dataclasses.replace(
        new, config={k: v for k, v in new.config.items() if k != "dropout"} | {"seed": 1}
    )
    assert [p.n_runs for p in average_over_seeds([new, old, other], VAL)] == [2, 1]


def test_the_front(runs: list[RunRecord]) -> None:
    front = pareto_front(average_over_seeds(runs, VAL))
    assert [p.method for p in front] == ["FT-Last", "TinyTL-B", "TinyTL-L+B"]


def test_test_accuracy_only_where_every_run_has_one(runs: list[RunRecord], make_run: MakeRun) -> None:
    assert accuracy_key(runs) == "test_accuracy_top1"
    without = read_run(make_run("f", test=False))
    assert accuracy_key([*runs, without]) == VAL
    assert (
        plot_accuracy_memory([*runs, without]).axes[0].get_ylabel() == "top-1 accuracy, validation (fraction)"
    )


def test_a_mark_a_method_a_ring_for_measured_a_line_for_the_front(runs: list[RunRecord]) -> None:
    figure = plot_accuracy_memory(runs)
    (axes,) = figure.axes
    assert axes.get_xlabel() == "predicted peak of a training step, MiB (log scale)"
    assert axes.get_ylabel() == "top-1 accuracy, test (fraction)"
    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == ["FT-Last", "FT-Full", "TinyTL-B", "TinyTL-L+B", "measured", "Pareto front"]
    places = [tuple(mark.get_offsets()[0]) for mark in axes.collections if hasattr(mark, "get_sizes")]
    assert (90.0, pytest.approx(0.65)) in places
    assert [place for place in places if place[0] == 20.5] == [
        (20.5, pytest.approx(y)) for y in (0.5, 0.7, 0.8)
    ]
    (front,) = (line for line in axes.lines if line.get_color() == MUTED)
    assert list(front.get_xdata()) == [10.0, 20.0, 40.0]
    assert list(front.get_ydata()) == pytest.approx([0.5, 0.7, 0.8])
    (bar,) = axes.containers
    assert bar.has_yerr
    assert "mean of up to 2 seeds" in figure.get_suptitle()


def test_every_method_has_its_own_mark() -> None:
    assert len({method_style(method).marker for method in METHODS}) == len(METHODS)


def test_configurations_of_a_method_say_in_what_they_differ(make_run: MakeRun) -> None:
    runs = [
        read_run(make_run(f"r{r}", resolution=r, accuracy=0.004 * r, memory=float(r))) for r in (64, 96, 128)
    ]
    figure = plot_accuracy_memory([*runs, read_run(make_run("b", method="TinyTL-B", memory=70.0))])
    assert [text.get_text() for text in figure.axes[0].texts] == [
        "resolution 64",
        "resolution 96",
        "resolution 128",
    ]
    _assert_nothing_overlaps(figure)


def test_of_many_labels_none_covers_another(make_run: MakeRun) -> None:
    runs = [
        read_run(make_run(f"r{i}", base_lr=0.001 + i / 1e4, accuracy=0.6 + i / 2000, memory=20.0 + i / 100))
        for i in range(12)
    ]
    figure = plot_accuracy_memory(runs)
    assert 0 < len(figure.axes[0].texts) < 12
    _assert_nothing_overlaps(figure)


def test_points_at_the_same_place_are_both_seen(make_run: MakeRun) -> None:
    runs = [read_run(make_run(m, method=m, accuracy=0.5, measured=None)) for m in ("FT-Last", "TinyTL-B")]
    figure = plot_accuracy_memory(runs)
    below, above = (mark.get_sizes()[0] for mark in figure.axes[0].collections)
    assert below > 2 * above
    low, high = figure.axes[0].get_ylim()
    assert high - low > 0.1


def test_a_panel_a_data_set(make_run: MakeRun) -> None:
    folders = [
        make_run("a"),
        make_run("b", dataset="imagefolder", data_dir="/pictures/cars"),
        make_run("c", dataset="imagefolder", data_dir="/pictures/cars", method="TinyTL-B"),
    ]
    figure = plot_accuracy_memory([read_run(folder) for folder in folders])
    assert [axes.get_title("left") for axes in figure.axes] == ["digits", "cars"]


def test_what_cannot_be_compared(make_run: MakeRun) -> None:
    assert comparable(read_run(make_run("a")))
    assert not comparable(read_run(make_run("b", finished=False)))
    assert not comparable(read_run(make_run("c", accuracy=float("nan"))))


def _assert_nothing_overlaps(figure: Figure) -> None:
    axes = figure.axes[0]
    boxes = [text.get_window_extent() for text in axes.texts]
    frame = axes.get_window_extent()
    for i, box in enumerate(boxes):
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])
