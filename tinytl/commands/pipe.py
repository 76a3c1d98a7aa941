"""Ends a command cleanly when the reader of its output closes the pipe."""

import os
import sys
from collections.abc import Callable


def run_for_reader(command: Callable[[], int]) -> int:
    """Runs a command and returns its exit code, or 0 if the reader closed the pipe, as `head` does."""
    try:
        code = int(command())
        sys.stdout.flush()  # here, so that a closed pipe is noticed
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
