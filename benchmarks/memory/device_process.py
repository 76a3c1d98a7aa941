"""What training needs of a whole process: the folder of `tinytl export --training` beside `tinytl train`.

Each row is a configuration (MobileNetV2, random weights, a gradient of 8 pictures, one thread). Its folder
trains on noise, one picture at a time, by its own program, and `tinytl train` trains the same with plan
`fast` and with plan `smallest`. Peaks are the kernel's, of the whole process. Processor seconds per picture
are what more epochs take more, so start-up is not in them; programs alternate, and a figure is the median.

    python -m benchmarks.memory.device_process --json benchmarks/results/device_process_MACHINE_YYYYMM.json
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from benchmarks.shared.machine import store_no_features, write_result
from benchmarks.shared.places import ROOT
from tinytl.config.train_config import TrainConfig
from tinytl.runs.directory import config_text

ROWS: Mapping[str, Mapping[str, Any]] = {
    "TinyTL-B": {"method": "TinyTL-B"},
    "TinyTL-L+B": {"method": "TinyTL-L+B"},
    "Sparse, six blocks": {"method": "Sparse", "update_blocks": 6},
    "FT-Last": {"method": "FT-Last"},
    "TinyTL-B, group_norm": {"method": "TinyTL-B", "norm": "group_norm"},
    "TinyTL-B, int8 weights": {"method": "TinyTL-B", "frozen_weights": "int8"},
    "TinyTL-B, 96 px": {"method": "TinyTL-B", "resolution": 96},
}
PREDICTED = {
    "peak MiB on a device": {
        "TinyTL-B": 100,
        "TinyTL-L+B": 121,
        "Sparse, six blocks": 82,
        "TinyTL-B, 96 px": 85,
    },
    "seconds per picture, device / tinytl train": {"TinyTL-B": 1.5},
}
"""Written before the first run."""
CLASSES, PER_CLASS = 4, 8
FEW, MANY = 1, 3
"""Epochs."""


LAUNCHER = """
import os, subprocess, sys
started = subprocess.Popen(sys.argv[1:])
_, status, used = os.wait4(started.pid, 0)
print(used.ru_maxrss, used.ru_utime + used.ru_stime, file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""Linux counts a process's peak from the size of the one that it comes from: this one is small."""


class Used(NamedTuple):
    """What a process used."""

    peak_mib: float
    processor_s: float


def measured(command: list[str]) -> Used:
    """Runs a program to its end, which has to be good."""
    env = dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH=str(ROOT))
    launched = [sys.executable, "-S", "-c", LAUNCHER, *command]
    done = subprocess.run(launched, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    peak_kib, processor_s = map(float, done.stderr.splitlines()[-1].split())
    return Used(peak_kib / 2**10, processor_s)


def pictures(folder: Path) -> Path:
    """Writes noise: as many pictures of each class to train, and one to validate."""
    rng = np.random.default_rng(0)
    for split, count in (("train", PER_CLASS), ("val", 1)):
        for label in range(CLASSES):
            (folder / split / str(label)).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / str(label) / f"{index}.png")
    return folder


def programs(name: str, folder: Path, images: Path) -> dict[str, list[str]]:
    """Returns the commands of a row without the number of epochs; makes the device's folder."""
    fields: dict[str, Any] = {"resolution": 224, "norm": "frozen_bn", **ROWS[name]}
    config = TrainConfig(
        backbone="mobilenet_v2", weights="none", dataset="imagefolder", data_dir=str(images), batch_size=8,
        device="cpu", **fields,
    )  # fmt: skip
    file = folder / "config.yaml"
    file.write_text(config_text(config))
    device = folder / "device"
    export = [sys.executable, "-m", "tinytl", "export", str(file), "--training", "--out", str(device)]
    measured(export)
    train = [sys.executable, "-m", "tinytl", "train", "--config", str(file)]
    return {
        "device": [
            sys.executable,
            str(device / "train_on_device.py"),
            "train",
            str(images),
            "--threads",
            "1",
        ],
        "fast": [*train, "--plan", "fast"],
        "smallest": [*train, "--plan", "smallest"],
    }


def row_of(name: str, rounds: int) -> dict[str, Any]:
    """Measures a configuration."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        commands = programs(name, folder, pictures(folder / "pictures"))
        found: dict[str, dict[int, list[Used]]] = {kind: {FEW: [], MANY: []} for kind in commands}
        for turn in range(rounds):
            for kind, command in commands.items():
                for epochs in (FEW, MANY):
                    if kind == "device":
                        (folder / "device" / "checkpoint.npz").unlink(missing_ok=True)
                        out = []
                    else:
                        out = ["--out", str(folder / f"{kind}-{turn}-{epochs}")]
                    used = measured([*command, "--epochs", str(epochs), *out])
                    found[kind][epochs].append(used)
    n_pictures = CLASSES * PER_CLASS * (MANY - FEW)
    row: dict[str, Any] = {"trained": name}
    for kind, by_epochs in found.items():
        peaks = [used.peak_mib for uses in by_epochs.values() for used in uses]
        more = [
            (many.processor_s - few.processor_s) / n_pictures
            for few, many in zip(by_epochs[FEW], by_epochs[MANY], strict=True)
        ]
        row[f"{kind}_peak_mib"] = round(max(peaks), 1)
        row[f"{kind}_s_per_picture"] = round(statistics.median(more), 4)
    return row | {"time_ratio": round(row["device_s_per_picture"] / row["fast_s_per_picture"], 2)}


def main() -> None:
    """Measures every row; prints and writes them."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    store_no_features()
    rows = []
    for name in args.only:
        rows.append(row_of(name, args.rounds))
        print(rows[-1], flush=True)
        write_result(args.json, {"predicted_before": PREDICTED, "rows": rows})


if __name__ == "__main__":
    main()
