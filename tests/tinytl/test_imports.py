import subprocess
import sys

import pytest

TUNER = {"ray", "optuna", "mlflow"}
COMPILER = {"torch._dynamo", "torch._inductor", "sympy", "triton"}
"""What torch loads to compile: 200 MiB."""
TRAINED_RUN = """
import contextlib, io, tempfile
from pathlib import Path
from PIL import Image
from tinytl.__main__ import main

with tempfile.TemporaryDirectory() as folder:
    for split, label, grey in [(s, c, g) for s in ("train", "val") for c in "ab" for g in (50, 90)]:
        file = Path(folder) / "pictures" / split / label / f"{grey}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (40, 40), grey).save(file)
    flags = "--dataset imagefolder --resolution 32 --epochs 2 --batch-size 2 --weights none --plan smallest"
    with contextlib.redirect_stdout(io.StringIO()):
        places = ["--data-dir", f"{folder}/pictures", "--out", f"{folder}/run"]
        assert main(["train", *places, *flags.split()]) == 0
"""
TRAINING_STEP = """
import sys, tempfile
from pathlib import Path
from tinytl.config.train_config import TrainConfig
from tinytl.data.load import load_dataset
from tinytl.data.splits import DataSplits
from tinytl.runs.trainer import Trainer
import tinytl.runs.run

fields = dict(backbone="mobilenet_v2", method="TinyTL-B", weights="none", resolution=32)
config = TrainConfig(**fields, stock_below_kib=0.0)
digits = load_dataset(config)
train, val = digits.train.take(range(8)), digits.val.take(range(8))
few = DataSplits(digits.name, digits.classes, train, val, None, 1.0, False)
Trainer(config, few).train_epoch()
"""


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        (
            "import tinytl.config.train_config, tinytl.data.load, tinytl.config.flags, tinytl.__main__",
            {"torch", *TUNER},
        ),
        (
            "import tinytl.plots.curves, tinytl.plots.accuracy_memory, tinytl.runs.record",
            {"torch", *TUNER},
        ),
        ("import tinytl.__main__", {"matplotlib", "numpy", "PIL"}),
        (
            "from tinytl.__main__ import main; import io, contextlib\n"
            "with contextlib.redirect_stdout(io.StringIO()): main(['list'])",
            {"torch", "sklearn", *TUNER},
        ),
        (TRAINING_STEP, {"torchvision", "matplotlib", "onnx", *COMPILER, *TUNER}),
        (TRAINED_RUN, {"torchvision", "sklearn", "scipy", "pandas", "matplotlib", "onnx", *COMPILER, *TUNER}),
    ],
)
def test_what_an_import_brings(statement: str, unwanted: set[str]) -> None:
    program = f"{statement}\nimport sys\nprint(*sorted({unwanted!r} & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == []
    assert done.stderr == ""
