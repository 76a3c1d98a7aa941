"""A newcomer's path from a folder of pictures to a prediction, by the commands that the tool prints, timed.

It checks the folder and starts a study. What comes next is read from the study's last lines: the command
after `Finish:`, and the one after `Use it:`. The home is empty, so the machine is calibrated as well.
`--finish-budget` adds `--time-budget` to the first of the two.

    python -m benchmarks.service.first_model --data-dir FOLDER --finish-budget 300 \
        --json benchmarks/results/first_model_MACHINE_YYYYMM.json
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.shared.machine import write_result
from benchmarks.shared.places import ROOT

PREDICTED = {"check": 20, "launch.py": 300, "tuner finish": 300, "tinytl predict": 8, "together, minutes": 11}
"""Seconds; eight trials of three epochs at 64 px on emoji. Written before the first run."""
ENDINGS = (".jpg", ".jpeg", ".png", ".webp")


def step(command: str, home: str) -> dict[str, Any]:
    """Runs a command in the checkout, shows its output, and returns it with its seconds."""
    print(f"$ {command}", flush=True)
    here = str(Path(sys.executable).parent)
    env = os.environ | {"HOME": home, "PATH": f"{here}:{os.environ['PATH']}", "COLUMNS": "100"}
    start = time.time()
    process = subprocess.Popen(
        command, shell=True, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        print(line, end="", flush=True)
    if process.wait():
        raise SystemExit(f"{command} ended with {process.returncode}")
    return {"command": command, "seconds": round(time.time() - start, 1), "output": "".join(lines)}


def printed(output: str, label: str) -> str:
    """Returns the command that a step printed after a label."""
    found = re.search(rf"^{label}:\s+(python .*?)(?:\s{{2,}}\(.*)?$", output, re.MULTILINE)
    assert found, f"no command after {label}:"
    return found[1]


def without(text: str, hidden: dict[str, str]) -> str:
    """Returns a command with other words for the folders of this machine."""
    for folder, word in hidden.items():
        text = text.replace(folder, word)
    return text


def main() -> None:
    """Walks the path once, prints and writes its steps."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--finish-budget", type=int, metavar="SECONDS")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    data = f"--dataset imagefolder --data-dir {args.data_dir.resolve()}"
    pictures = (path for path in sorted(args.data_dir.rglob("*")) if path.suffix.lower() in ENDINGS)
    with tempfile.TemporaryDirectory() as home:
        steps = [step(f"python -m tinytl check {data}", home)]
        shape = f"--trials {args.trials} --epochs {args.epochs} --set resolution={args.resolution}"
        study = f"python launch.py --space joint {data} {shape} --name first --runs-dir {home}/runs"
        steps.append(step(study, home))
        budget = "" if args.finish_budget is None else f" --time-budget {args.finish_budget}"
        steps.append(step(printed(steps[-1]["output"], "Finish") + budget, home))
        use = printed(steps[-1]["output"], "Use it").replace("PICTURE", str(next(pictures)))
        steps.append(step(use, home))
    total = round(sum(one["seconds"] for one in steps), 1)
    print({one["command"]: one["seconds"] for one in steps} | {"together": total})
    if args.json:
        hidden = {home: "HOME", str(args.data_dir.resolve()): "FOLDER"}
        rows = [{"command": without(one["command"], hidden), "seconds": one["seconds"]} for one in steps]
        write_result(args.json, {"predicted_before": PREDICTED, "rows": rows, "together_s": total})


if __name__ == "__main__":
    main()
