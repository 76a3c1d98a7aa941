import subprocess
import sys

import pytest

from tinytl.streams import use_patient_streams

USE = "import sys; from tinytl.streams import use_patient_streams; use_patient_streams();"


def bash(command: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, timeout=60, env=env
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_leaves_ends_nothing(unbuffered: str) -> None:
    script = (
        f"{USE} print('line\\n' * 100_000, flush=True); print('more'); print('to the end', file=sys.stderr)"
    )
    done = bash(f'{sys.executable} -c "{script}" | head -1', PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"line\n", b"to the end\n")


def test_both_streams_may_lose_their_reader() -> None:
    script = f"{USE} print('line\\n' * 100_000); print('x' * 10**6, file=sys.stderr); sys.exit(3)"
    done = bash(f'{sys.executable} -c "{script}" 2>&1 | head -1')
    assert (done.returncode, done.stdout) == (3, b"line\n")


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-"])
def test_closed_streams_swallow_what_is_written(closed: str) -> None:
    done = bash(f'{sys.executable} -c "{USE} print(1, flush=True); print(2, file=sys.stderr)" {closed}')
    assert (done.returncode, done.stdout) == (0, b"")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_text_can_be_written(encoding: str) -> None:
    script = f"{USE} print('a \\u00e9 \\u2026 \\udce9')"
    done = bash(f'{sys.executable} -c "{script}"', PYTHONIOENCODING=encoding)
    text = {"ascii": b"a \\xe9 \\u2026 \\udce9\n", "latin-1": b"a \xe9 \\u2026 \\udce9\n"}
    assert done.stdout == text.get(encoding, "a é … \\udce9\n".encode()) and done.returncode == 0


def test_streams_that_something_else_put_there_are_left_alone() -> None:
    before = sys.stdout, sys.stderr  # pytest's
    use_patient_streams()
    assert (sys.stdout, sys.stderr) == before
