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


def about(benchmark: str) -> dict[str, object]:
    """Returns machine, torch, date, and the command of `benchmark`, a module of this folder."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), None)
    return {
        "command": shlex.join(["python", "-m", f"benchmarks.{benchmark}", *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "torch": torch.__version__,
        "machine": {
            "cpu": model or platform.processor(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
    }


def write_result(path: Path, benchmark: str, figures: Mapping[str, Any]) -> None:
    """Writes figures as JSON, with what they depend on before them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(about(benchmark) | dict(figures), indent=1) + "\n")
