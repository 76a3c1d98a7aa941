"""Writes the folder that trains on a device: two graphs, a state, a manifest, a program, and texts."""

import dataclasses
import io
import json
import math
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tinytl.build import build_model
from tinytl.config.train_config import TrainConfig
from tinytl.data.walk import picture_endings
from tinytl.errors import ConfigError, needs_extra
from tinytl.export.folder import check_is_free, digests_of, weights_bytes, write_folder
from tinytl.export.training.graph_writer import OPSET
from tinytl.export.training.start import Start, augmentation, start_of, training_state
from tinytl.export.training.traced_step import lean_network, traced_prediction, traced_step
from tinytl.export.training.translation import translated
from tinytl.networks.dropout import RowwiseDropout
from tinytl.runs.directory import config_text, environment
from tinytl.runs.exported import CONFIG_FILE, WEIGHTS_FILE
from tinytl.training.class_weights import class_weights
from tinytl.training.param_groups import build_param_groups
from tinytl.training.step import InputNormalizer

MANIFEST_FILE = "manifest.json"
STATE_FILE = "state.npz"
STEP_FILE = "step.onnx"
PREDICT_FILE = "predict.onnx"
PROGRAM_FILE = "train_on_device.py"
PROGRAM = Path(__file__).with_name(PROGRAM_FILE)
"""Imported by an export alone: all else works without onnxruntime."""
README_FILE = "README.md"
DIGESTS = {
    "sha256": (STEP_FILE, PREDICT_FILE, STATE_FILE),
    "sha256_for_import": (WEIGHTS_FILE, CONFIG_FILE),
    "sha256_of_texts": (PROGRAM_FILE, README_FILE),
}
"""Which files' checksums the manifest has under which name: the program compares the first, `import` the
second, and nobody the last, which a person may change."""
OLDEST = {"numpy": "1.24.2", "onnxruntime": "1.15.1", "pillow": "9.4.0"}
"""Versions with which the program was tried; a test installs them, or the next for newer Pythons."""
FORMAT = 2
"""Version of the folder, which the program compares."""
LARGEST_DIFFERENCE = 1e-2
"""Of loss, logits or a gradient from those of PyTorch in 64 bits, relative to their norm."""
BATCHES_TRIED = 5
"""In 32 bits an input of a ReLU6 may lie on the other side of its kink, for PyTorch as for a graph: on some
batches of noise by chance. A wrong graph is off on each."""
LEFT_OUT: Mapping[str, Any] = {
    "mixup_alpha": 0.0,
    "cutmix_alpha": 0.0,
    "rand_augment": 0,
    "weight_average": 0.0,
    "sampling": "shuffled",
    "precision": "float32",
    "moments": "float32",
}
"""Fields that the device's program does not know, and what it does in their place."""


