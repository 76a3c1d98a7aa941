"""Triton's kernels, by its interpreter on a CPU: no GPU is needed to see what they compute."""

import os
import subprocess
import sys

import torch

from tests.support.places import ROOT
from tinytl.memory_efficient.ops.bit_mask_triton import kernels_work

PROGRAM = """
import itertools, math
import torch
from tinytl.memory_efficient.ops import bit_mask
from tinytl.memory_efficient.ops.bit_mask_triton import apply_by_triton, kernels_work, pack_by_triton

assert kernels_work(torch.device("cpu"))
sizes, types = (1, 7, 8, 2047, 2049, 5003), (torch.float32, torch.bfloat16, torch.float16)
for n, dtype, high in itertools.product(sizes, types, (6.0, math.inf)):
    values = 6 * torch.randn(n)
    values[:: 5], values[:: 7], values[:: 11] = 0.0, math.nan, math.inf
    values = values.to(dtype)
    grad = torch.randn(n).to(dtype)
    grad[:: 3] = math.inf
    bits = torch.empty((n + 7) // 8, dtype=torch.uint8)
    pack_by_triton(values, bits, 0.0, high)
    expected = torch.where(values.isnan() | ((values > 0) & ((values < high) | (high == math.inf))), grad, 0)
    out = torch.empty_like(grad)
    apply_by_triton(grad, bits, out)
    assert torch.equal(out, expected), (n, dtype, high)
    by_numpy = bit_mask.pack_interior(values.float(), 0.0, high)
    assert torch.equal(by_numpy[: n // 8], bits[: n // 8])
    apply_by_triton(grad, bits, grad)
    assert torch.equal(grad, expected)
"""


def test_bits_are_those_of_numpy_and_what_is_cut_off_is_zero() -> None:
    env = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_kernels_that_cannot_run_say_so() -> None:
    assert not kernels_work(torch.device("cpu"))  # without the interpreter
