"""What was measured is kept; a place that cannot be written is told, and no obstacle."""

import errno
import json
import os
from pathlib import Path

import pytest

from tinytl.step_time.kept import FILE_VARIABLE, STEP_TIMES, keep, kept_file, times_are_kept

ABOUT = {"processor": "a fast one", "threads": 1}


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.delenv(FILE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tinytl"


def test_each_machine_has_a_file_of_its_own(cache: Path) -> None:
    path = kept_file(STEP_TIMES, ABOUT)
    keep(path, {"seconds": 2})
    assert json.loads(path.read_text()) == {"seconds": 2} and path.parent == cache
    assert kept_file(STEP_TIMES, ABOUT | {"threads": 2}) != path
    assert kept_file("fastest_format", ABOUT) != path


def test_times_are_kept_if_somebody_measured_or_named_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    keep(kept_file("fastest_format", ABOUT), {})
    assert not times_are_kept()
    monkeypatch.setenv(FILE_VARIABLE, "times.json")
    assert times_are_kept()
    monkeypatch.delenv(FILE_VARIABLE)
    keep(kept_file(STEP_TIMES, ABOUT), {})
    assert times_are_kept()


def test_a_folder_that_cannot_be_made_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    keep(kept_file(STEP_TIMES, ABOUT), {})
    assert "the next program measures again" in caplog.text


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOSPC, errno.EROFS])
def test_a_file_that_cannot_be_written_is_told(
    number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("os.replace", refuse)
    monkeypatch.setattr("pathlib.Path.replace", refuse)
    monkeypatch.setattr("os.rename", refuse)
    path = kept_file(STEP_TIMES, ABOUT)
    keep(path, {})
    assert f"{path} cannot be written" in caplog.text and "the next program measures again" in caplog.text
    assert not path.exists()
