"""Standard output as a console that prints whatever its encoding can, and nothing worse."""

import io
import sys

from rich.console import Console


def terminal() -> Console:
    """Returns a console on standard output; what its encoding lacks is printed as `?`."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    return Console()
