"""The table and figure of `python -m tinytl memory --all --measure`, kept with the machine that made them.

The command itself runs, as a user would run it; its JSON becomes `rows`.
"""

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path

from benchmarks.shared.machine import write_result
from tinytl.config.names import BACKBONES


def main() -> None:
    """Runs the command and writes its result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="mobilenet_v2", choices=BACKBONES)
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--figure", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    command = ["-m", "tinytl", "memory", "--all", "--measure", "--backbone", args.backbone, "--resolution"]
    command += [str(args.resolution), "--device", "cpu", "--json", "--figure", str(args.figure)]
    said = subprocess.run([sys.executable, *command], check=True, stdout=subprocess.PIPE, text=True).stdout
    figures = {"runs": shlex.join(["python", *command]), "backbone": args.backbone, "rows": json.loads(said)}
    write_result(args.json, figures)


if __name__ == "__main__":
    main()
