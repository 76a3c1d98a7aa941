import subprocess
import sys
from pathlib import Path

import pytest

from tinytl.library_pages import Mapping, unwritten_mappings

FIGURES = (
    "Size:  {size} kB\nRss:  {rss} kB\nAnonymous:  {written} kB\nSwap:  {swap} kB\nVmFlags: rd mr mw me \n"
)


def mapping(
    rights: str = "r-xp", name: str = "/lib/libtorch.so", rss: int = 600, written: int = 0, swap: int = 0
) -> str:
    head = f"7f00-8f00 {rights} 00000000 fe:00 260850      {name}\n"
    return head + FIGURES.format(size=4, rss=rss, written=written, swap=swap)


@pytest.mark.parametrize(
    "changes",
    [
        {"rights": "rw-p"},
        {"written": 4},
        {"swap": 4},  # written, and not in memory
        {"name": ""},
        {"name": "[heap]"},
        {"name": "/tmp/weights.sorted"},
        {"rss": 500},
    ],
)
def test_what_was_written_or_is_no_library_stays(changes: dict[str, str | int]) -> None:
    kept = mapping(**changes)  # type: ignore[arg-type]
    assert list(unwritten_mappings(kept + mapping() + kept)) == [Mapping(0x7F00, 0x1000, 600)]


@pytest.mark.parametrize("name", ["/lib/libcublas.so.13", "/a b/_C.cpython-312-x86_64-linux-gnu.so"])
def test_a_library_is_known_by_its_name(name: str) -> None:
    assert list(unwritten_mappings(mapping(name=name)))


LEARNS = """
import torch
from tinytl.library_pages import release_library_pages
def resident_mib():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20
net, x = torch.nn.Conv2d(3, 4, 3), torch.randn(1, 3, 8, 8)
before, y = resident_mib(), net(x)
said = release_library_pages()
freed = before - resident_mib()
assert torch.equal(net(x), y)
net(x).sum().backward()
print(said, freed)
"""


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="no /proc")
def test_torch_computes_the_same_afterwards_in_less_memory() -> None:
    done = subprocess.run([sys.executable, "-c", LEARNS], capture_output=True, text=True, check=True)
    said, freed = map(float, done.stdout.split())
    assert said > 20 and freed == pytest.approx(said, rel=0.3)
