"""How long from the command to the first training step, against bare Ray Tune (`benchmarks.search.bare_ray`)?

Digits, the same first configuration. Both programs run as commands, in turn, each with a fresh folder, and
are stopped once they train. The first step is recorded in the same way in both: `benchmarks/search/timeline`,
a sitecustomize, writes when `Trainer._step` is first called, and how the time before was spent.

    python -m benchmarks.search.launch --json benchmarks/results/search_launch_MACHINE_YYYYMM.json
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.shared.machine import write_result
from benchmarks.shared.places import ROOT
from benchmarks.shared.process_tree import command_line, descendants

TIMELINE = Path(__file__).parent / "timeline"
STEP = "Trainer._step starts"
TIMEOUT_S = 180
PREDICTED = {"1": 1.05, "2": 1.05}
"""Expected ratios by workers, if the search prepares itself while Ray starts. A first try, which did one
after the other, had shown 1.48."""


def command(program: str, workers: int, folder: Path) -> list[str]:
    """Returns the command of a program that trains as many trials as workers."""
    flags = ["--trials", str(workers), "--workers", str(workers), "--epochs", "1"]
    if program == "bare":
        return [sys.executable, "-m", "benchmarks.search.bare_ray", *flags]
    return [sys.executable, "launch.py", "--runs-dir", str(folder / "runs"), *flags]


def launch(program: str, workers: int) -> dict[str, Any]:
    """Returns the seconds to the first step, and the spans of the driver and of the worker that took it.

    Raises:
        RuntimeError: if the program ends, or three minutes pass, without a step.
    """
    with tempfile.TemporaryDirectory() as temporary:
        timeline = Path(temporary) / "timeline"
        timeline.touch()
        environment = os.environ | {"TIMELINE": str(timeline), "PYTHONPATH": str(TIMELINE)}
        start = time.time()
        process = subprocess.Popen(
            command(program, workers, Path(temporary)),
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while not (lines := _lines(timeline)) or all(what != STEP for _, what, _, _ in lines):
                if process.poll() is not None or time.time() > start + TIMEOUT_S:
                    raise RuntimeError(f"{program}: no training step ({process.returncode=})")
                time.sleep(0.05)
        finally:
            # Ray's processes end by themselves after the driver; the next launch waits for them.
            below = descendants(process.pid)
            process.kill()
            process.wait()
            while any(command_line(own) for own in below):
                time.sleep(0.1)
    worker, _, first, _ = min((line for line in lines if line[1] == STEP), key=lambda line: line[2])
    return {
        "to_first_step_s": round(first - start, 2),
        "driver": _spans(lines, process.pid, start),
        "worker": _spans(lines, worker, start),
    }


def _lines(timeline: Path) -> list[list[Any]]:
    return [json.loads(line) for line in timeline.read_text().splitlines()]


def _spans(lines: Sequence[Sequence[Any]], process: int, start: float) -> dict[str, list[float]]:
    """Returns when each thing in one process began and ended, in seconds after the command."""
    own = [line for line in lines if line[0] == process and not line[1].endswith("starts")]
    return {
        what.partition(" /")[0]: [round(begin - start, 2), round(end - start, 2)]
        for _, what, begin, end in sorted(own, key=lambda line: line[2])
    }


def main() -> None:
    """Runs both in turn for each number of workers, prints and writes the ratio of medians."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    load = os.getloadavg()[0]
    figures: dict[str, Any] = {
        "load_average_before": round(load, 2),
        "rounds": args.rounds,
        "predicted_before": PREDICTED,
    }
    for workers in args.workers:
        rounds: dict[str, list[dict[str, Any]]] = {"ours": [], "bare": []}
        for _ in range(args.rounds):
            for program, rows in rounds.items():
                rows.append(launch(program, workers))
                print(workers, program, rows[-1]["to_first_step_s"], flush=True)
        medians = {p: statistics.median(r["to_first_step_s"] for r in rows) for p, rows in rounds.items()}
        ratio = round(medians["ours"] / medians["bare"], 2)
        print(f"{workers} workers: {medians} s, ratio {ratio}")
        figures[f"workers_{workers}"] = {"medians_s": medians, "ratio_of_medians": ratio, "runs": rounds}
    if args.json:
        write_result(args.json, figures)


if __name__ == "__main__":
    main()
