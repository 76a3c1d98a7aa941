"""Networks in eight bits compute nearly what they computed in floats; needs onnx."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.support.cases import small
from tests.support.exports import save_run
from tests.support.small_onnx import pictures, small_onnx
from tinytl.export.metadata import metadata_of
from tinytl.export.onnx_file import device_network, onnx_bytes
from tinytl.export.onnx_network import session_of
from tinytl.export.quantization import operations_in_float, quantized
from tinytl.runs.trained import load_trained

KINDS: dict[str, dict[str, Any]] = {
    "lite residuals": {"method": "TinyTL-L+B", "resolution": 72},
    "group norm": {"method": "TinyTL-L+B", "norm": "group_norm", "backbone": "proxylessnas_mobile"},
    "padding on one side": {"method": "FT-Full", "norm": "batch_norm", "backbone": "efficientnet_lite0"},
    "frozen weights in 8 bits": {"method": "Sparse", "update_blocks": 3, "frozen_weights": "int8"},
    "h_swish": {"method": "TinyTL-L", "act_func": "h_swish", "upsample_type": "nearest"},
}


def logits(model: bytes, batches: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    session = session_of(model)
    return np.concatenate([session.run(None, {"images": batch})[0] for batch in batches])


def off(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> float:
    """The error, relative to how pictures differ."""
    spread = np.linalg.norm(expected - expected.mean(0))
    return float(np.linalg.norm(found - expected) / spread)


def test_it_computes_nearly_the_same_and_says_the_same_of_itself(capfd: pytest.CaptureFixture[str]) -> None:
    model, batches = small_onnx(), pictures()
    small_one = quantized(model, batches)
    assert 0 < off(logits(small_one, batches), logits(model, batches)) < 0.2
    before, after = onnx.load_from_string(model), onnx.load_from_string(small_one)
    assert list(after.metadata_props) == list(before.metadata_props)
    kinds = {one.data_type for one in after.graph.initializer if "weight" in one.name and "quant" in one.name}
    assert kinds == {onnx.TensorProto.INT8}
    assert capfd.readouterr() == ("", "")


def test_operations_in_float_are_counted() -> None:
    small_one = quantized(small_onnx(), pictures())
    assert operations_in_float(small_one) == {"Sub": 1, "InstanceNormalization": 1, "Add": 1}
    assert operations_in_float(small_onnx())["Conv"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_network(kind: str, tmp_path: Path) -> None:
    trained = load_trained(save_run(tmp_path, small(**{"resolution": 64} | KINDS[kind])), device="cpu")
    side = trained.config.resolution
    model = onnx_bytes(device_network(trained), side, metadata_of(trained))
    rng = np.random.default_rng(0)
    images = (rng.random((24, 3, side, side)) * rng.random((24, 3, 1, 1))).astype(np.float32)
    batches = np.split(images, 3)
    small_one = quantized(model, batches)
    assert len(small_one) < 0.4 * len(model)
    assert off(logits(small_one, batches), logits(model, batches)) < 0.8  # a random network amplifies errors
    assert not {"Conv", "Gemm"} & operations_in_float(small_one).keys()
