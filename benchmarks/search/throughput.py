"""How many trials per hour, against the obvious program (`benchmarks.search.obvious_program`)?

The twenty-four configurations of throughput.yaml on the bundled digits: two epochs at 32 pixels, two
workers of one thread. Both programs run as commands, in turn. `whole` counts from the start of the process to
its end, `between` the trials that ended after the first one, by MLflow's clock in both: the rate of a longer
search. Accuracies are compared, to check that both did the same work.

    python -m benchmarks.search.throughput --json benchmarks/results/search_throughput_MACHINE_YYYYMM.json
"""

import argparse
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.shared.machine import store_no_features, write_result
from benchmarks.shared.places import ROOT
from search_spaces.space import load_space

SPACE_FILE = Path(__file__).with_suffix(".yaml")
PREDICTED = {"whole": 2.0, "between": 3.5}
"""Expected before the first run: the obvious program starts a process for each trial and imports torch in it
(8 s beside 5 s of training), but both begin with some 25 s of Ray's start."""
_TRIALS = "run_uuid NOT IN (SELECT run_uuid FROM tags WHERE key = 'kind' AND value = 'study')"


def run_ours(folder: Path, epochs: int, workers: int) -> list[str]:
    """Returns the command of this project's search."""
    trials = len(load_space(str(SPACE_FILE)).baselines)
    return [
        sys.executable, "launch.py", "--space", str(SPACE_FILE), "--trials", str(trials),
        "--epochs", str(epochs), "--workers", str(workers), "--runs-dir", str(folder), "--name", "ours",
    ]  # fmt: skip


def run_obvious(folder: Path, epochs: int, workers: int) -> list[str]:
    """Returns the command of the obvious program, for the same configurations."""
    space = load_space(str(SPACE_FILE))
    points = folder.with_suffix(".json")
    points.write_text(json.dumps([dict(point) for point in space.baselines.values()]))
    return [
        sys.executable, "-m", "benchmarks.search.obvious_program", "--configurations", str(points),
        "--trials", str(len(space.baselines)), "--resolution", str(space.fixed["resolution"]),
        "--epochs", str(epochs), "--workers", str(workers), "--folder", str(folder),
    ]  # fmt: skip


def timed(command: list[str], folder: Path, epochs: int) -> dict[str, Any]:
    """Runs a command and returns its trials, its seconds, and what its MLflow database says about them.

    Raises:
        RuntimeError: with the end of its output, if the command fails.
    """
    start = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    whole_s = time.monotonic() - start
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {(done.stdout + done.stderr)[-2000:]}")
    with sqlite3.connect(folder / "mlflow.db") as database:
        ends = [ms / 1000 for (ms,) in database.execute(f"SELECT end_time FROM runs WHERE {_TRIALS}")]
        last = f"key = 'accuracy_top1' AND step = {epochs} AND {_TRIALS}"
        accuracies = [value for (value,) in database.execute(f"SELECT value FROM metrics WHERE {last}")]
    between_s = max(ends) - min(ends)
    return {
        "trials": len(ends),
        "whole_s": round(whole_s, 2),
        "between_s": round(between_s, 2),
        "trials_an_hour": {
            "whole": round(len(ends) / whole_s * 3600, 1),
            "between": round((len(ends) - 1) / between_s * 3600, 1),
        },
        "accuracies": sorted(accuracies),
    }


def main() -> None:
    """Runs both in turn, prints and writes the ratio of medians."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    store_no_features()
    rows: dict[str, list[dict[str, Any]]] = {"ours": [], "obvious": []}
    load = os.getloadavg()[0]
    for turn in range(args.rounds):
        for name, build in (("ours", run_ours), ("obvious", run_obvious)):
            with tempfile.TemporaryDirectory() as temporary:
                folder = Path(temporary) / name
                rows[name].append(timed(build(folder, args.epochs, args.workers), folder, args.epochs))
            print(turn + 1, name, {k: v for k, v in rows[name][-1].items() if k != "accuracies"}, flush=True)
    ratios = {}
    for kind in ("whole", "between"):
        medians = {n: statistics.median(r["trials_an_hour"][kind] for r in rows[n]) for n in rows}
        ratios[kind] = round(medians["ours"] / medians["obvious"], 2)
    same = all(row["accuracies"] == rows["ours"][0]["accuracies"] for own in rows.values() for row in own)
    print(f"ratio of medians: {ratios}; predicted {PREDICTED}; same accuracies: {same}")
    if args.json:
        figures = {
            "epochs": args.epochs,
            "workers": args.workers,
            "load_average_before": round(load, 2),
            "predicted_before": PREDICTED,
            "ratio_of_medians": ratios,
            "same_accuracies": same,
            "rounds": rows,
        }
        write_result(args.json, figures)


if __name__ == "__main__":
    main()
