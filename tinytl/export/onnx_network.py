"""ONNX files run by onnxruntime: as a network that is judged like one of PyTorch, and timed."""

import statistics
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tinytl.export.metadata import INPUT, OUTPUT

ROUNDS, WARM_UP_ROUNDS = 25, 3


class OnnxNetwork(nn.Module):
    """`(N, 3, R, R)` in [0, 1], on the CPU, to logits `(N, classes)`, computed by onnxruntime."""

    def __init__(self, model: bytes) -> None:
        super().__init__()
        self.session = session_of(model)

    def forward(self, images: Tensor) -> Tensor:
        """Returns the logits."""
        (logits,) = self.session.run([OUTPUT], {INPUT: images.contiguous().numpy()})
        return torch.from_numpy(logits)


def as_fractions(images: Tensor) -> Tensor:
    """Returns uint8 images in [0, 1]."""
    return images.float() / 255


def session_of(model: bytes, threads: int | None = None) -> Any:
    """Returns a session on the CPU, with this many threads; default: torch's."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def ms_per_picture(models: Mapping[str, bytes], resolution: int, rounds: int = ROUNDS) -> dict[str, float]:
    """Returns the median processor time of one picture on this machine, in milliseconds, by model.

    One thread; processor time, as other work on the machine would interrupt the slower model more often.
    Models take turns.
    """
    sessions = {name: session_of(model, threads=1) for name, model in models.items()}
    picture = np.random.default_rng(0).random((1, 3, resolution, resolution), dtype=np.float32)
    taken: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(WARM_UP_ROUNDS + rounds):
        for name, session in sessions.items():
            started = time.thread_time()
            session.run([OUTPUT], {INPUT: picture})
            if turn >= WARM_UP_ROUNDS:
                taken[name].append(time.thread_time() - started)
    return {name: statistics.median(times) * 1e3 for name, times in taken.items()}
