from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.tinytl.conftest import COLORS
from tinytl.__main__ import main

TRAIN = (
    "train --dataset imagefolder --backbone efficientnet_lite0 --resolution 32 --device cpu --epochs 2 "
    "--method TinyTL-B --batch-size 4 --base-lr 1e-2 --input-mean 0.4 --optimizer adamw --weight-decay 1e-3"
).split()


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for name, color in COLORS.items():
        for split, count in (("train", 6), ("val", 3)):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                noise = np.random.default_rng(index).integers(-30, 30, (40, 56, 3))
                pixels = np.clip(noise + color, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{index}.png")
    return folder


@pytest.fixture(scope="session")
def exported(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run, and its folder for a device."""
    run, out = tmp_path_factory.mktemp("run") / "run", tmp_path_factory.mktemp("out") / "deep" / "out"
    assert main([*TRAIN, "--data-dir", str(pictures), "--out", str(run)]) == 0
    assert main(["export", str(run), "--training", "--out", str(out)]) == 0
    return run, out