def export_training(
    source: Path,
    out: Path,
    *,
    epoch: str | None = None,
    micro_batch_size: int = 1,
    known: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes a folder that trains without PyTorch; returns the content of its `manifest.json`.

    The graph's gradients are compared with PyTorch's first. The folder is written whole or not at all.

    Args:
        source: a run's folder or checkpoint, a finished model's folder, or a configuration's file.
        out: a folder that is empty or missing.
        epoch: `best` or `last`, of a run.
        micro_batch_size: pictures in memory at a time on the device, at most the batch.
        known: facts about the network from outside its run's folder, for `trained` of the manifest.

    Raises:
        ConfigError: if a package is missing, `out` cannot be written, the source cannot be read, the
            configuration cannot train so, or the graph's gradients differ from PyTorch's.
    """
    with needs_extra("export --training", "export"):
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    check_is_free(out)
    start = start_of(source, epoch)
    config = _for_device(start.config, micro_batch_size)
    net = lean_network(config, start.state)
    state = training_state(net, start._replace(config=config))
    arrays = {name: tensor.numpy() for name, tensor in state.items()}
    arrays |= {"classes": np.array(start.classes), "class_weights": _class_weights(start, config)}
    groups = build_param_groups(net, config)
    group_of = {parameter: group["name"] for group in groups for parameter in group["params"]}
    named = {name: group_of[p] for name, p in net.named_parameters() if p.requires_grad}
    try:
        step = translated(traced_step(net, config), "step").SerializeToString()
        predict = translated(traced_prediction(net, config), "predict").SerializeToString()
    except NotImplementedError as error:
        raise ConfigError(f"{start.source}: this network cannot train as an ONNX graph: {error}") from None
    difference = _difference(step, predict, config, start.state)
    if not difference <= LARGEST_DIFFERENCE:
        raise ConfigError(
            f"{start.source}: what {STEP_FILE} or {PREDICT_FILE} computes differs from PyTorch's by "
            f"{difference:.1e} of its norm, more than {LARGEST_DIFFERENCE:g}: nothing is written; other "
            "versions of torch or onnxruntime may agree"
        )
    manifest = {
        "format": FORMAT,
        "classes": list(start.classes),
        "resolution": config.resolution,
        "micro_batch_size": config.samples_in_memory,
        "batch_size": config.batch_size,
        "features": next((d.features for d in net.modules() if isinstance(d, RowwiseDropout)), 0),
        "parameters": [
            {"name": name, "shape": list(state[name].shape), "group": group} for name, group in named.items()
        ],
        "learning_rates": {group["name"]: group["lr"] for group in groups},
        "weight_decay": config.weight_decay,
        "optimizer": config.optimizer,
        "betas": [0.9, 0.999],
        "eps": 1e-8,
        "momentum": config.momentum,
        "schedule": {
            "name": config.lr_schedule,
            "gamma": config.gamma,
            "warmup_epochs": config.warmup_epochs,
        },
        "epochs": config.epochs,
        "label_smoothing": config.label_smoothing,
        "dropout": config.dropout,
        "augmentation": augmentation(start),
        "seed": config.order_seed,
        "opset": OPSET,
        "arrays": sorted(arrays),
        "endings": sorted(picture_endings()),
        "runtime": {name: version(name) for name in ("onnxruntime", "numpy", "pillow")},
        "trained": {name: getattr(config, name) for name in ("backbone", "method", "norm", "frozen_weights")}
        | {"epoch": start.epoch, **(known or {})},
        "left_out": left_out(start.config),
        "check": {"largest_difference": difference, "tolerance": LARGEST_DIFFERENCE},
        "environment": environment(),
    }
    contents = {
        STEP_FILE: step,
        PREDICT_FILE: predict,
        STATE_FILE: _archive(arrays),
        WEIGHTS_FILE: weights_bytes(start.state),
        CONFIG_FILE: config_text(config).encode(),
        PROGRAM_FILE: PROGRAM.read_bytes(),
        README_FILE: readme(manifest).encode(),
    }
    for key, names in DIGESTS.items():
        manifest[key] = digests_of({name: contents[name] for name in names})
    text = json.dumps(manifest, indent=2) + "\n"
    write_folder(out, contents | {MANIFEST_FILE: text.encode()})
    return manifest


def _for_device(config: TrainConfig, micro_batch_size: int) -> TrainConfig:
    if config.norm == "batch_norm":
        raise ConfigError(
            "norm=batch_norm: the statistics of a whole batch are in its backward pass, and a device holds a "
            "few pictures at a time: train with norm frozen_bn or group_norm"
        )
    if not 1 <= micro_batch_size <= config.batch_size:
        raise ConfigError(
            f"--micro-batch-size {micro_batch_size}: must be from 1 to the batch of {config.batch_size}"
        )
    if config.batch_size % micro_batch_size:
        raise ConfigError(
            f"--micro-batch-size {micro_batch_size}: must divide the batch of {config.batch_size}"
        )
    known = {name: value for name, value in LEFT_OUT.items() if name != "moments"}
    checkpoint = "none" if config.checkpoint == "auto" else config.checkpoint
    return dataclasses.replace(
        config,
        **known,
        micro_batch_size=micro_batch_size,
        checkpoint=checkpoint,
        device="cpu",
    )


def left_out(config: TrainConfig) -> list[str]:
    """Returns what a configuration asks for that the device's program does in another way, in words."""
    return [
        f"{name} is {value} on the device, not {getattr(config, name)}"
        for name, value in LEFT_OUT.items()
        if getattr(config, name) != value
    ]


def _class_weights(start: Start, config: TrainConfig) -> np.ndarray[Any, Any]:
    """Returns `(C,)`: what the loss of a picture of each class is multiplied by."""
    ones = np.ones(len(start.classes), np.float32)
    if config.class_weighting == "none":
        return ones
    if start.data is None:
        raise ConfigError(
            f"class_weighting={config.class_weighting} counts the training pictures: {config.data_dir} is "
            "not here, or has other classes than the network"
        )
    weights = class_weights(start.data.train.labels, config, torch.device("cpu"))
    return ones if weights is None else weights.numpy().astype(np.float32)


def _difference(step: bytes, predict: bytes, config: TrainConfig, state: Mapping[str, Tensor]) -> float:
    """Returns the largest difference on the first batch of noise on which it is small, else the least."""
    least = math.inf
    for seed in range(BATCHES_TRIED):
        found = largest_difference(step, predict, config, state, seed)
        if not math.isfinite(found):
            return found
        least = min(least, found)
        if least <= LARGEST_DIFFERENCE:
            break
    return least


def largest_difference(
    step: bytes, predict: bytes, config: TrainConfig, state: Mapping[str, Tensor], seed: int
) -> float:
    """Returns by how much loss, logits or a gradient differ from those of PyTorch's own modules in 64 bits,
    relative to their norm, on a batch of noise: the largest; infinity if a number is not finite.
    """
    stock = dataclasses.replace(config, engine="stock", checkpoint="none", weights="none", lite_weights=None)
    net = build_model(stock).net
    net.load_state_dict(dict(state))
    generator = torch.Generator().manual_seed(seed)
    n, side = config.samples_in_memory, config.resolution
    images = torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8, generator=generator)
    labels = torch.arange(n) % (config.num_classes or 1)
    names = {name: p for name, p in net.named_parameters() if p.requires_grad}
    own = {name: parameter.detach().numpy() for name, parameter in names.items()} | {"images": images.numpy()}
    feed = own | {"labels": labels.numpy(), "weights": np.ones(n, np.float32)}
    for module in net.modules():
        if isinstance(module, RowwiseDropout) and config.dropout:
            feed["keep"] = np.ones((n, module.features), np.float32)
            module.p = 0.0
    loss, _, *grads = _ran(step, feed)
    (logits,) = _ran(predict, own)
    expected = net.double().train()(InputNormalizer(config, torch.device("cpu"))(images).double())
    smoothing = config.label_smoothing
    expected_loss = F.cross_entropy(expected, labels, reduction="sum", label_smoothing=smoothing)
    expected_loss.backward()
    pairs = [(loss, expected_loss), (logits, expected)]
    pairs += [(own, p.grad) for own, p in zip(grads, names.values(), strict=True) if p.grad is not None]
    found = [
        float((torch.from_numpy(np.asarray(own)).double() - p).norm() / p.norm().clamp(min=1e-30))
        for own, p in ((own, p.detach()) for own, p in pairs)
    ]
    return max(found) if all(map(math.isfinite, found)) else math.inf


