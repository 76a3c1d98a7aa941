"""What a benchmark's figures depend on besides the code, as every result file states it."""

import datetime
import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tinytl.features.limit import MOST_VARIABLE


def about() -> dict[str, object]:
    """Returns machine, torch, date, and the command of the running benchmark."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), None)
    return {
        "command": shlex.join(["python", "-m", _running_module(), *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "torch": torch.__version__,
        "machine": {
            "cpu": model or platform.processor(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
    }


def store_no_features() -> None:
    """From now on runs of this process, and of those that it starts, compute all that is timed."""
    os.environ[MOST_VARIABLE] = "0"


def write_result(path: Path, figures: Mapping[str, Any]) -> None:
    """Writes figures as JSON, one row per line, after what they depend on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(row_a_line(about() | dict(figures)))


def row_a_line(content: Mapping[str, Any]) -> str:
    """Returns JSON in which each row of a table, and each short value, has a line of its own.

    A list of dicts is a table. A dict that holds tables, or dicts, is laid out in the same way, indented.
    """
    return _lines(content, "") + "\n"


def _lines(value: Any, indent: str) -> str:
    deeper = indent + " "
    if isinstance(value, Mapping) and any(isinstance(inner, Mapping | list) for inner in value.values()):
        if not indent or any(_is_table(inner) or isinstance(inner, Mapping) for inner in value.values()):
            pairs = (f"{deeper}{json.dumps(str(k))}: {_lines(inner, deeper)}" for k, inner in value.items())
            return "{\n" + ",\n".join(pairs) + f"\n{indent}}}"
    if _is_table(value):
        return "[\n" + ",\n".join(deeper + json.dumps(row) for row in value) + f"\n{indent}]"
    return json.dumps(value)


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, Mapping | list) for row in value)


def _running_module() -> str:
    spec = sys.modules["__main__"].__spec__
    assert spec is not None, "start a benchmark as a module: its command is part of the result"
    return spec.name
