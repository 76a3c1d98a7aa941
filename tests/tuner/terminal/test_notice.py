import io

import pytest
from rich.console import Console

from tuner.terminal.notice import CLEAR_LINE, notices


def test_a_pipe_is_given_lines():
    out = io.StringIO()
    with notices(Console(file=out)) as notice:
        notice("reading 12,000 images")
        notice(None)
        notice("starting Ray")
    assert out.getvalue() == "reading 12,000 images ...\nstarting Ray ...\n"


def test_a_terminal_is_left_clean_even_after_a_mistake():
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, force_interactive=True, width=20)
    with pytest.raises(ValueError, match="wrong"), notices(console) as notice:
        notice(None)
        assert out.getvalue() == ""
        notice("reading 12,000 images")
        notice("starting Ray")
        raise ValueError("wrong")
    parts = out.getvalue().split(CLEAR_LINE)
    assert parts == ["", "reading 12,000 imag", "starting Ray ...", ""]
