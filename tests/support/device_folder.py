"""A folder that trains on a device, of a network so small that its backward pass is written by hand."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from PIL import Image
from torch import Tensor, nn

from tinytl.export.training import train_on_device
from tinytl.export.training.folder import DIGESTS, FORMAT

PROGRAM = Path(train_on_device.__file__)
CLASSES, RESOLUTION, MICRO_BATCH, FEATURES, SMOOTHING = ("blue", "green", "red"), 16, 3, 3, 0.1
SHAPES = {"features.0.bias": (3,), "classifier.1.weight": (3, 3), "classifier.1.bias": (3,)}
BIAS, WEIGHT, HEAD_BIAS = SHAPES
FORWARD = [
    ("Cast", "images", "floats"),
    ("GlobalAveragePool", "floats", "pooled"),
    ("Flatten", "pooled", "means"),
    ("Div", "means scale", "small"),
    ("Add", f"small {BIAS}", "shifted"),
    ("Tanh", "shifted", "features"),
]
HEAD = [("Gemm", f"kept {WEIGHT} {HEAD_BIAS}", "logits")]
BACKWARD = [
    ("LogSoftmax", "logits", "log_shares"),
    ("OneHot", "labels n_classes on_off", "target"),
    ("Mul", "target log_shares", "products"),
    ("ReduceSum", "products one", "minus_losses"),
    ("Neg", "minus_losses", "losses"),
    ("Mul", "losses weights", "weighted"),
    ("ReduceSum", "weighted zero", "loss"),
    ("ArgMax", "logits", "best"),
    ("Equal", "best labels", "is_best"),
    ("Cast", "is_best", "hit"),
    ("Sign", "weights", "is_picture"),
    ("Mul", "hit is_picture", "counted"),
    ("ReduceSum", "counted zero", "n_hits"),
    ("Cast", "n_hits", "hits"),
    ("Exp", "log_shares", "shares"),
    ("Sub", "shares target", "differences"),
    ("Unsqueeze", "weights one", "column"),
    ("Mul", "differences column", "grad_logits"),
    ("ReduceSum", "grad_logits zero", f"grad:{HEAD_BIAS}"),
    ("Transpose", "grad_logits", "turned"),
    ("MatMul", "turned kept", f"grad:{WEIGHT}"),
    ("MatMul", f"grad_logits {WEIGHT}", "grad_kept"),
    ("Mul", "features features", "squares"),
    ("Sub", "unit squares", "slope"),
    ("Mul", "grad_features slope", "grad_shifted"),
    ("ReduceSum", "grad_shifted zero", f"grad:{BIAS}"),
]
ATTRIBUTES: Mapping[str, dict[str, Any]] = {
    "floats": {"to": TensorProto.FLOAT},
    "hit": {"to": TensorProto.FLOAT},
    "hits": {"to": TensorProto.INT64},
    "best": {"axis": 1, "keepdims": 0},
    "logits": {"transB": 1},
    "turned": {"perm": [1, 0]},
    **{
        name: {"keepdims": 0}
        for name in ("loss", "n_hits", "minus_losses", f"grad:{HEAD_BIAS}", f"grad:{BIAS}")
    },
}
CONSTANTS = {
    "scale": np.float32(64),
    "unit": np.float32(1),
    "zero": np.array([0]),
    "one": np.array([1]),
    "n_classes": np.array(len(CLASSES)),
    "on_off": np.array([SMOOTHING / 3, 1 - SMOOTHING + SMOOTHING / 3], np.float32),
}


class TinyNet(nn.Module):
    """The same network in torch."""

    def __init__(self, state: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        self.features = nn.ModuleList([nn.Module()])
        self.features[0].bias = nn.Parameter(torch.from_numpy(state[BIAS].copy()))
        self.classifier = nn.Sequential(nn.Identity(), nn.Linear(FEATURES, len(CLASSES)))
        for name in (WEIGHT, HEAD_BIAS):
            self.get_parameter(name).data = torch.from_numpy(state[name].copy())

    def forward(self, images: Tensor) -> Tensor:
        """`images` `(N, 3, R, R)`, not normalised."""
        return self.classifier(torch.tanh(images.mean((2, 3)) / 64 + self.features[0].bias))


def write_device_folder(
    folder: Path, *, dropout: float = 0.0, class_weights: tuple[float, ...] = (1, 1, 1), **changes: Any
) -> Path:
    """Writes the folder as an export does; `changes` are of its manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(_graph(True, dropout > 0), folder / "step.onnx")
    onnx.save(_graph(False, False), folder / "predict.onnx")
    state = initial_state()
    moments = ("first",) if changes.get("optimizer") == "sgd" else ("first", "second")
    state |= {f"{moment}:{name}": np.zeros_like(state[name]) for name in SHAPES for moment in moments}
    state |= {"step": np.array(0), "epoch": np.array(0), "classes": np.array(CLASSES)}
    np.savez(folder / "state.npz", **state, class_weights=np.array(class_weights, np.float32))
    (folder / PROGRAM.name).write_bytes(PROGRAM.read_bytes())
    (folder / "README.md").write_text("how to use it\n")
    write_manifest(folder, dropout=dropout, **changes)
    return folder


