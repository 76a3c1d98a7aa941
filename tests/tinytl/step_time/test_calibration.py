"""Where times of steps come from, and where they are kept."""

import dataclasses
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tests.support.cases import small
from tinytl.config.plan import lean_plan
from tinytl.errors import ConfigError
from tinytl.memory.fake_step import FakeStep
from tinytl.step_time import calibration
from tinytl.step_time.calibration import (
    calibrate,
    known_step_times,
    read_step_times,
    step_times,
    use_step_times,
    write_step_times,
)
from tinytl.step_time.kept import FILE_VARIABLE
from tinytl.step_time.operations import LEAN
from tinytl.step_time.step_times import StepTimes

TIMES_OF_GPU = StepTimes(per_kind={"mul": (5e-6, 1e-12, 0.0)})
TIMES = StepTimes(per_kind={"mul": (1e-6, 2e-10, 0.0)}, scale=1.5, per_lean_product=3e-5)


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(calibration, "_KNOWN", {})
    monkeypatch.delenv(FILE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """For how many threads somebody has measured."""
    asked: list[int] = []

    def stand_in(threads: int, device: str = "cpu") -> StepTimes:
        asked.append(threads)
        return TIMES if device == "cpu" else TIMES_OF_GPU

    monkeypatch.setattr(calibration, "calibrate", stand_in)
    return asked


def test_a_machine_is_measured_once_per_number_of_threads(
    measured: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert step_times() is step_times() is TIMES
    assert "measuring once" in caplog.text
    monkeypatch.setattr(calibration, "_KNOWN", {})  # another process
    assert step_times() == TIMES
    assert measured == [1]
    step_times(2)
    assert measured == [1, 2]


@pytest.mark.parametrize("changed", ["about_machine", "FORMAT"])
def test_another_machine_or_another_version_measures_again(
    changed: str, measured: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    step_times()
    monkeypatch.setattr(calibration, "_KNOWN", {})
    other = {
        "FORMAT": calibration.FORMAT + 1,
        "about_machine": lambda threads, device: {"processor": "another", "threads": threads},
    }
    monkeypatch.setattr(calibration, changed, other[changed])
    step_times()
    assert measured == [1, 1]


def test_a_gpu_has_times_of_its_own_and_one_that_is_not_here_those_of_the_cpu(
    measured: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(calibration, "device_name", lambda device: f"{device} of a kind")
    assert step_times(device="cuda") == TIMES
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(calibration, "in_own_process", lambda measure, *args: measure(*args))
    assert step_times(device="cuda") == TIMES_OF_GPU
    assert "how fast this cuda of a kind is" in caplog.text
    assert step_times() == TIMES
    assert known_step_times() == {("cpu", 1): TIMES, ("cuda", 1): TIMES_OF_GPU}
    monkeypatch.setattr(calibration, "_KNOWN", {})  # another process
    assert step_times(device="cuda") == TIMES_OF_GPU and step_times() == TIMES
    assert measured == [1, 1]
    use_step_times(TIMES, device="cuda")  # of a node of the cluster
    assert step_times(device="cuda") == TIMES


def test_a_gpu_that_has_no_room_is_told_and_no_obstacle(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def measure(threads: int, device: str = "cpu") -> StepTimes:
        if device == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")
        return TIMES

    monkeypatch.setattr(calibration, "calibrate", measure)
    monkeypatch.setattr(calibration, "device_name", lambda device: f"{device} of a kind")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(calibration, "in_own_process", lambda function, *args: function(*args))
    assert step_times(device="cuda") == step_times(device="cuda") == TIMES
    assert caplog.text.count("the GPU does not say how fast it is (CUDA out of memory. Tried") == 1


def test_a_place_that_cannot_be_written_is_told_and_no_obstacle(
    measured: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert step_times() == TIMES
    assert "the next program measures again" in caplog.text


def test_a_file_or_a_study_gives_its_own(
    measured: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "deep" / "times.json"
    write_step_times(TIMES, path, {"processor": "a fast one"})
    assert read_step_times(path) == TIMES
    monkeypatch.setenv(FILE_VARIABLE, str(path))
    assert step_times() == TIMES
    other = StepTimes(per_kind={})
    use_step_times(other)
    assert step_times() is other
    assert measured == []


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"per_kind": {"mul": [1, 2]}, "scale": 1, "per_lean_product": 0}', '{"per_kind": 3}'],
)
def test_a_file_of_something_else_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "times.json"
    path.write_text(content)
    with pytest.raises(
        ConfigError, match=r"times\.json holds no times of steps .*: remove it, and they are measured$"
    ):
        read_step_times(path)
    with pytest.raises(ConfigError, match=r"absent\.json: No such file"):
        read_step_times(tmp_path / "absent.json")


@pytest.mark.slow  # a quarter of a minute
def test_this_machine_is_measured_and_nothing_else_changes() -> None:
    torch.manual_seed(3)
    random.seed(3)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    found = calibrate()
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads
    assert 0.5 < found.scale < 2 and found.per_lean_product < 1e-3
    for kind in ("view", "lean view", "mul", "lean mm", "lean depthwise_5x5 forward", "dense forward"):
        assert sum(found.per_kind[kind]) > 0, kind


@pytest.mark.slow  # twenty networks are built
def test_the_steps_of_a_gpu_have_every_kind_of_operation_that_the_others_have() -> None:
    def kinds(steps: Sequence[tuple[str, str, str, int, int, str]]) -> set[str]:
        found: set[str] = set()
        for backbone, method, norm, resolution, batch_size, checkpoint in steps:
            lean = lean_plan(
                small(
                    backbone=backbone, method=method, norm=norm, resolution=resolution, batch_size=batch_size,
                    checkpoint=checkpoint, device="cuda",
                )
            )  # fmt: skip
            for config in (lean, dataclasses.replace(lean, engine="stock", checkpoint="none")):
                found |= FakeStep(config).run(config).work.sums.keys()
        return {kind.removeprefix(LEAN) for kind in found}  # either stands in for the other

    on_gpu = kinds(calibration._STEPS_ON_GPU)
    assert on_gpu == kinds(calibration._STEPS)
    assert len(on_gpu) > 50
