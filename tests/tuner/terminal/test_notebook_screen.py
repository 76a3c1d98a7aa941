import time

from rich.text import Text

from tests.support.notebook import in_a_cell
from tuner.terminal.notebook_screen import HEIGHT, REDRAW_S, WIDTH, NotebookScreen, as_text, notebook_console


def test_one_place_of_the_cell_shows_the_view_and_is_empty_at_the_end():
    state = ["first <b>"]
    screen = NotebookScreen(lambda: Text(state[0]))
    with in_a_cell() as cell:
        screen.start()
        assert [bundle["text/plain"] for bundle in cell.shown] == ["first <b>"]
        assert "first &lt;b&gt;" in cell.shown[0]["text/html"]
        state[0] = "second"
        deadline = time.monotonic() + 20 * REDRAW_S
        while cell.shown[0]["text/plain"] != "second" and time.monotonic() < deadline:
            time.sleep(0.01)
        assert [bundle["text/plain"] for bundle in cell.shown] == ["second"]
        screen.stop()
        state[0] = "third"
    assert cell.shown == [{"text/plain": "", "text/html": ""}]


def test_a_view_is_text_without_colours_and_as_wide_as_the_console():
    text = as_text(lambda: Text("x" * (WIDTH + 5), style="red"))
    assert text == "x" * WIDTH + "\n" + "x" * 5
    console = notebook_console()
    assert (console.width, console.height) == (WIDTH, HEIGHT)
    assert not console.is_jupyter and not console.is_terminal