def write_manifest(folder: Path, **changes: Any) -> None:
    """Writes the manifest of the files that are there."""
    paths = [path for path in folder.iterdir() if path.name in DIGESTS["sha256"]]
    groups = {BIAS: "bias", WEIGHT: "classifier", HEAD_BIAS: "classifier"}
    manifest = {
        "format": FORMAT,
        "classes": CLASSES,
        "resolution": RESOLUTION,
        "micro_batch_size": MICRO_BATCH,
        "batch_size": 8,
        "features": FEATURES,
        "parameters": [{"name": n, "shape": s, "group": groups[n]} for n, s in SHAPES.items()],
        "learning_rates": {"bias": 0.01, "classifier": 0.03},
        "weight_decay": 0.01,
        "optimizer": "adam",
        "betas": [0.9, 0.999],
        "eps": 1e-8,
        "momentum": 0.9,
        "schedule": {"name": "cosine", "gamma": 0.9, "warmup_epochs": 0.5},
        "epochs": 3,
        "label_smoothing": SMOOTHING,
        "dropout": 0.0,
        "arrays": list(np.load(folder / "state.npz")),
        "endings": [".jpg", ".png", ".jpeg", ".gif", ".avif"],
        "augmentation": {"crop_scale_min": 0.5, "flip": True},
        "seed": 5,
        "opset": 18,
        "runtime": {"onnxruntime": "1.31.1", "numpy": np.__version__},
        "trained": {"backbone": "tiny", "method": "TinyTL-B", "norm": "frozen_bn"},
        "sha256": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest | changes))


def initial_state() -> dict[str, np.ndarray]:
    """The parameters with which training starts."""
    rng = np.random.default_rng(0)
    return {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in SHAPES.items()}


def write_pictures(root: Path, per_class: int = 7, classes: tuple[str, ...] = CLASSES) -> Path:
    """Writes noisy pictures of a colour per class, wide and tall ones, as PNG and JPEG."""
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for index in range(per_class):
            rng = np.random.default_rng((number, index))
            pixels = rng.integers(0, 120, (20 + 5 * (index % 3), 22 + index, 3))
            pixels[..., 2 - number % 3] += 100
            ending = ("png", "jpg")[index % 2]
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{index}.{ending}")
    return root


def _graph(backward: bool, dropout: bool) -> onnx.ModelProto:
    n, shape = MICRO_BATCH, SHAPES
    inputs = {"images": (TensorProto.UINT8, (n, 3, RESOLUTION, RESOLUTION))}
    outputs = {"logits": (TensorProto.FLOAT, (n, len(CLASSES)))}
    steps = [
        *FORWARD,
        ("Mul", "features keep", "kept") if dropout else ("Identity", "features", "kept"),
        *HEAD,
    ]
    if backward:
        inputs |= {"labels": (TensorProto.INT64, (n,)), "weights": (TensorProto.FLOAT, (n,))}
        outputs = {"loss": (TensorProto.FLOAT, ()), "hits": (TensorProto.INT64, ())}
        outputs |= {f"grad:{name}": (TensorProto.FLOAT, shape[name]) for name in shape}
        masked = ("Mul", "grad_kept keep", "grad_features")
        at = next(i for i, step in enumerate(BACKWARD) if step[2] == "squares")
        masked = masked if dropout else ("Identity", "grad_kept", "grad_features")
        steps += [*BACKWARD[:at], masked, *BACKWARD[at:]]
    if dropout:
        inputs["keep"] = (TensorProto.FLOAT, (n, FEATURES))
    inputs |= {name: (TensorProto.FLOAT, shape[name]) for name in shape}
    nodes = [
        helper.make_node(op, given.split(), [out], **ATTRIBUTES.get(out, {})) for op, given, out in steps
    ]
    read = {name for _, given, _ in steps for name in given.split()}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, *what) for name, what in inputs.items()],
        [helper.make_tensor_value_info(name, *what) for name, what in outputs.items()],
        [onnx.numpy_helper.from_array(np.asarray(c), name) for name, c in CONSTANTS.items() if name in read],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model
