import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.cases import small
from tests.support.exports import save_run
from tinytl.config.flat import flat_from_config
from tinytl.errors import ConfigError
from tinytl.runs.checkpoint_file import save_checkpoint
from tinytl.runs.trained import TrainedNetwork, load_trained


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a `best.pt` of epoch 1 and a `last.pt` of epoch 3."""
    folder = tmp_path_factory.mktemp("run")
    (save_run(folder, epoch=3) / "best.pt").rename(folder / "last.pt")
    return save_run(folder)


@pytest.fixture(scope="module")
def trained(run: Path) -> TrainedNetwork:
    return load_trained(run, device="cpu")


def _picture(path: Path, seed: int, sides: int = 0) -> Path:
    """A square of 40 coarse pixels; `sides` are as many white columns at its left and right."""
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    pixels = np.pad(pixels, ((0, 0), (sides, sides), (0, 0)), constant_values=255)
    Image.fromarray(pixels).save(path)
    return path


def test_a_run_is_loaded_as_its_checkpoint_has_it(run: Path, trained: TrainedNetwork) -> None:
    assert (trained.classes, trained.epoch) == (("red", "green", "blue"), 1)
    assert trained.path == run / "best.pt"
    assert not any(module.training for module in trained.net.modules())
    saved = torch.load(run / "best.pt", weights_only=True)["net"]
    assert all(torch.equal(value, saved[name]) for name, value in trained.net.state_dict().items())


def test_its_input_is_normalised_as_in_training_whatever_the_config_says(trained: TrainedNetwork) -> None:
    assert (trained.config.input_mean, trained.config.input_std) == ((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
    white = trained.normalize(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)).flatten()
    assert white.tolist() == pytest.approx([0.5 / 0.2, 0.6 / 0.25, 0.7 / 0.3])


def test_files_of_pretrained_weights_are_not_asked_for_again(tmp_path: Path) -> None:
    config = small(method="TinyTL-L+B")
    gone = dataclasses.replace(config, weights="/gone/imagenet.pt", lite_weights="/gone/lite.pt")
    path = save_run(tmp_path, config) / "best.pt"
    save_checkpoint(torch.load(path, weights_only=True) | {"config": flat_from_config(gone)}, path)
    assert load_trained(tmp_path, device="cpu").config.lite_weights == "/gone/lite.pt"


def test_a_checkpoint_file_is_taken_as_it_is_named(run: Path) -> None:
    assert load_trained(run, "last", "cpu").epoch == 3
    assert load_trained(run / "last.pt", "best", "cpu").epoch == 3


@pytest.mark.parametrize(
    ("there", "epoch", "message"),
    [
        ((), "best", "has no best.pt: is it a run, and has its first epoch ended?"),
        ((), "last", "has no last.pt: is it a run, and has its first epoch ended?"),
        (("best.pt",), "last", "has no last.pt: is it a run, and has its first epoch ended?"),
        (("last.pt",), "best", "has no best.pt, as the trials of a study have none: add --epoch last"),
    ],
)
def test_a_checkpoint_that_is_not_there_is_named(
    run: Path, tmp_path: Path, there: tuple[str, ...], epoch: str, message: str
) -> None:
    for name in there:
        shutil.copy(run / name, tmp_path)
    with pytest.raises(ConfigError) as caught:
        load_trained(tmp_path, epoch, "cpu")
    assert str(caught.value) == f"{tmp_path} {message}"


def test_each_picture_has_its_own_row_in_the_order_given(trained: TrainedNetwork, tmp_path: Path) -> None:
    files = [_picture(tmp_path / f"{seed}.png", seed) for seed in range(3)]
    rows = trained.probabilities(files)
    assert rows.shape == (3, 3)
    assert rows.dtype == np.float64
    assert rows.sum(1) == pytest.approx(1)
    assert len(np.unique(rows[:, 0])) == 3
    assert np.array_equal(trained.probabilities(files[::-1]), rows[::-1])
    assert np.array_equal(trained.probabilities(files[1:2]), rows[1:2])


def test_of_a_wide_picture_the_central_square_is_seen(trained: TrainedNetwork, tmp_path: Path) -> None:
    square, wide = _picture(tmp_path / "a.png", 1), _picture(tmp_path / "b.png", 1, sides=15)
    first, second = trained.probabilities([square, wide])
    assert first == pytest.approx(second, abs=1e-6)


def test_pictures_of_any_name_and_of_this_folder_are_found(
    trained: TrainedNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    odd = _picture(Path(os.fsdecode(b"\xfc .png")), 1)
    assert trained.probabilities([odd]).shape == (1, 3)


def test_a_file_that_does_not_decode_is_named(trained: TrainedNetwork, tmp_path: Path) -> None:
    good, bad = _picture(tmp_path / "good.png", 1), tmp_path / "bad.png"
    bad.write_bytes(good.read_bytes()[:60])
    with pytest.raises(ConfigError, match=f"^{bad} does not decode as an image"):
        trained.probabilities([good, bad])
