"""A run, exported once, and what is in the folder; needs onnx."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from tests.support.cases import small
from tests.support.exports import save_run
from tests.support.places import ROOT
from tests.tinytl.conftest import COLORS
from tinytl.__main__ import main
from tinytl.errors import ConfigError
from tinytl.export.folder import TOLERANCE, check_is_free, export_run, shown
from tinytl.runs.trained import load_trained

FILES = ["config.yaml", "model.json", "model.onnx", "weights.pt"]
TRAIN = (
    "train --dataset imagefolder --backbone efficientnet_lite0 --resolution 32 --device cpu --epochs 3 "
    "--method TinyTL-B --batch-size 4 --base-lr 1e-2 --input-mean 0.4"
).split()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Pictures, a run on them, and its export."""
    folder = tmp_path_factory.mktemp("exported")
    for name, color in COLORS.items():
        for split, count in (("train", 6), ("val", 3), ("test", 2)):
            (folder / "pictures" / split / name).mkdir(parents=True)
            for index in range(count):
                noise = np.random.default_rng(index).integers(-30, 30, (40, 56, 3))
                pixels = np.clip(noise + color, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / "pictures" / split / name / f"{index}.png")
    pictures, run, out = folder / "pictures", folder / "run", folder / "deep" / "out"
    assert main([*TRAIN, "--data-dir", str(pictures), "--out", str(run)]) == 0
    assert main(["export", str(run), "--epoch", "last", "--out", str(out)]) == 0
    return pictures, run, out


def about(out: Path) -> dict[str, Any]:
    return json.loads((out / "model.json").read_text())


def test_the_folder_says_what_one_needs(exported: tuple[Path, Path, Path]) -> None:
    _, run, out = exported
    assert sorted(path.name for path in out.iterdir()) == FILES
    assert [path.name for path in out.parent.iterdir()] == ["out"], "nothing is left beside"
    said, result = about(out), json.loads((run / "result.json").read_text())
    assert said["classes"] == ["blue", "green", "red"]
    assert said["input"]["shape"] == ["batch", 3, 32, 32]
    assert said["normalization"]["mean"] == [0.4, 0.4, 0.4]
    for key in ("val_accuracy_top1", "test_accuracy_top1", "test_macro_f1", "test_balanced_accuracy"):
        assert said[key] == result[key]
    assert said["test_standard_error"] == result["test_accuracy_top1_standard_error"]
    assert (said["val_macro_f1"], said["metric"]) == (result["macro_f1"], "accuracy_top1")
    assert said["training_peak_memory_mib"] == result["predicted_peak_mib"]
    assert said["check"]["images"] == "8 validation images of pictures"
    assert said["check"]["largest_difference"] <= said["check"]["tolerance"] == TOLERANCE
    assert said["environment"]["onnxruntime"] == onnxruntime.__version__
    for name, digest in said["sha256"].items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    weights = torch.load(out / "weights.pt", weights_only=True)
    assert all(torch.equal(weights[k], v) for k, v in load_trained(run, "last").net.state_dict().items())


def test_the_text_has_the_metric_of_the_run_and_top_1(exported: tuple[Path, Path, Path]) -> None:
    _, _, out = exported
    figures = {"val_macro_f1": 0.5, "val_standard_error": 0.02, "val_accuracy_top1": 0.7}
    unknown = dict.fromkeys(("test_macro_f1", "test_accuracy_top1", "test_standard_error"))
    judged = {"metric": "macro_f1", "test_macro_f1": 0.4, "test_standard_error": 0.03}
    first = shown(about(out) | figures | unknown | judged, out)[0]
    assert first.endswith(
        " of 3, val macro F1 0.500 ± 0.020, test macro F1 0.400 ± 0.030, val accuracy 0.700"
    )
    plain = shown(about(out) | figures | unknown | {"val_standard_error": None}, out)[0]
    assert plain.endswith(" of 3, val accuracy 0.700")


