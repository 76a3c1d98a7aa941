"""A study keeps the times with which it began, and each study uses its own."""

import dataclasses
from pathlib import Path

import pytest

from tinytl.errors import ConfigError
from tinytl.memory import gpu_workspaces
from tinytl.memory.gpu_workspaces import Workspaces, known_workspaces, use_workspaces
from tinytl.step_time import calibration
from tinytl.step_time.calibration import step_times
from tinytl.step_time.kept import FILE_VARIABLE
from tinytl.step_time.step_times import StepTimes
from tuner.cluster.gpu_figures import GpuFigures
from tuner.cluster.nodes import Node
from tuner.study import machine_times
from tuner.study.machine_times import FILE, GPU_FILE, ask_gpus, is_known, keep_times, use_times

MACHINE = StepTimes(per_kind={"mul": (1e-6, 2e-10, 0.0)})
OTHER = StepTimes(per_kind={"mul": (3e-6, 1e-10, 0.0)})


@pytest.fixture(autouse=True)
def fresh_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(calibration, "_KNOWN", {})
    monkeypatch.setattr(gpu_workspaces, "_KNOWN", {})
    monkeypatch.setattr(gpu_workspaces, "_MAY_ASK", [True])
    monkeypatch.setattr(calibration, "calibrate", lambda threads: MACHINE)
    monkeypatch.delenv(FILE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def study(tmp_path: Path, name: str) -> Path:
    folder = tmp_path / name
    folder.mkdir()
    return folder


def test_a_new_study_takes_this_machine_and_keeps_it(tmp_path: Path) -> None:
    folder = study(tmp_path, "new")
    assert not is_known(folder)
    use_times(folder)
    keep_times(folder)
    assert (folder / FILE).exists() and is_known(folder)
    assert is_known(study(tmp_path, "next"))  # measured once for all


def test_a_study_that_began_elsewhere_has_its_own_and_the_next_one_has_not(tmp_path: Path) -> None:
    elsewhere = study(tmp_path, "elsewhere")
    calibration.write_step_times(OTHER, elsewhere / FILE)
    assert is_known(elsewhere)
    use_times(elsewhere)
    keep_times(elsewhere)
    assert step_times() == OTHER
    use_times(study(tmp_path, "here"))
    assert step_times() == MACHINE


NODE = Node(cpus=4, gpus=1, gpu_memory_mib=8192.0, gpu_names=("T4",))
HELD = Workspaces(cublas_mib=8.0, cudnn_mib=2.0)
FIGURES = GpuFigures(gpu="T4", times=OTHER, workspaces={"float32": HELD})


def test_a_study_keeps_what_a_gpu_of_the_cluster_said_and_the_next_one_asks_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[Node]] = []

    def ask(nodes: list[Node]) -> GpuFigures:
        asked.append(nodes)
        return FIGURES

    monkeypatch.setattr(machine_times, "ask_smallest_gpu", ask)
    folder = study(tmp_path, "new")
    use_times(folder)
    without_gpu = Node(cpus=2)
    assert ask_gpus(folder, [without_gpu]) == [] and asked == []
    assert ask_gpus(folder, [NODE, without_gpu]) == [] and asked == [[NODE]]
    assert step_times(device="cuda") == OTHER and step_times() == MACHINE
    keep_times(folder)
    use_times(study(tmp_path, "next"))
    assert step_times(device="cuda") == MACHINE and known_workspaces() == {}
    use_times(folder)  # resumed
    assert ask_gpus(folder, [NODE]) == [] and len(asked) == 1
    assert step_times(device="cuda") == OTHER and known_workspaces() == {"float32": HELD}


def test_a_study_that_asked_its_own_gpu_goes_on_to_ask_one_operation_by_operation(tmp_path: Path) -> None:
    folder, asks = study(tmp_path, "new"), {"float32": Workspaces(cublas_mib=8.0)}
    use_times(folder)
    use_workspaces(asks)
    keep_times(folder)
    use_times(study(tmp_path, "next"))
    assert known_workspaces() == {}
    use_times(folder)
    assert known_workspaces() == asks


def test_a_gpu_that_does_not_answer_is_told_and_the_study_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(nodes: list[Node]) -> GpuFigures:
        raise ConfigError("the GPU of node 10.0.0.2 does not say how fast it is (GetTimeoutError)")

    monkeypatch.setattr(machine_times, "ask_smallest_gpu", ask)
    folder = study(tmp_path, "new")
    use_times(folder)
    differs, without = ask_gpus(folder, [NODE, dataclasses.replace(NODE, gpu_names=("A10",))])
    assert differs.startswith("GPUs differ (A10, T4)")
    assert without == (
        "the GPU of node 10.0.0.2 does not say how fast it is (GetTimeoutError): slowdowns are those of this "
        "machine's CPU, and predictions count a step's tensors alone."
    )
    keep_times(folder)
    assert not (folder / GPU_FILE).exists()
    # Its trials are compared with each other: no GPU that answers later changes what is predicted.
    monkeypatch.setattr(machine_times, "ask_smallest_gpu", lambda nodes: FIGURES)
    use_times(folder)
    assert ask_gpus(folder, [NODE]) == []
    assert step_times(device="cuda") == step_times() == MACHINE and known_workspaces() == {}


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    folder = study(tmp_path, "damaged")
    calibration.write_step_times(MACHINE, folder / FILE)
    calibration.write_step_times(OTHER, folder / GPU_FILE, {"workspaces": {"float32": {"cublas": 1}}})
    with pytest.raises(ConfigError, match=r"gpu_figures\.json holds no figures of a GPU .*: remove it"):
        use_times(folder)
