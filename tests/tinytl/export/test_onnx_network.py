"""ONNX files as networks that are judged and timed; needs onnxruntime."""

import numpy as np
import pytest
import torch

from tests.support.small_onnx import CLASSES, SIDE, pictures, small_onnx
from tinytl.export.onnx_network import OnnxNetwork, as_fractions, ms_per_picture, session_of


def test_a_network_gives_the_logits_of_its_file() -> None:
    (batch, *_) = pictures()
    found = OnnxNetwork(small_onnx())(torch.from_numpy(batch).contiguous(memory_format=torch.channels_last))
    assert found.shape == (len(batch), CLASSES)
    assert np.array_equal(found.numpy(), session_of(small_onnx()).run(None, {"images": batch})[0])


def test_bytes_become_fractions() -> None:
    assert as_fractions(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx(
        [0.0, 0.2, 1.0]
    )


def test_files_are_timed_in_turn() -> None:
    times = ms_per_picture({"a": small_onnx(), "b": small_onnx(1)}, SIDE, rounds=3)
    assert list(times) == ["a", "b"] and min(times.values()) > 0
