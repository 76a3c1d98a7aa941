"""Why a study stops before its last trial: Ctrl-C, SIGTERM, or a time budget that is spent."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

INTERRUPTED = "interrupted"
TIME_SPENT = "the time budget is spent"


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Makes SIGTERM raise KeyboardInterrupt in the main thread, as Ctrl-C does."""
    with _handled({signal.SIGTERM: signal.default_int_handler}):
        yield


class Stopping:
    """Says whether a study continues: `reason` is None until it has to stop."""

    def __init__(self, time_budget_s: float | None = None) -> None:
        self._deadline = None if time_budget_s is None else time.monotonic() + time_budget_s
        self._interrupted = False
        self._because: str | None = None

    def because(self, reason: str) -> None:
        """Stops the study for `reason`; the first reason stays."""
        self._because = self._because or reason

    @property
    def reason(self) -> str | None:
        """Why the study has to stop, or None."""
        if self._interrupted:
            return INTERRUPTED
        if self._because is not None:
            return self._because
        spent = self._deadline is not None and time.monotonic() >= self._deadline
        return TIME_SPENT if spent else None

    @property
    def interrupted(self) -> bool:
        """Whether a signal asked the study to stop."""
        return self._interrupted

    @contextmanager
    def on_signals(self, tell: Callable[[], None]) -> Iterator[None]:
        """Handles Ctrl-C and SIGTERM: the first stops the study and calls `tell`, the next raises
        KeyboardInterrupt.
        """

        def handle(number: int, frame: FrameType | None) -> None:
            if self._interrupted:
                raise KeyboardInterrupt
            self._interrupted = True
            tell()

        with _handled({signal.SIGINT: handle, signal.SIGTERM: handle}):
            yield


@contextmanager
def _handled(handlers: Mapping[signal.Signals, Callable[[int, FrameType | None], Any]]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # Python hands signals to that one alone
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
