import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from tinytl.plots.curves import MOST_NAMED, best_first, plot_curves
from tinytl.plots.style import PALETTE, save_figure
from tinytl.runs.record import read_run

MakeRun = Callable[..., Path]


def _legend(figure: Figure) -> list[str]:
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_one_run_has_training_and_validation_in_a_panel(make_run: MakeRun, tmp_path: Path) -> None:
    figure = plot_curves([read_run(make_run("a", epochs=4, accuracy=0.8))])
    accuracy, loss = figure.axes
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "top-1 accuracy (fraction)",
        "loss (cross-entropy)",
    ]
    assert [axes.get_xlabel() for axes in figure.axes] == ["epoch", "epoch"]
    train, val = accuracy.lines
    assert list(val.get_xdata()) == [1, 2, 3, 4]
    assert list(val.get_ydata()) == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert list(train.get_ydata()) == pytest.approx([0.15, 0.35, 0.55, 0.75])
    assert list(loss.lines[1].get_ydata()) == pytest.approx([1.95, 1.7, 1.45, 1.2])
    assert _legend(figure) == ["training", "validation"]
    assert figure.get_suptitle() == "digits, efficientnet_lite0, FT-Last, frozen_bn, 96 px, batch 8"
    save_figure(figure, tmp_path / "curves.png")


def test_several_runs_share_four_panels(make_run: MakeRun) -> None:
    runs = [read_run(make_run(m, method=m, accuracy=a)) for m, a in (("FT-Last", 0.5), ("TinyTL-B", 0.7))]
    figure = plot_curves(runs)
    assert [axes.get_title("left") for axes in figure.axes] == 2 * ["training"] + 2 * ["validation"]
    assert [len(axes.lines) for axes in figure.axes] == [2, 2, 2, 2]
    assert _legend(figure) == ["FT-Last", "TinyTL-B"]
    assert figure.axes[2].lines[1].get_ydata()[-1] == pytest.approx(0.7)
    assert figure.axes[0].get_ylim() == figure.axes[2].get_ylim()
    assert figure.axes[1].get_ylim() == figure.axes[3].get_ylim()
    for axes in figure.axes:
        assert [line.get_color() for line in axes.lines] == list(PALETTE[:2])


def test_of_many_runs_the_most_accurate_are_named(make_run: MakeRun) -> None:
    runs = [read_run(make_run(f"r{i:02}", accuracy=0.3 + i / 100, seed=i, epochs=20)) for i in range(60)]
    assert best_first(runs)[:2] == [59, 58]
    figure = plot_curves(runs)
    assert _legend(figure) == [*(f"seed {i}" for i in range(52, 60)), "52 less accurate runs"]
    assert len(figure.axes[0].lines) == 60
    named = [line for line in figure.axes[0].lines if line.get_zorder() == 3]
    assert len(named) == MOST_NAMED


def test_what_is_not_finite_is_a_gap_and_said(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run("a", epochs=3, finished=False)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rows[1]["val_loss"] = float("nan")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    figure = plot_curves([read_run(folder), read_run(make_run("b", finished=False))])
    assert _legend(figure) == ["a (loss not finite in epoch 2)", "b"]
    assert np.isnan(figure.axes[3].lines[0].get_ydata()).tolist() == [False, True, False]

    for row in rows:
        row |= {"loss": float("inf"), "val_loss": float("nan")}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    figure = plot_curves([read_run(folder)])
    assert [text.get_text() for text in figure.axes[1].texts] == ["no finite value"]
    save_figure(figure, tmp_path / "curves.svg")


def test_one_epoch_has_room_and_a_whole_number(make_run: MakeRun) -> None:
    figure = plot_curves([read_run(make_run("a", epochs=1))])
    axes = figure.axes[0]
    figure.draw_without_rendering()
    low, high = axes.get_xlim()
    assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [1.0]
    assert axes.lines[0].get_marker() == "o"


def test_equal_accuracies_do_not_look_like_a_trend(make_run: MakeRun) -> None:
    folder = make_run("a")
    rows = [{"epoch": e, "loss": 2.0, "train_accuracy_top1": 0.1, "accuracy_top1": 0.1001} for e in (1, 2)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    low, high = plot_curves([read_run(folder)]).axes[0].get_ylim()
    assert high - low > 0.1
