"""What a step frees is not asked of the system again, in a process of its own."""

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys, torch
from tinytl.training.freed_memory import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step():
    for _ in range(4):
        tensors = [torch.zeros(3 << 18) for _ in range(8)]  # 3 MiB each
for _ in range(5):
    step()
before = faults()
for _ in range(40):
    step()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has no such settings")
def test_freed_memory_is_not_asked_for_again() -> None:
    def faults(how: str) -> int:
        made = subprocess.run([sys.executable, "-c", SCRIPT, how], check=True, capture_output=True, text=True)
        return int(made.stdout)

    # Where the heap lies differs from process to process, and with it how soon freed pieces fit again.
    assert faults("kept") < 0.5 * faults("given back")
