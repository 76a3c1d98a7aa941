import os
import pty
import subprocess
import sys

import pytest

from tests.support.places import ROOT
from tinytl.runs.progress import PlainProgress, progress_for_this_output

PROGRAM = """
from tinytl.runs.progress import progress_for_this_output
with progress_for_this_output() as progress:
    progress.start(200, 50)
    for _ in range(15):
        progress.advance(10)
    progress.report("epoch 1/1 [done]")
    progress._bar.refresh() if hasattr(progress, "_bar") else None
"""


def test_lines_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    progress = progress_for_this_output()
    assert type(progress) is PlainProgress
    with progress:
        progress.start(10, 0)
        progress.advance(5)
        progress.report("epoch 1/2")
    assert capsys.readouterr().out == "epoch 1/2\n"


def test_a_bar_on_a_terminal() -> None:
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], stdout=theirs, env=environment, timeout=60, check=True
    )
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 4096):
            shown += chunk
    except OSError:  # all read
        pass
    os.close(ours)
    text = shown.decode()
    assert done.returncode == 0
    assert "epoch 1/1 [done]" in text  # brackets are no mark-up
    assert "100 %" in text and "images/s" in text and "left" in text
