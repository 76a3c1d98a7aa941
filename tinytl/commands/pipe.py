"""Ending well when whoever reads a command's output has seen enough."""

import os
import sys
from collections.abc import Callable


def run_for_reader(command: Callable[[], int]) -> int:
    """Runs a command that prints, and returns its exit code; 0 if its reader left, as `head` does."""
    try:
        code = int(command())
        sys.stdout.flush()  # here, where who does not read on is met
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
