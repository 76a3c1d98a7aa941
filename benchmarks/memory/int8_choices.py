"""What each choice of the 8-bit export is worth: accuracy, and how often the class stays that of floats.

A row changes one argument of onnxruntime's quantiser, or leaves out the correction of biases.

    python -m benchmarks.memory.int8_choices RUN --json benchmarks/results/int8_choices_STAMP.json
"""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnxruntime.quantization
from onnxruntime.quantization import CalibrationMethod

from benchmarks.shared.machine import write_result
from tinytl.export import quantization
from tinytl.export.folder import checked_onnx, some_images
from tinytl.export.int8 import CALIBRATION_IMAGES, calibration_batches, images_for_int8, judged
from tinytl.export.quantization import quantized
from tinytl.runs.trained import load_trained

CHOSEN = "chosen"
WITHOUT = "biases not corrected"
ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    WITHOUT: {},
    "one scale per tensor of weights": {"per_channel": False},
    "weights in 7 bits": {"reduce_range": True},
    "ranges: all but the outermost 0.001 %": {
        "calibrate_method": CalibrationMethod.Percentile,
        "extra_options": {"CalibPercentile": 99.999},
    },
}
"""What these rows change in the call of `quantize_static`; none of them corrects biases."""
IMAGES = (32, 512)
PREDICTED = {"same class": {CHOSEN: 0.96, WITHOUT: 0.93, "weights in 7 bits": 0.85}}
"""Written before the first run of this command, after trials by hand on another run."""


def files_of(model: bytes, batches: Mapping[int, Any]) -> Iterator[tuple[str, bytes]]:
    """Yields the name of each way and the network in eight bits. `batches`: by their number of images."""
    yield CHOSEN, quantized(model, batches[CALIBRATION_IMAGES])
    for n in IMAGES:
        yield f"ranges and biases: {n} images in place of {CALIBRATION_IMAGES}", quantized(model, batches[n])
    with patch.object(quantization, "round_weights_"):
        for name, arguments in ARGUMENTS.items():
            with patch.object(onnxruntime.quantization, "quantize_static", _with(arguments)):
                yield name, quantized(model, batches[CALIBRATION_IMAGES])


def _with(arguments: Mapping[str, Any]) -> Any:
    plain = onnxruntime.quantization.quantize_static

    def changed(*paths_and_reader: Any, **own: Any) -> None:
        plain(*paths_and_reader, **own | dict(arguments))

    return changed


def main() -> None:
    """Judges every way; prints and writes it."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("trained", type=Path, metavar="RUN", help="folder of `tinytl train`")
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    trained = load_trained(args.trained, "last", "cpu")
    config = trained.config
    data = images_for_int8(config, trained)
    model = checked_onnx(trained, some_images(data.val, config.resolution), data.name).model
    batches = {
        n: calibration_batches(data.train, config.resolution, n) for n in (*IMAGES, CALIBRATION_IMAGES)
    }
    exact = judged(model, data.val, config)
    result: dict[str, Any] = {
        "trained": f"{config.backbone}, {config.method}, {config.norm}, {config.resolution} px",
        "data": f"{data.name}, {len(data.val)} validation images",
        "predicted_before": PREDICTED,
        "rows": [{"way": "floats", "accuracy_top1": round(exact.accuracy_top1, 4), "same_class": 1.0}],
    }
    for name, small in files_of(model, batches):
        found = judged(small, data.val, config)
        row = {
            "way": name,
            "accuracy_top1": round(found.accuracy_top1, 4),
            "same_class": round(float(np.mean(found.predicted == exact.predicted)), 4),
        }
        result["rows"].append(row)
        print(row, flush=True)
    write_result(args.json, result)


if __name__ == "__main__":
    main()
