"""Which runs may share features: those in which all is equal that decides them, bit for bit."""

import dataclasses
import functools
import hashlib
import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tinytl.config.train_config import TrainConfig
from tinytl.data.splits import ImageFiles, Split
from tinytl.device import device_name
from tinytl.networks.backbones.weights import InputNormalization

FIELDS_OF_THE_HEAD = (
    "optimizer moments momentum base_lr lr_ratio lr_schedule gamma warmup_epochs weight_decay "
    "label_smoothing class_weighting weight_average dropout epochs metric seed"
).split()
"""Fields that leave what goes into the classifier as it is. Every other field counts, a new one too."""
FIELDS_OF_THE_PLACE = "data_dir loading loader_workers skip_broken exclude min_per_class device".split()
"""Fields that do not count, because what they lead to does: the images, and the device's name."""
FIELDS_OF_THE_ORDER = "data_seed sampling crop_scale_min flip rand_augment mixup_alpha cutmix_alpha".split()
"""Fields that count for training images alone, by what they come to with the run's seed and data set."""
_KERNELS = ("ATEN_", "DNNL_", "MKL_", "ONEDNN_")
"""Environment variables that begin so choose the kernels of a CPU."""


def what_decides(
    config: TrainConfig, net: nn.Module, normalization: InputNormalization, device: torch.device
) -> dict[str, Any]:
    """Returns what decides the features of an image: configuration, frozen weights, code, machine.

    `config` is planned: the number of images at a time may change the last bit of each.
    """
    apart = {*FIELDS_OF_THE_HEAD, *FIELDS_OF_THE_PLACE, *FIELDS_OF_THE_ORDER}
    return {
        "config": {name: value for name, value in dataclasses.asdict(config).items() if name not in apart},
        "weights": frozen_digest(net),
        "input": [normalization.mean, normalization.std],
        "code": _code_digest(),
        "packages": {name: version(name) for name in ("torch", "numpy", "pillow")},
        "device": device_name(device),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "kernels": {name: value for name, value in os.environ.items() if name.startswith(_KERNELS)},
    }


def file_name(kind: str, about: dict[str, Any]) -> str:
    """Returns the name of the file with features of which `about` is all that decides them."""
    return f"{kind}-{hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]}"


def frozen_digest(net: nn.Module) -> str:
    """Returns a digest of all parameters and buffers before the classifier."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in net.state_dict().items():
        if not name.startswith("classifier."):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def images_digest(images: Split) -> str | None:
    """Returns a digest of a split: of its pixels, or of the place, size and time of each of its files.

    None: a file cannot be looked at, which the loader will tell.
    """
    digest = hashlib.blake2b(digest_size=16)
    digest.update(np.ascontiguousarray(images.labels).data)
    if not isinstance(images, ImageFiles):
        digest.update(str(images.images.shape).encode())
        digest.update(np.ascontiguousarray(images.images).data)
        return digest.hexdigest()
    digest.update(f"{images.side} {images.folder}".encode())
    for index in range(len(images)):
        try:
            about = images.path(index).stat()
        except OSError:
            return None
        digest.update(b"%s\0%d %d " % (bytes(images.names[index]), about.st_size, about.st_mtime_ns))
    return digest.hexdigest()


@functools.cache
def _code_digest() -> str:
    """Returns a digest of this package: another version may crop, or compute, otherwise."""
    digest, folder = hashlib.blake2b(digest_size=16), Path(__file__).parent.parent
    for file in sorted(folder.rglob("*.py")):
        digest.update(f"{file.relative_to(folder)}\0".encode() + file.read_bytes())
    return digest.hexdigest()
