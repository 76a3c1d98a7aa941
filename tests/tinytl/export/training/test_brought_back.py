import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tinytl.conftest import COLORS
from tinytl.__main__ import main
from tinytl.export.training.brought_back import bring_back
from tinytl.runs.trained import load_trained


def test_what_comes_back_is_a_run(exported: tuple[Path, Path], pictures: Path, tmp_path: Path) -> None:
    run, out = exported
    folder = tmp_path / "from the device"
    shutil.copytree(out, folder)
    with np.load(out / "state.npz") as stored:
        arrays = dict(stored)
    arrays["classifier.1.bias"] = arrays["classifier.1.bias"] + np.array([0, 100, 0], np.float32)
    np.savez(
        folder / "checkpoint.npz", **arrays | {"epoch": np.int64(7), "classes": np.array(sorted(COLORS))}
    )
    assert bring_back(folder, tmp_path / "back")["epoch"] == 2 + 7
    back, began = load_trained(tmp_path / "back", "best", "cpu"), load_trained(run, "last", "cpu")
    assert (back.epoch, back.classes) == (9, tuple(sorted(COLORS)))
    for name, tensor in back.net.state_dict().items():
        same = torch.equal(tensor, began.net.state_dict()[name])
        assert same == (name != "classifier.1.bias"), name
    picture = next((pictures / "val" / "red").iterdir())
    assert back.probabilities([picture])[0].argmax() == 1, "by its bias"
    for words in (
        ["evaluate", str(tmp_path / "back"), "--split", "val"],
        ["export", str(tmp_path / "back"), "--out", str(tmp_path / "plain")],
        ["export", str(tmp_path / "back"), "--training", "--out", str(tmp_path / "again")],
    ):
        assert main(words) == 0


def test_a_damaged_or_foreign_state_does_not_come_back(
    exported: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(exported[1], folder)
    (folder / "checkpoint.npz").write_bytes(b"cut off")
    assert main(["import", str(folder), "--out", str(tmp_path / "back")]) == 2
    assert "checkpoint.npz is missing or damaged" in capsys.readouterr().err
    head = {"classifier.1.weight": np.zeros((4, 1280), np.float32)}
    for arrays, message in (
        (head, "is not of its configuration"),
        (head | {"manifest": np.array("0" * 64)}, "is of another export"),
    ):
        np.savez(folder / "checkpoint.npz", **arrays)
        assert main(["import", str(folder), "--out", str(tmp_path / "back")]) == 2
        assert message in capsys.readouterr().err
    (folder / "weights.pt").write_bytes(b"")
    assert main(["import", str(folder), "--out", str(tmp_path / "back")]) == 2
    assert "weights.pt is not what manifest.json says: it is damaged" in capsys.readouterr().err
    (folder / "weights.pt").unlink()
    assert main(["import", str(folder), "--out", str(tmp_path / "back")]) == 2
    assert "weights.pt is missing, though manifest.json names it" in capsys.readouterr().err
    assert not (tmp_path / "back").exists()
