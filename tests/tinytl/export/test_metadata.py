"""What an ONNX file says of itself, as a device reads it."""

import json
from pathlib import Path

import onnx
import onnxruntime

from tests.support.cases import small
from tests.support.exports import save_run
from tests.support.small_onnx import small_onnx
from tinytl.export.metadata import metadata_of, set_metadata_
from tinytl.runs.trained import load_trained


def test_a_device_reads_classes_input_and_preprocessing(tmp_path: Path) -> None:
    trained = load_trained(save_run(tmp_path / "run", small(method="FT-Last", resolution=48)), device="cpu")
    model = onnx.load_from_string(small_onnx())
    model.graph.node[1].metadata_props.add(key="pkg.torch.onnx.stack_trace", value='File "/home/me/x.py"')
    set_metadata_(model, metadata_of(trained))
    written = model.SerializeToString()
    assert b"/home/me" not in written
    session = onnxruntime.InferenceSession(written, providers=["CPUExecutionProvider"])
    said = session.get_modelmeta().custom_metadata_map
    assert json.loads(said["classes"]) == ["red", "green", "blue"]
    assert (said["backbone"], said["method"], said["epoch"]) == ("mobilenet_v2", "FT-Last", "1")
    given = json.loads(said["input"])
    assert given["name"] == session.get_inputs()[0].name
    assert (given["resolution"], given["channel_order"], given["range"]) == ([48, 48], "RGB", [0, 1])
    prepared = json.loads(said["preprocessing"])
    assert (prepared["mean"], prepared["std"]) == ([0.5, 0.4, 0.3], [0.2, 0.25, 0.3])
    assert {"crop", "resize", "divide_by", "mean_and_std_applied"} <= prepared.keys()
    assert json.loads(said["output"])["name"] == session.get_outputs()[0].name
