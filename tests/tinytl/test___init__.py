import importlib
import os
import subprocess
import sys

import pytest

import tinytl


@pytest.mark.parametrize("name", tinytl.__all__)
def test_what_tinytl_offers_is_what_its_module_has(name: str) -> None:
    value = getattr(tinytl, name)
    assert value.__name__ == name
    assert value is getattr(importlib.import_module(value.__module__), name)


def test_names_are_listed_before_they_are_loaded() -> None:
    program = (
        "import sys, tinytl; names = {'TrainConfig', 'build_model', 'predict_memory', 'max_batch_size',"
        "'make_memory_efficient_', 'LiteResidualModule', 'insert_lite_residual', 'replace_bn_with_gn',"
        "'checkpoint_segment', 'CheckpointFunction', 'memory_curve', 'fit_budget', 'predict_step'}\n"
        "assert names == set(tinytl.__all__) <= set(dir(tinytl))\n"
        "assert not {'torch', 'numpy', 'yaml'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_name_that_is_not_offered_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'tinytl' has no attribute 'never_was'"):
        _ = tinytl.never_was


@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "5"}, "5"), ({"OMP_WAIT_POLICY": "active"}, "None")],
)
def test_threads_do_not_spin_for_long_unless_somebody_says_so(given: dict[str, str], spins: str) -> None:
    names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    environment = {key: value for key, value in os.environ.items() if key not in names} | given
    program = "import os, tinytl; print(os.environ.get('GOMP_SPINCOUNT'))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env=environment
    )
    assert done.stdout.strip() == spins
