import os
import subprocess
import sys
from pathlib import Path

import pytest

from tinytl.errors import ConfigError
from tinytl.files import try_lock, write_whole, written_whole


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
