"""The folder that trains on a device, and back: `export --training` and `import`."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.cases import small
from tests.support.exports import save_run
from tests.tinytl.conftest import COLORS
from tinytl.__main__ import main
from tinytl.config.flat import flat_from_config
from tinytl.data.walk import picture_endings
from tinytl.export.training.folder import DIGESTS, OLDEST, left_out
from tinytl.runs.trained import load_trained

FILES = {
    "README.md", "config.yaml", "manifest.json", "predict.onnx", "state.npz", "step.onnx",
    "train_on_device.py", "weights.pt",
}  # fmt: skip


def manifest_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return found


def test_the_folder_says_what_the_program_needs(exported: tuple[Path, Path]) -> None:
    run, out = exported
    assert {path.name for path in out.iterdir()} == FILES
    said = manifest_of(out)
    assert said["classes"] == sorted(COLORS) and said["resolution"] == 32
    assert (said["batch_size"], said["micro_batch_size"], said["features"]) == (4, 1, 1280)
    assert (said["optimizer"], said["weight_decay"], said["epochs"]) == ("adamw", 1e-3, 2)
    assert said["learning_rates"] == {"classifier": 1e-2, "bias": 1e-2}
    assert said["augmentation"] == {"crop_scale_min": 0.7, "flip": True}
    assert said["trained"]["epoch"] == 2 and said["left_out"] == []
    assert said["check"]["largest_difference"] < 1e-4
    digests = {name: digest for key in DIGESTS for name, digest in said[key].items()}
    assert digests.keys() == FILES - {"manifest.json"}
    for name, digest in digests.items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    net = load_trained(run, "last", "cpu").net
    state = np.load(out / "state.npz")
    assert set(state) == set(said["arrays"])
    assert state["classes"].tolist() == said["classes"] and state["class_weights"].tolist() == [1.0] * 3
    assert {".jpg", ".png", ".jfif"} <= set(said["endings"]) == picture_endings()
    assert (int(state["epoch"]), int(state["step"])) == (0, 10)
    for parameter in said["parameters"]:
        own = dict(net.named_parameters())[parameter["name"]]
        assert np.array_equal(state[parameter["name"]], own.detach().numpy())
        for moment in ("first", "second"):
            assert state[f"{moment}:{parameter['name']}"].shape == tuple(parameter["shape"])
            assert np.abs(state[f"{moment}:{parameter['name']}"]).max() > 0
    readme = (out / "README.md").read_text()
    assert "train PICTURES --epochs 2" in readme
    assert [name for name, oldest in OLDEST.items() if f"{name} {oldest}" not in readme] == []


def test_a_configuration_that_has_not_trained(pictures: Path, tmp_path: Path) -> None:
    config = small(
        method="FT-Last", norm="frozen_bn", backbone="efficientnet_lite0", weights="imagenet",
        dataset="imagefolder", data_dir=str(pictures), num_classes=None, class_weighting="inverse",
        rand_augment=9, batch_size=4,
    )  # fmt: skip
    (tmp_path / "config.yaml").write_text(json.dumps(flat_from_config(config)))
    out = tmp_path / "out"
    flags = ["--training", "--micro-batch-size", "2", "--out", str(out)]
    assert main(["export", str(tmp_path / "config.yaml"), *flags]) == 0
    said = manifest_of(out)
    assert (said["micro_batch_size"], said["trained"]["epoch"]) == (2, 0)
    assert said["left_out"] == ["rand_augment is 0 on the device, not 9"] == left_out(config)
    assert "rand_augment is 0 on the device, not 9" in (out / "README.md").read_text()
    state, names = np.load(out / "state.npz"), {"classifier.1.weight", "classifier.1.bias"}
    moments = {f"{moment}:{name}" for name in names for moment in ("first", "second")}
    assert set(state) == names | moments | {"epoch", "step", "classes", "class_weights"}
    assert [name for name in moments if state[name].any()] == []


@pytest.mark.parametrize(
    ("changes", "flags", "message"),
    [
        ({"norm": "batch_norm"}, [], "train with norm frozen_bn or group_norm"),
        ({}, ["--micro-batch-size", "3"], "--micro-batch-size 3: must divide the batch of 4"),
        ({}, ["--micro-batch-size", "0"], "must be from 1 to the batch of 4"),
        ({"class_weighting": "inverse", "data_dir": "/nowhere", "dataset": "imagefolder"}, [], "/nowhere"),
    ],
)
def test_mistakes_are_one_line(
    changes: dict[str, Any],
    flags: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = save_run(
        tmp_path / "run", small(**{"batch_size": 4, "norm": "frozen_bn", "num_classes": 3} | changes)
    )
    (run / "best.pt").rename(run / "last.pt")
    out = tmp_path / "out"
    assert main(["export", str(run), "--training", "--out", str(out), *flags]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not out.exists()
