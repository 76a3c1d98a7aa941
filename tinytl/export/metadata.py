"""What an ONNX file says of itself, so that it can be used alone: classes, input, preprocessing, output.

The texts lie in `metadata_props` of the file, and onnxruntime returns them: `get_modelmeta()` of a session,
`custom_metadata_map`. What is no text is JSON.
"""

import json
from collections.abc import Mapping
from typing import Any

from tinytl.runs.trained import TrainedNetwork

INPUT, OUTPUT = "images", "logits"


def metadata_of(trained: TrainedNetwork) -> dict[str, str]:
    """Returns the texts for a network's ONNX file, by their keys."""
    config = trained.config
    side = config.resolution
    facts: dict[str, Any] = {
        "classes": list(trained.classes),
        "backbone": config.backbone,
        "method": config.method,
        "epoch": trained.epoch,
        "input": {
            "name": INPUT,
            "layout": "NCHW",
            "resolution": [side, side],
            "channel_order": "RGB",
            "type": "float32",
            "range": [0, 1],
        },
        "preprocessing": {
            "crop": "central square",
            "resize": "bilinear, antialiased, to the resolution",
            "divide_by": 255,
            "mean": config.input_mean,
            "std": config.input_std,
            "mean_and_std_applied": "in the graph: images are given without",
        },
        "output": {"name": OUTPUT, "meaning": "logits; their softmax is the probability of each class"},
    }
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()}


def set_metadata_(model: Any, metadata: Mapping[str, str]) -> None:
    """Replaces what an `onnx.ModelProto` says of itself.

    What torch's exporter writes beside each operation goes: lines of source, with folders of this machine.
    """
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del model.metadata_props[:]
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
