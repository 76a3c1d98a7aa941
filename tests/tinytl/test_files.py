import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tinytl import files
from tinytl.errors import ConfigError
from tinytl.files import (
    cache_folder,
    disk_is_full,
    full_disk_line,
    lock,
    new_name_beside,
    try_lock,
    write_whole,
    written_whole,
)


def test_what_is_written_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_whole(path, "old")
    with pytest.raises(OSError, match="disk full"), written_whole(path) as out:
        out.write(b"half of the new")
        raise OSError("disk full")
    assert path.read_text() == "old"
    write_whole(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "a.txt.part").write_text("much more than what is written now")
    write_whole(tmp_path / "a.txt", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "new"


def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "none" / "a.txt"
    with pytest.raises(ConfigError, match=rf"^{path} cannot be written \(No such file or directory\)$"):
        write_whole(path, "text")


@pytest.mark.parametrize(("shared", "second_gets_it"), [(False, False), (True, True)])
def test_a_lock_keeps_others_out_and_ends_with_its_process(
    tmp_path: Path, shared: bool, second_gets_it: bool
) -> None:
    path = tmp_path / "lock"
    path.touch()
    program = (
        "import sys; from tinytl.files import try_lock; f = open(sys.argv[1])\n"
        f"print(try_lock(f, shared={shared}), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "True\n"
        with path.open() as mine:
            assert try_lock(mine, shared=shared) is second_gets_it
        process.kill()
    folder = os.open(tmp_path, os.O_RDONLY)
    with path.open() as mine:
        assert try_lock(mine) and try_lock(folder)
    os.close(folder)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.fcntl, "flock", refuses)
    path = tmp_path / "lock"
    with path.open("w") as file:
        for call in (try_lock, lock):
            with pytest.raises(ConfigError, match=f"^{path} cannot be locked .* another file system$"):
                call(file)  # type: ignore[operator]


def _raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "x"), True),
        (OSError(errno.EDQUOT, "x"), True),
        (_raised(RuntimeError("x"), OSError(errno.ENOSPC, "x")), True),
        (_raised(RuntimeError("x"), ValueError("database or disk is full")), True),
        (OSError(errno.EIO, "x"), False),
        (MemoryError("no space"), False),
    ],
)
def test_a_full_disk_is_known_in_what_it_led_to(error: BaseException, full: bool) -> None:
    assert disk_is_full(error) is full


def test_a_full_disk_is_one_line_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(ConfigError, match=r"a.txt cannot be written \(No space left on device\): make room$"):
        write_whole(tmp_path / "a.txt", "text")
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/a")
    assert full_disk_line(error) == "no space is left on a disk (runs/a): make room, then do this again"


def test_what_killed_processes_left_unfinished_is_removed_in_time(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    first, folder, fresh = (new_name_beside(path) for _ in range(3))
    assert len({first, folder, fresh}) == 3
    for file in (first, fresh, Path(f"{first}-journal"), tmp_path / "mlflow.db", tmp_path / ".mlflow.db.old"):
        file.touch()
    (folder / "inside").mkdir(parents=True)
    for old in (first, folder, Path(f"{first}-journal"), tmp_path / "mlflow.db", tmp_path / ".mlflow.db.old"):
        os.utime(old, (0, 0))
    new_name_beside(path)
    assert {file.name for file in tmp_path.iterdir()} == {fresh.name, "mlflow.db", ".mlflow.db.old"}


def test_the_cache_is_where_the_system_has_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_folder() == Path("/caches/tinytl")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_folder() == Path("/home/me/.cache/tinytl")
