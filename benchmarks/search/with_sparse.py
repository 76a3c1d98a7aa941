"""What the method Sparse adds to a search: the hypervolume of `joint` with it and without it.

Both studies of a seed train as many trials for as many epochs, and begin with the same two baselines. The
hypervolume counts from accuracy 0 (validation) and from the memory of the first, `user_report`. Studies are
kept under `--runs`, so a call that was cut off resumes.

    python -m benchmarks.search.with_sparse --json benchmarks/results/search_with_sparse_MACHINE_YYYYMM.json
"""

import argparse
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.shared.machine import write_result
from benchmarks.shared.places import ROOT
from search_spaces.space import load_space
from tuner.record.reading import open_study
from tuner.record.results import hypervolume

BASELINE = "user_report"
PREDICTED = {"with Sparse / without, hypervolume": 1.01}
"""Written before the first run."""


def without_sparse() -> str:
    """Returns the flag that leaves Sparse out of `joint`."""
    (method,) = (p for p in load_space("joint").parameters if p.name == "method")
    return "method=" + ",".join(m for m in method.values.describe().split(", ") if m != "Sparse")


def searched(seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Runs the two studies of a seed, and returns what each found."""
    row: dict[str, Any] = {"seed": seed}
    for arm, flags in {"with": [], "without": ["--set", without_sparse()]}.items():
        name = f"joint-{arm}-sparse-{seed}"
        command = [sys.executable, "launch.py", "--space", "joint", "--name", name, "--seed", str(seed)]
        command += ["--runs-dir", str(args.runs.resolve()), "--tracking-uri", "none", *flags]
        command += ["--trials", str(args.trials), "--epochs", str(args.epochs)]
        if (args.runs / name).exists():
            command.append("--resume")
        subprocess.run(command, cwd=ROOT, check=True)
        study = open_study(name, str(args.runs))
        (reference_mib,) = (t.peak_memory_mib for t in study.complete if t.baseline == BASELINE)
        volume = hypervolume(study.complete, reference_mib)
        assert volume is not None
        row[arm] = {
            "trials": len(study.complete),
            "hypervolume": round(volume.fraction, 4),
            "sparse_trials": sum(trial.params.get("method") == "Sparse" for trial in study.complete),
            "front": [
                (trial.params["method"], round(trial.accuracy_top1, 4), round(trial.peak_memory_mib, 2))
                for trial in study.front
            ],
        }
    return row | {"ratio": round(row["with"]["hypervolume"] / row["without"]["hypervolume"], 4)}


def main() -> None:
    """Runs what is missing, prints and writes the ratio of each seed."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks/with_sparse"))
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    rows = []
    for seed in args.seeds:
        rows.append(searched(seed, args))
        ratio = statistics.mean(row["ratio"] for row in rows)
        settings = {"trials": args.trials, "epochs": args.epochs}
        write_result(
            args.json, {"predicted_before": PREDICTED, "settings": settings, "ratio": ratio, "rows": rows}
        )


if __name__ == "__main__":
    main()
