from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tests.support.cases import small
from tests.support.checked_pictures import checked_set, write_pictures
from tests.tinytl.conftest import COLORS
from tinytl.config.train_config import TrainConfig
from tinytl.data_checks.suspect_labels import find_suspect_labels, frozen_features

CONFIG = TrainConfig(dataset="imagefolder", device="cpu")


def _colours(root: Path) -> Path:
    """Twelve pictures of each colour, in splits; `train/red/7.png` is green."""
    rng = np.random.default_rng(0)
    pictures = {}
    for label, colour in COLORS.items():
        for i in range(12):
            split = "val" if i < 3 else "train"
            shown = COLORS["green"] if (label, i) == ("red", 7) else colour
            noisy = np.clip(np.array(shown) + rng.integers(-40, 41, (32, 32, 3)), 0, 255)
            pictures[f"{split}/{label}/{i}.png"] = Image.fromarray(noisy.astype(np.uint8))
    return write_pictures(root, pictures)


def test_a_wrong_label_is_first_with_what_it_looks_like(tmp_path: Path) -> None:
    pictures = checked_set(_colours(tmp_path))
    advanced: list[int] = []
    found = find_suspect_labels(pictures, np.arange(len(pictures)), CONFIG, advanced.append)
    first = found[0]
    assert (first.kind, first.split, first.file) == ("label", "train", "train/red/7.png")
    assert (first.label, first.compared_with) == ("red", "green") and first.number > 1
    assert first.reason.startswith("it looks like green, ") and first.reason.endswith(" as likely as red")
    assert sum(advanced) == 36 and len(found) < 6


def test_files_that_do_not_decode_are_left_out(tmp_path: Path) -> None:
    root = _colours(tmp_path)
    (root / "train/blue/5.png").write_bytes(b"")
    (root / "val/red/0.png").write_bytes(b"")
    pictures = checked_set(root)
    whole = np.array([r for r in range(36) if pictures.file(r) not in ("train/blue/5.png", "val/red/0.png")])
    config = small(method="TinyTL-L+B", num_classes=None, norm="group_norm", resolution=32)
    features, labels = frozen_features(pictures, whole, config)
    assert features.shape[0] == 34 and features.dtype == torch.float16
    np.testing.assert_array_equal(labels.numpy(), pictures.labels[whole])
