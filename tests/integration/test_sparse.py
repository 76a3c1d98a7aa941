"""A study of the space `sparse`: its driver looks at the images, is killed, and resumes."""

import os
import signal

import pytest
import yaml

from tests.support.studies import (
    check_whole,
    command,
    epochs_saved,
    mlflow_runs,
    resume,
    started,
    wait_for,
    write_pictures,
)
from tinytl.config.flat import config_from_flat
from tinytl.networks.update_scheme import scheme_of


def schemes_of(study):
    return {
        file.parent.name: yaml.safe_load(file.read_text())["update_scheme"]
        for file in study.glob("sparse-*/config.yaml")
    }


@pytest.mark.slow  # a whole study, killed; test_study.py has one of another space
def test_a_study_of_sparse_resumes_with_what_its_images_chose(tmp_path):
    pictures, runs_dir = write_pictures(tmp_path / "pictures"), tmp_path / "runs"
    flags = "--space sparse --trials 3 --epochs 3 --name s --workers 1 --memory-budget-mib 25".split()
    flags += ["--set", "select=fisher", "--set", "bias_blocks=none"]
    with started(command(pictures, runs_dir, *flags), tmp_path / "log") as driver:
        wait_for(lambda: epochs_saved(runs_dir / "s") >= 2, "epochs")
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
    begun = schemes_of(runs_dir / "s")
    assert begun and all(begun.values())
    with started(resume("s", runs_dir), tmp_path / "log of the resumed") as driver:
        assert driver.wait() == 0, (tmp_path / "log of the resumed").read_text()
    check_whole("s", runs_dir, trials=3, epochs=3, space="sparse")
    after = schemes_of(runs_dir / "s")
    assert {name: after[name] for name in begun} == begun and all(after.values())
    for file in (runs_dir / "s").glob("sparse-*/config.yaml"):
        config = config_from_flat(yaml.safe_load(file.read_text()))
        assert config.select == "fisher" and scheme_of(config).bias_from is None
    recorded = {run.data.params["update_scheme"] for run in mlflow_runs("s", runs_dir, "trial")}
    assert recorded == set(after.values())
