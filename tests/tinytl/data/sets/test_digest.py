import dataclasses
import shutil

from PIL import Image

from tinytl.config.train_config import TrainConfig
from tinytl.data.load import load_dataset


def test_a_folder_has_the_same_digest_anywhere_at_any_resolution_and_another_once_a_picture_changes(tmp_path):
    first = tmp_path / "first"
    for name, level in (("a", 10), ("b", 200)):
        (first / name).mkdir(parents=True)
        for index in range(4):
            Image.new("RGB", (40, 40), (level, index, 0)).save(first / name / f"{index}.png")
    shutil.copytree(first, tmp_path / "second")
    config = TrainConfig(dataset="imagefolder", data_dir=str(first), resolution=32)
    digest = load_dataset(config).digest
    assert len(digest) == 16
    moved = dataclasses.replace(config, data_dir=str(tmp_path / "second"), resolution=64, loading="stream")
    assert load_dataset(moved).digest == digest
    Image.new("RGB", (40, 40), (11, 0, 0)).save(tmp_path / "second" / "a" / "0.png")
    assert load_dataset(moved).digest != digest


def test_the_digits_have_one_digest():
    assert load_dataset(TrainConfig(dataset="digits")).digest == "c719e003fa012dd8"
