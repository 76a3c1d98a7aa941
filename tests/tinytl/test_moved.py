import subprocess
import sys

import pytest

OLD_IMPORTS = [
    (
        "from tinytl.lite_residual import LiteResidualModule, insert_lite_residual",
        "tinytl.lite_residual has moved: from tinytl import LiteResidualModule, insert_lite_residual",
    ),
    ("import tinytl.group_norm", "tinytl.group_norm has moved: from tinytl import replace_bn_with_gn"),
    (
        "from tinytl.checkpointing import checkpoint_segment, CheckpointFunction",
        "tinytl.checkpointing has moved: from tinytl import checkpoint_segment, CheckpointFunction",
    ),
    (
        "from tinytl.checkpoint_function import CheckpointFunction",
        "tinytl.checkpoint_function has moved: from tinytl import CheckpointFunction",
    ),
    ("from tinytl.measure import PeakMeter", "tinytl.measure has moved: import tinytl.memory.measure"),
    (
        "from tinytl.memory import resolve_plan, predict_memory, max_batch_size",
        "tinytl.memory.resolve_plan has moved: from tinytl.memory.predict import resolve_plan",
    ),
    (
        "from tinytl.config import TrainConfig, LrRatio",
        "tinytl.config.TrainConfig has moved: from tinytl import TrainConfig",
    ),
    (
        "from tinytl.data import load_dataset",
        "tinytl.data.load_dataset has moved: from tinytl.data.load",
    ),
    ("from tinytl.planner import fast_plan", "tinytl.planner has moved: import tinytl.config.plan"),
    ("from tinytl.flat_config import config_from_flat", "tinytl.flat_config has moved: import tinytl.config"),
    ("from tinytl.paper_memory import paper_memory", "tinytl.paper_memory has moved: import tinytl.memory"),
    ("from tinytl.trained import load_trained", "tinytl.trained has moved: import tinytl.runs.trained"),
]


def test_old_paths_work_with_one_warning_that_names_the_new_import() -> None:
    program = (
        "import sys, warnings\n"
        "for line in sys.argv[1:]:\n"
        "    with warnings.catch_warnings(record=True) as caught:\n"
        "        warnings.simplefilter('always')\n"
        "        exec(line)\n"
        "    print(*[f'{w.category.__name__} {w.filename} {w.message}' for w in caught], sep=' AND ')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *(old for old, _ in OLD_IMPORTS)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stderr == ""
    printed = done.stdout.splitlines()
    assert len(printed) == len(OLD_IMPORTS)
    for line, (_, message) in zip(printed, OLD_IMPORTS, strict=True):
        assert line.startswith(f"DeprecationWarning <string> {message}") and " AND " not in line


def test_what_never_was_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError):
        __import__("tinytl.never_was")
    with pytest.raises(AttributeError, match=r"module 'tinytl.memory' has no attribute 'never_was'"):
        _ = __import__("tinytl.memory.measure").memory.never_was
