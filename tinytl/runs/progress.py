"""What a training run shows while it runs: a bar on a terminal, plain lines elsewhere."""

import sys
from collections.abc import Callable
from types import TracebackType


class PlainProgress:
    """Shows lines only, for files and pipes."""

    def __init__(self, report: Callable[[str], None] = print) -> None:
        self.report = report

    def start(self, images: int, done: int) -> None:
        """Starts a display of `images` in all epochs together, of which `done` are trained."""

    def advance(self, images: int) -> None:
        """Counts more trained images."""

    def __enter__(self) -> "PlainProgress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class TerminalProgress(PlainProgress):
    """Shows lines above a bar with images per second and the time left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self._bar = Progress(
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %  {task.fields[speed]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(highlight=False),
            transient=True,
        )
        self._task = self._bar.add_task("", start=False, visible=False, speed="")
        super().__init__(lambda line: self._bar.console.print(line, markup=False, soft_wrap=True))

    def start(self, images: int, done: int) -> None:
        """Shows the bar."""
        self._bar.update(self._task, total=images, completed=done, visible=True)
        self._bar.start_task(self._task)

    def advance(self, images: int) -> None:
        """Moves the bar."""
        self._bar.advance(self._task, images)
        speed = self._bar.tasks[0].speed
        self._bar.update(self._task, speed=f"{speed:.0f} images/s" if speed else "")

    def __enter__(self) -> "TerminalProgress":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


def progress_for_this_output() -> PlainProgress:
    """Returns a bar if standard output is a terminal."""
    return TerminalProgress() if sys.stdout.isatty() else PlainProgress()
