"""Standard output and error that no reader and no name of a file can break. Imports nothing heavy."""

import io
import os
import sys
from pathlib import Path

NAMES = ("stdout", "stderr")


def use_patient_streams() -> None:
    """Makes standard output and error outlive their reader and take any text, for the rest of the process.

    A command whose reader leaves, as `head` does, runs to its end, and a study goes on. What an encoding
    lacks is written as an escape. A stream that is closed swallows what is written. Streams that something
    else has put in place are left alone.
    """
    for name in NAMES:
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # for the whole process
        elif stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper):
            stream.flush()
            setattr(sys, name, _patient(stream))


def _patient(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.BufferedWriter(_PatientFile(stream.fileno(), "wb", closefd=False)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


class _PatientFile(io.FileIO):
    def write(self, data: object) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except BrokenPipeError:
            # Of this process alone: what it started has its own.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            return super().write(data)  # type: ignore[arg-type]
