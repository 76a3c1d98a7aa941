"""A finished model's folder: read back as it was written, and whole or not at all."""

import json
from pathlib import Path

import pytest
import torch

from tests.support.exports import save_run
from tinytl.errors import ConfigError
from tinytl.export.model import write_model
from tinytl.runs.exported import SAFETENSORS_FILE
from tinytl.runs.trained import load_trained


def test_the_network_is_read_back_bit_for_bit_with_what_is_known_of_it(tmp_path: Path) -> None:
    trained = load_trained(save_run(tmp_path / "run"), device="cpu")
    out = tmp_path / "model"
    about = write_model(trained, out, onnx=None, known={"study": "s"}, beside={"README.md": "# s\n"})
    assert about["study"] == "s" and (out / "README.md").read_text() == "# s\n"
    assert json.loads((out / "model.json").read_text()) == json.loads(json.dumps(about))
    again = load_trained(out, device="cpu")
    assert again.classes == trained.classes and again.trained_on == ("train",)
    for name, tensor in trained.net.state_dict().items():
        assert torch.equal(again.net.state_dict()[name], tensor), name


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    trained = load_trained(save_run(tmp_path / "run"), device="cpu")
    write_model(trained, tmp_path / "model", onnx=None, known={}, beside={})
    file = tmp_path / "model" / SAFETENSORS_FILE
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ConfigError, match=f"{SAFETENSORS_FILE} is not what model.json says"):
        load_trained(tmp_path / "model", device="cpu")


def test_a_folder_that_holds_something_is_left_as_it_is(tmp_path: Path) -> None:
    trained = load_trained(save_run(tmp_path / "run"), device="cpu")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty"):
        write_model(trained, tmp_path / "model", onnx=None, known={}, beside={})
    assert [file.name for file in (tmp_path / "model").iterdir()] == ["mine.txt"]
