"""A network in eight bits is judged, and refused if it costs too much; needs onnx."""

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.support.cases import small
from tests.support.exports import save_run
from tests.support.small_onnx import SIDE, small_onnx
from tests.tinytl.conftest import write_imagefolder
from tinytl.data.splits import DataSplits
from tinytl.errors import ConfigError
from tinytl.export import int8
from tinytl.export.int8 import FLOAT, INT8, images_for_int8, int8_onnx, shown
from tinytl.runs.trained import TrainedNetwork, load_trained

CLASSES = {"red": 4, "green": 4, "blue": 4}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedNetwork:
    """What a run says of itself; its network is not asked."""
    config = small(method="FT-Last", dataset="imagefolder", data_dir="/gone")
    network = load_trained(save_run(tmp_path_factory.mktemp("run"), config), device="cpu")
    return dataclasses.replace(network, config=dataclasses.replace(network.config, resolution=SIDE))


def scrambled(model: bytes) -> bytes:
    """The same with other answers: its classes are in another order."""
    graph = onnx.load_from_string(model)
    for one in graph.graph.initializer:
        if one.name in ("head.weight", "head.bias"):
            one.CopyFrom(numpy_helper.from_array(np.roll(numpy_helper.to_array(one), 1, axis=0), one.name))
    return graph.SerializeToString()


def labelled_as(model: bytes, data: DataSplits, trained: TrainedNetwork) -> DataSplits:
    """The data with the labels that a model gives its validation images."""
    said = int8.judged(model, data.val, trained.config).predicted
    return dataclasses.replace(data, val=dataclasses.replace(data.val, labels=said))


def test_figures_of_both_are_those_of_the_same_images(trained: TrainedNetwork, splits: DataSplits) -> None:
    data = labelled_as(small_onnx(), splits, trained)
    model, about = int8_onnx(trained, small_onnx(), data, 0.5)
    assert about[FLOAT]["accuracy_top1"] == 1.0 and about[FLOAT]["accuracy_top1_standard_error"] == 0.0
    assert about[INT8]["accuracy_top1"] == about["same_class"] == pytest.approx(1 - about["drop"])
    assert about[INT8]["bytes"] == len(model) and about[FLOAT]["bytes"] == len(small_onnx())
    assert about["calibrated_on"] == "10 training images of colors"
    lines = shown(about, "model_int8.onnx")
    assert lines[0].startswith("model_int8.onnx: ") and "calibrated on 10 training images" in lines[0]
    assert "on 6 validation images of colors: accuracy " in lines[1]
    assert lines[2] == "computed in floats: 1 Sub, 1 InstanceNormalization, 1 Add"


def test_a_loss_of_accuracy_is_refused_with_the_figure_that_allows_it(
    trained: TrainedNetwork, splits: DataSplits, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = labelled_as(small_onnx(), splits, trained)
    monkeypatch.setattr(int8, "quantized", lambda model, batches: scrambled(model))
    with pytest.raises(
        ConfigError, match=r"falls by 1\.000 ± 0\.000, more than 0\.01: .*--max-accuracy-drop 1$"
    ):
        int8_onnx(trained, small_onnx(), data, 0.01)
    _, about = int8_onnx(trained, small_onnx(), data, 1.0)
    assert (about["drop"], about[INT8]["accuracy_top1"], about["same_class"]) == (1.0, 0.0, 0.0)


def test_the_metric_of_the_run_decides(
    trained: TrainedNetwork, splits: DataSplits, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_f1 = dataclasses.replace(trained, config=dataclasses.replace(trained.config, metric="macro_f1"))
    data = labelled_as(small_onnx(), splits, trained)
    monkeypatch.setattr(int8, "quantized", lambda model, batches: scrambled(model))
    with pytest.raises(ConfigError, match=r"in eight bits macro F1 on 6 validation images is 0\.000"):
        int8_onnx(by_f1, small_onnx(), data, 0.01)


def test_images_that_are_not_there_or_do_not_fit(trained: TrainedNetwork, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--int8 calibrates on the training images.*/gone.* --data-dir$"):
        images_for_int8(trained.config, trained)

    def folder(name: str, counts: dict[str, int]) -> str:
        return str(write_imagefolder(tmp_path / name, counts))

    fits = folder("fits", {f"{split}/{name}": 2 for name in CLASSES for split in ("train", "val")})
    config = dataclasses.replace(trained.config, data_dir=fits)
    ordered = dataclasses.replace(trained, classes=("blue", "green", "red"))
    data = images_for_int8(config, ordered)
    assert (len(data.train), len(data.val)) == (6, 6)
    with pytest.raises(ConfigError, match="class 0 is 'red' there and 'blue' in the data set"):
        images_for_int8(config, trained)
