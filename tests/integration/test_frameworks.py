"""The examples run as a user would start them, where Lightning, transformers and accelerate are installed."""

import site
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.places import ROOT

pytestmark = pytest.mark.slow
PACKAGES = ("lightning", "transformers>=5", "accelerate")
SETTINGS = [
    ["with_timm.py"],
    ["with_timm.py", "--net", "efficientnet_b0", "--budget-mib", "60"],
    ["with_lightning.py"],
    ["with_lightning.py", "--net", "resnet18", "--budget-mib", "80"],
    ["with_lightning.py", "--net", "mobilenet_v2", "--precision", "bf16-mixed"],
    ["with_transformers.py"],
    ["with_transformers.py", "--net", "resnet18", "--budget-mib", "70"],
    ["with_transformers.py", "--net", "resnet18", "--budget-mib", "80", "--bf16"],
    ["with_transformers.py", "--net", "convnext_tiny", "--budget-mib", "160"],
    ["with_transformers.py", "--net", "efficientnet_b0", "--budget-mib", "60"],
]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment that has the frameworks, and finds torch and timm in this one."""
    place = tmp_path_factory.mktemp("frameworks")
    uv, python = ROOT / ".venv" / "bin" / "uv", place / "bin" / "python"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, "--allow-existing", place], check=True)
    packages = next(place.glob("lib/python*/site-packages"))
    here = Path(site.getsitepackages()[0])
    (packages / "this.pth").write_text(f"{here}\n")
    installed = subprocess.run(
        [uv, "pip", "freeze", "--python", sys.executable], check=True, capture_output=True, text=True
    ).stdout
    (place / "here.txt").write_text(installed)
    command = [uv, "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--constraints"]
    wanted = subprocess.run(
        [*command, place / "here.txt", "-"],
        input="\n".join(PACKAGES),
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    missing = sorted(set(wanted.split()) - set(installed.split()))
    install = [uv, "pip", "install", "--quiet", "--no-deps", "--python", python]
    subprocess.run([*install, *missing], check=True)
    return python


@pytest.mark.parametrize("words", SETTINGS, ids=lambda words: " ".join(words))
def test_an_example_needs_what_it_predicted(python: Path, words: list[str]) -> None:
    command = [python, ROOT / "examples" / words[0], *words[1:]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    said = {words[0]: float(words[1]) for words in lines if words[0] in ("stock:", "predicted:", "measured:")}
    assert said["predicted:"] == pytest.approx(said["measured:"], rel=0.02)
    assert said["measured:"] < 0.5 * said["stock:"]


def test_what_needs_the_frameworks_passes_with_them(python: Path) -> None:
    tests = [
        "tests/tinytl/memory_efficient/test_lightning_runs.py",
        "tests/tinytl/memory_efficient/test_transformers_nets.py",
        "tests/tinytl/networks/backbones/test_known_blocks.py",
    ]
    command = [python, "-m", "pytest", "-p", "no:cacheprovider", "-W", "default", *tests]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout
