"""With a GPU (`make gpu-check`) these tests run there; without one, those that can run on a GPU's path with a
CPU's kernels, and the rest is not collected.
"""

from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch

from tinytl.device import gpu_emulated
from tinytl.training.mixed_precision import backends_restored

collect_ignore = [] if torch.cuda.is_available() else ["test_on_a_gpu.py"]


@pytest.fixture(autouse=True)
def settings_of_the_process() -> Iterator[None]:
    with backends_restored():
        yield


@pytest.fixture
def device() -> Iterator[torch.device]:
    """The GPU, or a CPU whose tensors take a GPU's path."""
    on_gpu = torch.cuda.is_available()
    with nullcontext() if on_gpu else gpu_emulated():
        yield torch.device("cuda" if on_gpu else "cpu")
