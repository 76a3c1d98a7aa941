from pathlib import Path

import pytest

from tests.tinytl.conftest import COLORS, write_imagefolder
from tinytl.__main__ import main

TRAIN = (
    "train --dataset imagefolder --backbone efficientnet_lite0 --resolution 32 --device cpu --epochs 2 "
    "--method TinyTL-B --batch-size 4 --base-lr 1e-2 --input-mean 0.4 --optimizer adamw --weight-decay 1e-3"
).split()


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    counts = {f"{split}/{name}": count for name in COLORS for split, count in (("train", 6), ("val", 3))}
    return write_imagefolder(tmp_path_factory.mktemp("pictures"), counts, (56, 40))


@pytest.fixture(scope="session")
def exported(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run, and its folder for a device."""
    run, out = tmp_path_factory.mktemp("run") / "run", tmp_path_factory.mktemp("out") / "deep" / "out"
    assert main([*TRAIN, "--data-dir", str(pictures), "--out", str(run)]) == 0
    assert main(["export", str(run), "--training", "--out", str(out)]) == 0
    return run, out
