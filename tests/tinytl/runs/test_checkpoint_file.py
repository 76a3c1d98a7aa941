import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.cases import small
from tests.support.places import ROOT
from tests.support.sampled import sampled
from tinytl.config.flat import flat_from_config
from tinytl.config.train_config import LrRatio
from tinytl.data.load import DataSplits, ImageSet
from tinytl.errors import ConfigError
from tinytl.runs.checkpoint_file import (
    DamagedCheckpointError,
    check_same_classes,
    check_same_run,
    read_checkpoint,
    save_checkpoint,
    split_sizes,
)

CPU = torch.device("cpu")
# The kernel refuses to write more: what a program sees of a full disk.
FULL_DISK = """
import resource, signal, sys, torch
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tinytl.runs.checkpoint_file import save_checkpoint
from tinytl.errors import ConfigError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save_checkpoint({"net": torch.ones(1_000_000)}, Path(sys.argv[1]))
except ConfigError as error:
    print(error)
"""


def _state(**changes: Any) -> dict[str, Any]:
    config = flat_from_config(small(input_mean=(0.5, 0.5, 0.5)))
    state = {"net": {"a": torch.arange(3)}, "epoch": 2, "config": config, "given": config}
    return state | {"classes": ["a", "b"], "sizes": {"train": 4, "val": 2, "test": None}} | changes


def _data(n_train: int = 4) -> DataSplits:
    def images(n: int) -> ImageSet:
        return ImageSet(np.zeros((n, 8, 8, 3), np.uint8), np.zeros(n, np.int64))

    return DataSplits("colors", ("a", "b"), images(n_train), images(2), None, 0.7, True)


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(_state(epoch=1), path)
    save_checkpoint(_state(), path)
    state = read_checkpoint(path, CPU)
    assert torch.equal(state.pop("net")["a"], torch.arange(3))
    expected = _state()
    del expected["net"]
    assert state == expected
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


@pytest.mark.parametrize("exists", sampled([True, False], 2))
def test_a_full_disk_keeps_the_checkpoint_before(tmp_path: Path, exists: bool) -> None:
    path = tmp_path / "last.pt"
    if exists:
        save_checkpoint(_state(), path)
    root = str(ROOT)
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path), root],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    kept = "the one before is kept" if exists else "there is none before"
    assert (
        done.stdout
        == f"checkpoint {path} cannot be written (File too large); {kept}: make room, then add --resume\n"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"] * exists
    if exists:
        assert read_checkpoint(path, CPU)["epoch"] == 2


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    with pytest.raises(ConfigError, match=f"^{path}: no such checkpoint$"):
        read_checkpoint(path, CPU)
    save_checkpoint(_state(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match=f"^{path} is damaged or no checkpoint"):
        read_checkpoint(path, CPU)
    assert path.read_bytes() == whole[: len(whole) // 2]
    torch.save({"a": torch.ones(1)}, path)
    with pytest.raises(ConfigError, match=f"^{path} is not a checkpoint of a training run$"):
        read_checkpoint(path, CPU)


def test_the_first_difference_is_named(tmp_path: Path) -> None:
    config, path = small(input_mean=(0.5, 0.5, 0.5)), tmp_path / "last.pt"
    save_checkpoint(_state(), path)
    state = read_checkpoint(path, CPU)
    elsewhere = dataclasses.replace(config, data_dir="/elsewhere", loader_workers=3, device="auto")
    check_same_run(state, elsewhere, _data(), path)
    other = dataclasses.replace(config, epochs=7, seed=3)
    message = (
        f"^{path} is of another configuration: epochs is 10 there and 7 here; resume with what it was, or"
    )
    with pytest.raises(ConfigError, match=message):
        check_same_run(state, other, _data(), path)
    with pytest.raises(
        ConfigError, match=f"^{path} was trained on other images: 4 for train there and 5 here"
    ):
        check_same_run(state, config, _data(5), path)


def _begun_before(**changes: Any) -> dict[str, Any]:
    """The state of a run of `small` that an older version began."""
    given = flat_from_config(small(**changes)) | {"lr_ratio.lite_residual": 1.0}
    return _state(given={k: v for k, v in given.items() if k not in ("moments", "update_layers")})


def test_a_run_from_before_a_field_existed_resumes_while_the_field_has_its_default() -> None:
    config, path = small(method="TinyTL-B"), Path("last.pt")
    check_same_run(_begun_before(method="TinyTL-B"), config, _data(), path)
    with pytest.raises(ConfigError, match="moments is float32 there and int8 here"):
        check_same_run(
            _begun_before(method="TinyTL-B"), dataclasses.replace(config, moments="int8"), _data(), path
        )


def test_the_rate_of_lite_residuals_is_compared_as_it_trains_them() -> None:
    config, path = small(method="TinyTL-L"), Path("last.pt")
    with pytest.raises(ConfigError, match=r"lr_ratio.lite_residual is 1.0 there and 16.0 here"):
        check_same_run(_begun_before(method="TinyTL-L"), config, _data(), path)
    as_then = dataclasses.replace(config, lr_ratio=LrRatio(lite_residual=1.0))
    check_same_run(_begun_before(method="TinyTL-L"), as_then, _data(), path)
    sgd = dataclasses.replace(config, optimizer="sgd")
    check_same_run(_begun_before(method="TinyTL-L", optimizer="sgd"), sgd, _data(), path)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["a", "c"], "class 1 is 'b' there and 'c' in the data set"),
        (["a", "b", "c"], "knows 2 classes, the data set has 3"),
    ],
)
def test_other_classes_are_named(classes: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_same_classes(_state(), classes, Path("last.pt"))


def test_a_flipped_byte_anywhere_is_found(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    state = {"net": {"w": torch.arange(500.0)}, "epoch": 1, "config": {}, "classes": ["a"]}
    save_checkpoint(state, path)
    whole = path.read_bytes()
    start = whole.index(torch.arange(500.0).numpy().tobytes()[:64])
    for place in (start, start + 777, start + 1999):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        with pytest.raises(DamagedCheckpointError, match=r"last\.pt is damaged"):
            read_checkpoint(path, torch.device("cpu"))
    path.write_bytes(whole)
    assert torch.equal(read_checkpoint(path, torch.device("cpu"))["net"]["w"], torch.arange(500.0))


def test_other_images_of_the_same_number_are_another_run(splits: DataSplits, tmp_path: Path) -> None:
    config = small(method="FT-Last")
    state = {
        "given": flat_from_config(config),
        "classes": list(splits.classes),
        "sizes": split_sizes(splits),
        "digest": "00ff",
    }
    check_same_run(state, config, splits, tmp_path)  # of images that have no digest
    check_same_run(state, config, dataclasses.replace(splits, digest="00ff"), tmp_path)
    with pytest.raises(
        ConfigError, match=r"on other images: as many, but their digest is 00ff there and 11aa"
    ):
        check_same_run(state, config, dataclasses.replace(splits, digest="11aa"), tmp_path)