def test_it_can_be_judged_and_used_as_the_run(
    exported: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    pictures, run, out = exported
    said = []
    for source in (run, out):
        assert main(["predict", str(source), str(pictures / "test"), "--epoch", "last", "--json"]) == 0
        said.append(json.loads(capsys.readouterr().out))
    assert said[0] == said[1]
    assert main(["evaluate", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy_top1"] == about(out)["val_accuracy_top1"]


def test_the_example_gives_the_labels_of_predict(
    exported: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    pictures, _, out = exported
    for name in COLORS:
        picture = str(pictures / "test" / name / "0.png")
        assert main(["predict", str(out), picture, "--top", "3", "--json"]) == 0
        expected = json.loads(capsys.readouterr().out)[0]["probabilities"]
        command = [sys.executable, str(ROOT / "examples" / "classify_onnx.py"), str(out), picture]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        found = {label: float(p) for label, p in map(str.split, done.stdout.splitlines())}
        assert max(found, key=found.__getitem__) == max(expected, key=expected.__getitem__)
        assert found == pytest.approx(expected, abs=0.05)  # it resizes once, training stores and crops


def test_eight_bits_lie_beside_and_are_judged(
    exported: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures, run, _ = exported
    moved, out = tmp_path / "moved", tmp_path / "out"
    shutil.copytree(pictures, moved)
    flags = ["--epoch", "last", "--int8", "--data-dir", str(moved), "--max-accuracy-drop", "0.2"]
    assert main(["export", str(run), *flags, "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sorted(path.name for path in out.iterdir()) == sorted([*FILES, "model_int8.onnx"])
    assert lines[-1] == f"{out}: model.onnx, model_int8.onnx, weights.pt, config.yaml, model.json"
    small_one = about(out)["int8"]
    assert small_one["judged_on"] == "9 validation images of moved"
    assert small_one["float32"]["accuracy_top1"] == about(out)["val_accuracy_top1"]
    assert small_one["int8"]["bytes"] == (out / "model_int8.onnx").stat().st_size
    assert small_one["int8"]["bytes"] < 0.3 * small_one["float32"]["bytes"]
    assert (
        hashlib.sha256((out / "model_int8.onnx").read_bytes()).hexdigest()
        == (about(out)["sha256"]["model_int8.onnx"])
    )
    command = [sys.executable, str(ROOT / "examples" / "classify_onnx.py")]
    for file in ("model.onnx", "model_int8.onnx"):
        picture = str(pictures / "test" / "red" / "0.png")
        done = subprocess.run(
            [*command, str(out / file), picture], capture_output=True, text=True, timeout=60, check=True
        )
        assert set(dict(map(str.split, done.stdout.splitlines()))) == {"blue", "green", "red"}


def _fails(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1
    assert message in shown.err


def test_mistakes_write_nothing(
    exported: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, run, out = exported
    new = tmp_path / "new"
    _fails([str(run), "--out", str(out)], f"--out {out} is not empty: choose another folder", capsys)
    _fails([str(run), "--out", str(out / "model.json")], "is a file: choose a folder", capsys)
    _fails([str(run), "--out", str(out / "model.json" / "x")], "is not a folder that can be written", capsys)
    _fails([str(run), "--out", ""], "--out is empty", capsys)
    _fails([str(tmp_path), "--out", str(new)], "has no best.pt: is it a run", capsys)
    _fails([str(tmp_path / "no"), "--out", str(new)], "no such checkpoint", capsys)
    trial = tmp_path / "trial"
    trial.mkdir()
    shutil.copy(run / "last.pt", trial)
    _fails([str(trial), "--epoch", "best", "--out", str(new)], "add --epoch last", capsys)
    whole = (trial / "last.pt").read_bytes()
    (trial / "last.pt").write_bytes(whole[: len(whole) // 2])
    _fails([str(trial), "--out", str(new)], "last.pt is damaged", capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trial"]
    assert sorted(path.name for path in out.iterdir()) == FILES


def test_a_failed_check_writes_nothing(
    exported: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, run, out = exported
    model = (out / "model.onnx").read_bytes()
    monkeypatch.setattr("tinytl.export.folder.onnx_bytes", lambda *arguments: model)
    state = torch.load(run / "last.pt", weights_only=True)
    state["net"]["classifier.1.bias"][0] += 0.5
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(ConfigError, match=r"differs from PyTorch by [0-9].*no ONNX file is written"):
        export_run(tmp_path / "other.pt", tmp_path / "new" / "out")
    state["net"]["classifier.1.bias"][0] = float("nan")
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(ConfigError, match="differs from PyTorch by nan"):
        export_run(tmp_path / "other.pt", tmp_path / "new" / "out")
    assert not (tmp_path / "new").exists()


def test_a_full_disk_leaves_nothing(
    exported: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, run, out = exported
    model = (out / "model.onnx").read_bytes()
    monkeypatch.setattr("tinytl.export.folder.onnx_bytes", lambda *arguments: model)
    write = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        if self.name == "weights.pt":
            raise OSError(28, "No space left on device")
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"cannot be written .No space left on device"):
        export_run(run, tmp_path / "empty", epoch="last")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
    monkeypatch.undo()
    monkeypatch.setattr("tinytl.export.folder.onnx_bytes", lambda *arguments: model)
    export_run(run, tmp_path / "empty", epoch="last")
    assert sorted(path.name for path in (tmp_path / "empty").iterdir()) == FILES


def test_without_the_data_set_noise_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exported: tuple[Path, Path, Path]
) -> None:
    monkeypatch.setattr("tinytl.export.folder.largest_difference", lambda *arguments: 1e-7)
    monkeypatch.setattr("tinytl.export.folder.onnx_bytes", lambda *arguments: b"")
    gone = small(dataset="imagefolder", data_dir="/gone", method="FT-Last")
    said = export_run(save_run(tmp_path / "run", gone), tmp_path / "out")
    assert said["check"]["images"] == "8 images of noise (the data set is not here)"
    assert said["val_accuracy_top1"] is None and said["training_peak_memory_mib"] is None


def test_a_folder_that_is_free(tmp_path: Path) -> None:
    check_is_free(tmp_path)
    check_is_free(tmp_path / "a" / "b")
