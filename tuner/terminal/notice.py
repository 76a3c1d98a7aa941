"""What happens before trials train: plain lines, or on a terminal one line that disappears again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from rich.console import Console

Notice: TypeAlias = Callable[[str | None], None]
"""Called with what begins now, in a few words; with None once the next part prints its own lines."""
CLEAR_LINE = "\r\x1b[2K"


def no_notice(text: str | None) -> None:
    """Says nothing."""


@contextmanager
def notices(console: Console) -> Iterator[Notice]:
    """Yields a function that prints notices to a console; at the end it clears the last one on a terminal."""
    on_terminal = console.is_terminal and console.is_interactive
    stands = False

    def notice(text: str | None) -> None:
        nonlocal stands
        if not on_terminal:
            if text is not None:
                console.print(f"{text} ...", highlight=False, markup=False, soft_wrap=True)
        elif stands or text is not None:
            shown = "" if text is None else f"{text} ..."[: console.width - 1]
            console.file.write(CLEAR_LINE + shown)
            stands = text is not None
        console.file.flush()

    try:
        yield notice
    finally:
        notice(None)