def _ran(model: bytes, feed: Mapping[str, Any]) -> list[Any]:
    """Runs a graph as the device's program does."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(feed)))


def _archive(arrays: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def readme(manifest: Mapping[str, Any]) -> str:
    """Returns the folder's own page, for the person at the device."""
    about, n_classes = manifest["trained"], len(manifest["classes"])
    lines = [
        f"# A classifier of {n_classes} classes that trains here",
        "",
        f"{about['method']} on {about['backbone']}, pictures of {manifest['resolution']} pixels, "
        f"{manifest['micro_batch_size']} in memory at a time. Python 3.10 or newer is enough, with "
        + ", ".join(f"{name} {oldest}" for name, oldest in OLDEST.items())
        + " or newer:",
        "",
        "    python -m pip install numpy onnxruntime pillow",
        f"    python {PROGRAM_FILE} train PICTURES --epochs {manifest['epochs']}",
        f"    python {PROGRAM_FILE} evaluate PICTURES/val",
        f"    python {PROGRAM_FILE} predict picture.jpg",
        "",
        "`PICTURES` has a folder per class, or `train/` and `val/` with a folder per class in each. An epoch "
        "ends with a whole `checkpoint.npz`; after a power cut, `train ... --resume` resumes from it.",
        "`--budget-mib X` ends with an error if the whole process needs more than X MiB.",
        "",
        "Classes: " + ", ".join(manifest["classes"]) + ".",
        "",
        f"`{WEIGHTS_FILE}` and `{CONFIG_FILE}` are not needed here. With them, `python -m tinytl import DIR "
        "--out RUN` on another machine makes a run of what was trained, which `tinytl evaluate`, `predict` "
        "and `export` take.",
    ]
    if manifest["left_out"]:
        lines += ["", "Other than in the run's configuration: " + "; ".join(manifest["left_out"]) + "."]
    return "\n".join(lines) + "\n"


def shown(manifest: Mapping[str, Any], out: Path) -> list[str]:
    """Returns a description of the folder, in lines for a terminal."""
    about, trained = manifest["trained"], sum(np.prod(p["shape"]) for p in manifest["parameters"])
    sizes = {name: (out / name).stat().st_size / 2**20 for name in (STEP_FILE, STATE_FILE)}
    lines = [
        f"{about['method']} on {about['backbone']}: {int(trained):,} numbers train, from epoch "
        f"{about['epoch']} on",
        f"{STEP_FILE} {sizes[STEP_FILE]:.1f} MiB, opset {OPSET}, {manifest['micro_batch_size']} x 3 x "
        f"{manifest['resolution']} x {manifest['resolution']}; {STATE_FILE} {sizes[STATE_FILE]:.1f} MiB",
        "checked: loss, logits and gradients differ from PyTorch's in 64 bits by "
        f"{manifest['check']['largest_difference']:.1e} of their norm at most (allowed: "
        f"{LARGEST_DIFFERENCE:g})",
    ]
    lines += [f"other than in training here: {words}" for words in manifest["left_out"]]
    return [*lines, f"{out}: copy it to the device, then: python {PROGRAM_FILE} train PICTURES"]
