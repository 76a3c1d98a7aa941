import gzip
import multiprocessing
import subprocess
import sys
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from tests.support.published_sets import write_tar
from tinytl.data.sets.archive import extract, open_tar
from tinytl.errors import ConfigError

MEMBERS = {f"set/{i}.txt": b"x" * 700 for i in range(40)}


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["set.tgz", "set.tar"])
def test_the_folder_in_the_archive_lies_beside_it(tmp_path: Path, name: str) -> None:
    archive, lines = write_tar(tmp_path / name, MEMBERS | {"readme": b"beside"}), []
    extract(archive, tmp_path / "set", lines.append)
    assert _names(tmp_path) == {name, "set"}
    assert len(_names(tmp_path / "set")) == 40
    extract(archive, tmp_path / "set", pytest.fail)
    assert lines == [f"extracting {archive}"]


@pytest.mark.parametrize("name", ["set.tgz", "set.tar"])
@pytest.mark.parametrize("keep", [0, 1, 100, 512, 2000])
def test_cut_archives(tmp_path: Path, name: str, keep: int) -> None:
    archive = write_tar(tmp_path / name, MEMBERS)
    content = archive.read_bytes()
    archive.write_bytes(content[: min(keep, len(content) // 2)])
    with pytest.raises(ConfigError, match=f"^{archive} is cut off or damaged .*: get it again$"):
        extract(archive, tmp_path / "set", lambda line: None)
    assert _names(tmp_path) == {name}


@pytest.mark.parametrize("packed", [False, True])
def test_an_archive_cut_between_members_is_cut(tmp_path: Path, packed: bool) -> None:
    archive = write_tar(tmp_path / "set.tar", MEMBERS)
    content = archive.read_bytes()[: 512 * 3 * 10]
    # Each member is a header and two blocks; Python's reader takes this for ten members.
    archive.write_bytes(gzip.compress(content)[:-8] if packed else content)
    with pytest.raises(ConfigError, match="is cut off or damaged"):
        extract(archive, tmp_path / "set", lambda line: None)
    assert _names(tmp_path) == {"set.tar"}


def test_a_wrong_checksum_of_gzip_is_found(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "set.tgz", MEMBERS)
    content = bytearray(archive.read_bytes())
    content[-8] ^= 1
    archive.write_bytes(content)
    with pytest.raises(OSError, match="CRC"), open_tar(archive) as tar:
        assert len(tar.getmembers()) == 40


def test_members_stay_inside(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "data" / "set.tgz", MEMBERS | {"../outside.txt": b"x"})
    with pytest.raises(ConfigError, match=r"is cut off or damaged .*outside"):
        extract(archive, archive.with_name("set"), lambda line: None)
    assert _names(tmp_path) == {"data"} and _names(archive.parent) == {"set.tgz"}


def test_another_archive_of_that_name(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "set.tgz", {"other/1.txt": b"x"})
    with pytest.raises(ConfigError, match=f"^{archive} holds no folder set: get it again$"):
        extract(archive, tmp_path / "set", lambda line: None)
    assert _names(tmp_path) == {"set.tgz"}


def test_an_extraction_that_is_killed_leaves_nothing_that_is_used(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "set.tgz", MEMBERS)
    program = (
        "import os, pathlib, sys, time\n"
        "from tinytl.data.sets.archive import extraction\n"
        "with extraction(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), print) as partial:\n"
        "    (partial / 'set').mkdir(); (partial / 'set' / 'half.txt').touch(); time.sleep(60)"
    )
    left = tmp_path / "set.partial" / "set" / "half.txt"
    command = [sys.executable, "-c", program, str(archive), str(tmp_path / "set")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        until = time.monotonic() + 30
        while not left.exists() and time.monotonic() < until:
            time.sleep(0.02)
        process.kill()
    assert left.exists() and not (tmp_path / "set").exists()
    extract(archive, tmp_path / "set", lambda line: None)
    assert _names(tmp_path) == {"set.tgz", "set"} and len(_names(tmp_path / "set")) == 40


def _extract_slowly(archive: Path, lines: Path, both: Barrier) -> None:
    def report(line: str) -> None:
        with lines.open("a") as file:
            file.write(line + "\n")
        time.sleep(0.3)

    both.wait(30)
    extract(archive, archive.with_name("set"), report)


def test_two_processes_extract_once(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "data" / "set.tgz", MEMBERS)
    context = multiprocessing.get_context("spawn")
    args = (archive, tmp_path / "lines", context.Barrier(2))
    processes = [context.Process(target=_extract_slowly, args=args) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert (tmp_path / "lines").read_text().count("extracting") == 1
    assert len(_names(tmp_path / "data" / "set")) == 40


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "set.tgz", MEMBERS)
    (tmp_path / "set.partial").write_text("somebody's file")
    with pytest.raises(ConfigError, match="cannot be extracted beside itself"):
        extract(archive, tmp_path / "set", lambda line: None)
    assert _names(tmp_path) == {"set.tgz", "set.partial"}
