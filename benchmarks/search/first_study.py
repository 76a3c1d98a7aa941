"""What a newcomer's first command gives: how long `make tune` takes, and how good its front is.

The command runs with an empty home, so the machine is calibrated as well. The hypervolume counts from
accuracy 0 in 183.6 MiB, the largest memory of the first version's study: once over the pairs of trial and
plan that count as the study's memory (`--max-slowdown` 2), and once over every plan of every trial.

    python -m benchmarks.search.first_study --json benchmarks/results/search_first_study_MACHINE_YYYYMM.json
"""

import argparse
import dataclasses
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.shared.machine import write_result
from benchmarks.shared.places import ROOT
from tuner.record.reading import open_study
from tuner.record.results import hypervolume

REFERENCE_MIB = 183.6
BEFORE = {"seconds": 288, "hypervolume": 0.847}
"""Of the version before plans left the search, on another machine."""
PREDICTED = {"seconds": 200, "pairs": 5, "hypervolume": 0.85, "hypervolume_of_every_plan": 0.88}
"""Written before the first run."""


def first_study(seed: int) -> dict[str, Any]:
    """Runs `make tune`; returns its time and the quality of its front."""
    with tempfile.TemporaryDirectory() as home:
        runs = f"{home}/runs"
        command = ["make", "tune", f"ARGS=--runs-dir {runs} --name first --seed {seed}"]
        start = time.time()
        subprocess.run(command, cwd=ROOT, env=os.environ | {"HOME": home}, check=True)
        seconds = time.time() - start
        study = open_study("first", runs)
    every = [
        dataclasses.replace(trial, peak_memory_mib=plan.peak_memory_mib)
        for trial in study.complete
        for plan in trial.curve
    ]
    within, of_all = hypervolume(study.complete, REFERENCE_MIB), hypervolume(every, REFERENCE_MIB)
    assert within is not None and of_all is not None
    return {
        "seed": seed,
        "seconds": round(seconds, 1),
        "pairs": len(study.front),
        "front": [(t.name, round(t.accuracy_top1, 4), round(t.peak_memory_mib, 2)) for t in study.front],
        "hypervolume": round(within.fraction, 4),
        "hypervolume_of_every_plan": round(of_all.fraction, 4),
    }


def main() -> None:
    """Runs a study per seed, prints and writes what each gave."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = []
    for seed in args.seeds:
        rows.append(first_study(seed))
        print(rows[-1], flush=True)
    if args.json:
        figures = {"reference_mib": REFERENCE_MIB, "before": BEFORE, "predicted_before": PREDICTED}
        write_result(args.json, figures | {"rows": rows})


if __name__ == "__main__":
    main()
