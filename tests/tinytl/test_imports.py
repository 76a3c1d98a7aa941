import subprocess
import sys

import pytest

TUNER = {"ray", "optuna", "mlflow"}


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
        ("import tinytl.__main__", {"matplotlib"}),
        ("import tinytl.runs.run, tinytl.runs.trainer, tinytl.memory.predict, tinytl.memory.paper", TUNER),
    ],
)
def test_what_an_import_brings(statement: str, unwanted: set[str]) -> None:
    program = f"{statement}\nimport sys\nprint(*sorted({unwanted!r} & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == []
    assert done.stderr == ""
