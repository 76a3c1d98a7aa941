"""The folder of an exported network, made by hand: tests/tinytl/export/test_folder.py exports real ones."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.cases import small
from tinytl.config.flat import config_from_flat
from tinytl.errors import ConfigError
from tinytl.runs.directory import config_text
from tinytl.runs.exported import ABOUT_FILE, CONFIG_FILE, WEIGHTS_FILE, is_exported, read_exported

CPU = torch.device("cpu")
CONFIG = small(method="TinyTL-B", input_mean=(0.5, 0.4, 0.3), input_std=(0.2, 0.25, 0.3))
WEIGHTS = {"a.weight": torch.arange(6.0).view(2, 3), "a.num": torch.tensor(7)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.save(WEIGHTS, tmp_path / WEIGHTS_FILE)
    (tmp_path / CONFIG_FILE).write_text(config_text(CONFIG))
    about = {"classes": ["red", "green", "blue"], "epoch": 4, "sha256": {}}
    (tmp_path / ABOUT_FILE).write_text(json.dumps(about))
    return tmp_path


def test_it_is_read_as_a_checkpoint_of_the_run(folder: Path) -> None:
    state = read_exported(folder, CPU)
    net = state.pop("net")
    assert net.keys() == WEIGHTS.keys()
    assert all(torch.equal(net[name], tensor) for name, tensor in WEIGHTS.items())
    assert config_from_flat(state.pop("config")) == CONFIG
    assert state == {
        "classes": ["red", "green", "blue"],
        "epoch": 4,
        "input_mean": (0.5, 0.4, 0.3),
        "input_std": (0.2, 0.25, 0.3),
    }


def test_a_folder_is_known_by_the_file_that_is_written_last(folder: Path) -> None:
    assert is_exported(folder)
    (folder / ABOUT_FILE).unlink()
    assert not is_exported(folder)
    assert not is_exported(folder / "nowhere")
    (folder / ABOUT_FILE).mkdir()
    assert not is_exported(folder)


def _write(name: str, text: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("damage", "file", "message"),
    [
        (lambda f: (f / WEIGHTS_FILE).unlink(), WEIGHTS_FILE, "no such file, though model.json is there"),
        (_write(WEIGHTS_FILE, "PK"), WEIGHTS_FILE, "not a file of tensors"),
        (lambda f: (f / CONFIG_FILE).unlink(), CONFIG_FILE, "no such file"),
        (_write(CONFIG_FILE, "method: x: y\n"), CONFIG_FILE, "not YAML"),
        (_write(CONFIG_FILE, "method: TinyTL-Q\n"), CONFIG_FILE, "unknown method"),
        (_write(ABOUT_FILE, "{"), ABOUT_FILE, "is damaged: export the run again"),
        (_write(ABOUT_FILE, "[]"), ABOUT_FILE, "is damaged: export the run again"),
        (_write(ABOUT_FILE, '{"classes": ["a"]}'), ABOUT_FILE, "is damaged: export the run again"),
        (_write(ABOUT_FILE, '{"classes": 3, "epoch": 1}'), ABOUT_FILE, "is damaged: export the run again"),
        (
            _write(ABOUT_FILE, '{"classes": [], "epoch": null}'),
            ABOUT_FILE,
            "is damaged: export the run again",
        ),
        (lambda f: torch.save([1], f / WEIGHTS_FILE), ABOUT_FILE, "is damaged"),
    ],
)
def test_the_file_that_is_damaged_is_named_in_one_line(
    folder: Path, damage: Callable[[Path], Any], file: str, message: str
) -> None:
    damage(folder)
    with pytest.raises(ConfigError) as caught:
        read_exported(folder, CPU)
    assert str(caught.value).startswith(str(folder / file))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
