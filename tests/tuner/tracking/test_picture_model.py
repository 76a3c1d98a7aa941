"""What `mlflow.pyfunc` calls, without MLflow: tests/integration/test_finish.py serves it."""

from pathlib import Path

import numpy as np
import pytest
from pandas import DataFrame
from PIL import Image

from tests.support.exports import save_run
from tinytl.errors import ConfigError
from tinytl.runs.trained import load_trained
from tuner.tracking import picture_model


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_bytes_and_the_path_of_a_file_are_the_same_picture(tmp_path: Path, picture: Path) -> None:
    run = save_run(tmp_path / "run")
    model = picture_model._load_pyfunc(str(run))
    rows = model.predict(DataFrame({"picture": [picture.read_bytes(), str(picture)]}))
    expected = load_trained(run, device="cpu").probabilities([picture])[0]
    assert rows["class"].tolist() == [("red", "green", "blue")[expected.argmax()]] * 2
    for row in rows["probabilities"]:
        assert list(row) == ["red", "green", "blue"] and list(row.values()) == pytest.approx(expected)
    assert rows["probability"].tolist() == pytest.approx([expected.max()] * 2)


def test_one_picture_in_a_list_is_one_picture(tmp_path: Path, picture: Path) -> None:
    model = picture_model._load_pyfunc(str(save_run(tmp_path / "run")))
    # What MLflow hands over for {"picture": [path]}, and for {"picture": [path, path]}.
    one, two = DataFrame([{"picture": [str(picture)]}]), DataFrame({"picture": [str(picture)] * 2})
    assert model.predict(one).equals(model.predict(two).head(1))


def test_what_is_no_picture_is_named_by_its_row(tmp_path: Path, picture: Path) -> None:
    model = picture_model._load_pyfunc(str(save_run(tmp_path / "run")))
    with pytest.raises(ConfigError, match="picture-1"):
        model.predict(DataFrame({"picture": [picture.read_bytes(), b"no picture"]}))
