"""Real failures in processes of their own, under a limit of their address space; CUDA's by its message."""

import errno
import json
import subprocess
import sys

import pytest
import torch

from tinytl.memory.out_of_memory import is_out_of_memory, out_of_memory_need_mib, tried_mib

LIMIT_MIB = 300
PROCESS = f"""
import json, mmap, resource
import numpy as np
import torch
from tinytl.memory.measure import MIB
from tinytl.memory.out_of_memory import forget_peaks, is_out_of_memory, out_of_memory_need_mib, tried_mib

torch.set_num_threads(1)
def limit():
    pages = int(open("/proc/self/statm").read().split()[0])
    size = pages * resource.getpagesize() + {LIMIT_MIB} * MIB
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
def failing(function):
    try:
        function()
    except Exception as error:
        return {{
            "type": next(t for t in (MemoryError, OSError, RuntimeError) if isinstance(error, t)).__name__,
            "need": out_of_memory_need_mib(error),
            "tried": tried_mib(error),
            "yes": is_out_of_memory(error),
        }}
"""
STEP = """
import dataclasses
from tinytl.build import build_model
from tinytl.config import TrainConfig
from tinytl.training.step import InputNormalizer, build_optimizer, training_step

config = TrainConfig(backbone="mobilenet_v2", weights="none", num_classes=3, method="FT-Full",
                     norm="batch_norm", engine="stock", resolution=128, batch_size=32, device="cpu")
net = build_model(config).net
optimizer, normalize = build_optimizer(net, config), InputNormalizer(config, torch.device("cpu"))
def step(n):
    images, labels = torch.zeros(n, 3, 128, 128, dtype=torch.uint8), torch.zeros(n, dtype=torch.int64)
    training_step(net, optimizer, normalize, images, labels, micro_batch_size=n, label_smoothing=0.1)
step(2)
"""
CUDA_MESSAGE = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB of which 1.05 "
    "GiB is free. Process 1 has 78.05 GiB memory in use. Of the allocated memory 76.50 GiB is allocated by "
    "PyTorch, and 900.10 MiB is reserved by PyTorch but unallocated."
)


def in_process(code: str) -> dict:
    done = subprocess.run([sys.executable, "-c", PROCESS + code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_each_way_to_run_out_of_host_memory_is_told_with_what_was_tried():
    found = in_process(
        """
limit()
print(json.dumps({
    "torch": failing(lambda: torch.empty(2**28)),
    "numpy": failing(lambda: np.empty(2**28)),
    "python": failing(lambda: bytearray(2**30)),
    "system": failing(lambda: mmap.mmap(-1, 2**30)),
    "other": failing(lambda: torch.ones(2) @ torch.ones(3)),
}))
"""
    )
    assert {name: (f["type"], f["tried"]) for name, f in found.items()} == {
        "torch": ("RuntimeError", 1024.0),
        "numpy": ("MemoryError", 2048.0),
        "python": ("MemoryError", 0.0),
        "system": ("OSError", 0.0),
        "other": ("RuntimeError", 0.0),
    }
    other = found.pop("other")
    assert (other["yes"], other["need"]) == (False, None)
    for failure in found.values():
        assert failure["yes"]
        assert 50 < failure["need"] - failure["tried"] < 4096  # the process itself: python and torch


@pytest.mark.slow  # the test above has the kinds
def test_a_training_step_over_the_limit_needs_about_the_limit():
    found = in_process(
        STEP
        + """
before = out_of_memory_need_mib(MemoryError())
limit()
print(json.dumps(failing(lambda: step(32)) | {"before": before}))
"""
    )
    assert found["yes"]
    assert found["tried"] > 0
    assert LIMIT_MIB / 2 < found["need"] - found["before"] < 2 * LIMIT_MIB


def test_a_later_trial_of_the_process_does_not_inherit_the_peak():
    found = in_process(
        """
torch.ones(2**26)
first = out_of_memory_need_mib(MemoryError())
forget_peaks()
print(json.dumps({"first": first, "second": out_of_memory_need_mib(MemoryError())}))
"""
    )
    assert found["first"] - found["second"] > 200


@pytest.mark.parametrize(
    ("message", "tried", "need"),
    [
        (CUDA_MESSAGE, 2048.0, 78.5 * 1024),
        ("CUDA out of memory. Tried to allocate 20.00 MiB.", 20.0, 20.0),
        ("CUDA out of memory. Tried to allocate 512 bytes.", 2**-11, 2**-11),
    ],
)
def test_cuda_says_what_it_held_and_what_it_was_asked_for(message, tried, need):
    error = torch.cuda.OutOfMemoryError(message)
    assert tried_mib(error) == tried
    assert out_of_memory_need_mib(error) == pytest.approx(need)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (ValueError("bad"), False),
    ],
)
def test_only_out_of_memory_is_out_of_memory(error, expected):
    assert is_out_of_memory(error) is expected
    assert (out_of_memory_need_mib(error) is not None) is expected
