import io
import re

import pytest
from rich.console import Console

from tuner.terminal.board import StudyBoard
from tuner.terminal.live_view import LiveView, clock_text, draw


def board_of(running=2, complete=12, budget_mib=60.0):
    now = [0.0]
    board = StudyBoard(
        requested=40, epochs=10, workers=max(1, running), budget_mib=budget_mib, clock=lambda: now[0]
    )
    for index in range(complete + running):
        name = f"joint-{index:03d}"
        board.trial_started(name)
        for epoch in range(1, 4):
            now[0] += 2
            row = {"epoch": epoch, "accuracy_top1": 0.5 + index / 100, "peak_memory_mib": 20.0 + index * 4}
            board.epoch_ended(name, row | {"epoch_time_s": 2.0, "images_per_s": 123.4})
        if index < complete:
            board.trial_ended(name, "complete")
    return board


def lines_of(board, width, height, encoding="utf-8", refused=0):
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")  # strict: what it lacks raises
    console = Console(file=out, width=width, height=height, force_terminal=True, color_system=None)
    console.print(draw(board, refused, console.options, height - 1))
    out.flush()
    return out.buffer.getvalue().decode(encoding).splitlines()


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
@pytest.mark.parametrize(("width", "height"), [(60, 15), (80, 24), (120, 40), (200, 60), (30, 6), (40, 3)])
@pytest.mark.parametrize("running", [0, 1, 2, 30])
def test_it_never_leaves_the_window(width, height, running, encoding):
    lines = lines_of(board_of(running), width, height, encoding)
    assert len(lines) <= height - 1
    assert all(len(line.rstrip()) < width for line in lines)


def test_it_says_who_trains_what_and_what_was_found():
    text = "\n".join(lines_of(board_of(), 80, 24, refused=5))
    assert "12/40 trials  1:24  about 2 min left" in text
    assert "12 complete, 2 running, 5 infeasible, 1.0 epochs/s, 247 images/s" in text
    assert re.search(r"joint-013 +3/10 .* 0\.630 +72\.0 +0:06", text)
    assert re.search(r"joint-010 +0\.600 +60\.0 +best under 60 MiB", text)


def test_what_does_not_fit_is_counted_and_the_most_accurate_stay():
    text = "\n".join(lines_of(board_of(running=9), 60, 15))
    assert text.count("more") == 2 and "joint-011" in text and "joint-000" not in text
    tight = "\n".join(lines_of(board_of(running=9, budget_mib=24.0), 60, 15))
    assert re.search(r"joint-001 +0\.510 +24\.0 +best under 24 MiB", tight)


def test_a_wide_terminal_has_a_plot_beside_the_front():
    assert "●" in "\n".join(lines_of(board_of(), 120, 40))
    assert "o" in "\n".join(lines_of(board_of(), 120, 40, "ascii"))
    assert "●" not in "\n".join(lines_of(board_of(), 60, 40))


def test_nothing_is_promised_before_the_first_epoch():
    board = StudyBoard(requested=4, epochs=2, workers=1)
    text = "\n".join(lines_of(board, 80, 24))
    assert "0/4 trials" in text and "starting" in text and "left" not in text


def test_lines_stand_above_the_view_and_it_is_gone_at_the_end():
    out = io.StringIO()
    console = Console(file=out, width=80, height=24, force_terminal=True, color_system=None)
    row = {"epoch": 1, "accuracy_top1": 0.75, "peak_memory_mib": 20.0, "epoch_time_s": 1.0}
    with LiveView(console, StudyBoard(requested=2, epochs=1, workers=1), lambda: 3) as view:
        view.trial_started("joint-000", {}, {}, None)
        view.epoch_ended("joint-000", row)
        view.note("a note")
        view.trial_ended("joint-000", "complete", None)
        view.trial_started("joint-001", {}, {}, None)
        view.stopping()
        assert view.board.phase == "stopping"
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    assert "a note\n" in text and "[1/2] joint-000  accuracy 0.750    20.0 MiB" in text
    assert "joint-001" in text and "3 infeasible" in text
    assert out.getvalue().rstrip().endswith("\x1b[2K"), "the view is wiped away"
    assert "\x1b[?25h" in out.getvalue(), "the cursor is back"


@pytest.mark.parametrize(("seconds", "clock"), [(3, "0:03"), (62, "1:02"), (754, "12:34"), (7384, "2:03:04")])
def test_a_clock(seconds, clock):
    assert clock_text(seconds) == clock
