"""A study keeps the times with which it began, and each study uses its own."""

from pathlib import Path

import pytest

from tinytl.step_time import calibration
from tinytl.step_time.calibration import step_times
from tinytl.step_time.kept import FILE_VARIABLE
from tinytl.step_time.step_times import StepTimes
from tuner.study.machine_times import FILE, is_known, keep_times, use_times

MACHINE = StepTimes(per_kind={"mul": (1e-6, 2e-10, 0.0)})
OTHER = StepTimes(per_kind={"mul": (3e-6, 1e-10, 0.0)})


@pytest.fixture(autouse=True)
def fresh_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(calibration, "_KNOWN", {})
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
