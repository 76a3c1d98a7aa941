"""Standard output as a console that never fails on a character that its encoding lacks."""

import io
import sys

from rich.console import Console


def terminal() -> Console:
    """Returns a console on standard output; what its encoding lacks is printed as `?`."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    return Console()
