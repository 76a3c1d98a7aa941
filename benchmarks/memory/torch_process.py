"""What PyTorch's process needs beside a step: `tinytl train`, and the processes of a study on digits.

Each peak is the kernel's, of the whole process, on one thread. `tinytl train` trains MobileNetV2, TinyTL-B,
at 224 px on noise, a gradient of 8 pictures; `import torch` alone stands beside it. A study trains two
trials, one after the other; its worker says itself what it needed (`process_peak_mib`). `--python` measures
`tinytl train` with another interpreter too, such as one whose PyTorch is of the wheel for CPUs.

    python -m benchmarks.memory.torch_process --json benchmarks/results/torch_process_MACHINE_YYYYMM.json
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.memory.device_process import measured, pictures
from benchmarks.shared.machine import store_no_features, write_result
from benchmarks.shared.places import ROOT
from tinytl.config.train_config import TrainConfig
from tinytl.runs.directory import config_text

PREDICTED = {
    "`tinytl train`, `smallest`": {"CUDA wheel": 650, "CPU wheel": 395},
    "a study's worker, digits": 770,
}
"""Peak MiB, written before the first run of this program."""
BEFORE = {"`tinytl train`, `smallest`": 1001, "a study's worker, digits": 1650}
"""Peak MiB with the CUDA wheel before the compiler was left out: `device_process`, and `WORKER_MIB`."""
TRAINED = {
    "`smallest`, the first on a machine": ["--plan", "smallest"],
    "`smallest`": ["--plan", "smallest"],
    "`fast`": ["--plan", "fast"],
}
"""The cache is empty before the first: it measures once how fast the machine is."""


def trained_rows(python: str, folder: Path) -> list[dict[str, Any]]:
    """Measures `import torch` and `tinytl train` with an interpreter."""
    config = TrainConfig(
        backbone="mobilenet_v2", weights="none", dataset="imagefolder", data_dir=str(folder / "pictures"),
        batch_size=8, device="cpu", resolution=224, norm="frozen_bn", method="TinyTL-B",
    )  # fmt: skip
    (folder / "config.yaml").write_text(config_text(config))
    says = folder / "torch"
    version = f"import torch; open({str(says)!r}, 'w').write(torch.__version__)"
    rows = [{"program": "`import torch`", "peak_mib": measured([python, "-c", version]).peak_mib}]
    for number, (plan, flags) in enumerate(TRAINED.items()):
        out = folder / f"{says.read_text()}-{number}"
        command = [python, "-m", "tinytl", "train", "--config", str(folder / "config.yaml"), *flags]
        used = measured([*command, "--epochs", "2", "--out", str(out)])
        said = json.loads((out / "result.json").read_text())["process_peak_mib"]
        rows.append({"program": f"`tinytl train`, {plan}", "peak_mib": used.peak_mib, "said_mib": said})
    return [{"torch": says.read_text(), **row} for row in rows]


def study_rows(folder: Path) -> list[dict[str, Any]]:
    """Measures a study of two trials on digits, one after the other."""
    import torch

    command = [
        sys.executable,
        str(ROOT / "launch.py"),
        "--name",
        "process",
        "--runs-dir",
        str(folder / "runs"),
    ]
    driver = measured([*command, "--trials", "2", "--workers", "1", "--epochs", "2", "--race-share", "0"])
    epochs = [
        json.loads(line)
        for file in (folder / "runs" / "process").rglob("metrics.jsonl")
        for line in file.read_text().splitlines()
    ]
    worker_mib = max(epoch["process_peak_mib"] for epoch in epochs)
    rows = [("a study's driver, digits", driver.peak_mib), ("a study's worker, digits", worker_mib)]
    return [{"torch": torch.__version__, "program": name, "peak_mib": mib} for name, mib in rows]


def main() -> None:
    """Measures every row; prints and writes them."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--python", help="another interpreter, with torch, numpy, pillow and pyyaml")
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    store_no_features()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        pictures(folder / "pictures")
        for python in filter(None, (sys.executable, args.python)):
            rows += trained_rows(python, folder)
            write_result(args.json, {"predicted_before": PREDICTED, "before": BEFORE, "rows": rows})
        rows += study_rows(folder)
    for row in rows:
        print(row, flush=True)
    write_result(args.json, {"predicted_before": PREDICTED, "before": BEFORE, "rows": rows})


if __name__ == "__main__":
    main()
