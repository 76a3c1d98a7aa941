"""An exported network in floats and in eight bits: bytes, accuracy on validation images, time per picture.

The last epoch and the best one of each run named are exported as `tinytl export --int8` does, whatever it
costs. (The images that judge the best here chose it.) Times are medians of many rounds in which both files
take turns, of processor time on one thread: other work on the machine does not count. `time_ratio` is their
ratio.

    python -m benchmarks.memory.int8_inference RUN ... --json benchmarks/results/int8_inference_STAMP.json
"""

import argparse
import itertools
from pathlib import Path
from typing import Any

from benchmarks.shared.machine import write_result
from tinytl.export.folder import checked_onnx, some_images
from tinytl.export.int8 import FLOAT, INT8, images_for_int8, int8_onnx
from tinytl.export.onnx_network import ms_per_picture
from tinytl.runs.trained import load_trained


def row_of(run: Path, epoch: str, rounds: int) -> dict[str, Any]:
    """Exports an epoch of a run in memory, judges and times both files."""
    trained = load_trained(run, epoch, "cpu")
    config = trained.config
    data = images_for_int8(config, trained)
    model = checked_onnx(trained, some_images(data.val, config.resolution), data.name).model
    small = int8_onnx(trained, model, data, max_accuracy_drop=1.0)
    times = ms_per_picture({FLOAT: model, INT8: small.model}, config.resolution, rounds)
    row: dict[str, Any] = {
        "trained": f"{config.backbone}, {config.method}, {config.norm}",
        "data": data.name,
        "resolution": config.resolution,
        "epochs": config.epochs,
        "epoch": f"{epoch}, {trained.epoch}",
        "val_images": len(data.val),
    }
    for name in (FLOAT, INT8):
        figures = small.about[name]
        row[f"{name}_mib"] = round(figures["bytes"] / 2**20, 2)
        row[f"{name}_accuracy_top1"] = round(figures["accuracy_top1"], 4)
        row[f"{name}_standard_error"] = round(figures["accuracy_top1_standard_error"], 4)
        row[f"{name}_ms"] = round(times[name], 2)
    return row | {
        "drop": round(small.about["drop"], 4),
        "drop_standard_error": round(small.about["drop_standard_error"], 4),
        "same_class": round(small.about["same_class"], 4),
        "time_ratio": round(times[INT8] / times[FLOAT], 2),
        "operations_in_float": sum(small.about["operations_in_float"].values()),
    }


def main() -> None:
    """Measures every run; prints and writes them."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of `tinytl train`")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    rows = []
    for run, epoch in itertools.product(args.runs, ("last", "best")):
        rows.append(row_of(run, epoch, args.rounds))
        print(rows[-1], flush=True)
        write_result(args.json, {"rounds": args.rounds, "rows": rows})


if __name__ == "__main__":
    main()
