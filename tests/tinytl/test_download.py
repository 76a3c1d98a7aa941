import hashlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.support.file_server import cut, held, serve, whole
from tinytl.download import cached_path, checksum_in_name, download, verify
from tinytl.errors import ConfigError

CONTENT = bytes(range(256)) * 2000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize(
    ("url", "checksum"),
    [
        ("https://a/mobilenet_v2-7ebf99e0.pth", "7ebf99e0"),
        (f"https://a/b/w-{SHA256}.pt?x=1", SHA256),
        ("https://a/w-7ebf99e.pth", None),
        ("https://a/net-7ebf99e0.d/w.pth", None),
        ("https://a/w.pth", None),
        ("https://a/w-7EBF99E0.pth", None),
        ("https://a", None),
    ],
)
def test_checksum_in_name(url: str, checksum: str | None) -> None:
    assert checksum_in_name(url) == checksum


def test_urls_with_the_same_file_name_are_kept_apart() -> None:
    urls = [
        "http://a/w.pt",
        "http://b/w.pt",
        "http://a/x/w.pt",
        "http://a/w.pt?v=2",
        "http://a/",
        "http://a/%2F..",
    ]
    paths = [cached_path(url, Path("/cache")) for url in urls]
    assert len(set(paths)) == len(urls)
    assert {path.parent for path in paths} == {Path("/cache")}
    assert paths[0].name.endswith("_w.pt")
    assert cached_path(urls[0], Path("/cache")) == paths[0]


def test_a_file_arrives_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "w.pt"
    with serve({"/w.pt": whole(CONTENT)}) as (url, _):
        download(f"{url}/w.pt", path, SHA256[:8])
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]
    assert capsys.readouterr() == ("", "")


def test_progress_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", terminal)
    with serve({"/w.pt": whole(CONTENT)}) as (url, _):
        download(f"{url}/w.pt", tmp_path / "w.pt")
    assert terminal.getvalue().endswith("\rw.pt  100%  0.5 of 0.5 MiB\n")


@pytest.mark.parametrize("sent", [0, 1, 200_000, len(CONTENT) - 1])
def test_a_connection_that_ends_early_leaves_nothing(tmp_path: Path, sent: int) -> None:
    with serve({"/w.pt": cut(CONTENT, sent)}) as (url, _), pytest.raises(ConfigError) as caught:
        download(f"{url}/w.pt", tmp_path / "w.pt")
    assert str(caught.value) == (
        f"{url}/w.pt could not be downloaded (the connection ended after {sent} of {len(CONTENT)} bytes)"
    )
    assert list(tmp_path.iterdir()) == []


def test_other_content_than_the_checksum_promises_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(b"before")
    with serve({"/w.pt": whole(CONTENT[:-1] + b"x")}) as (url, _):
        with pytest.raises(
            ConfigError, match=rf"its SHA-256 begins with \w{{8}}, its name promises {SHA256[:8]}"
        ):
            download(f"{url}/w.pt", path, SHA256[:8])
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_had_is_one_line(tmp_path: Path) -> None:
    with serve({}) as (url, _):
        with pytest.raises(ConfigError, match=r"w.pt could not be downloaded \(HTTP 404 Not Found\)$"):
            download(f"{url}/w.pt", tmp_path / "w.pt")
    for bad in (f"{url}/w.pt", "http://[", "http://a b/", "http://"):
        with pytest.raises(ConfigError, match="could not be downloaded"):
            download(bad, tmp_path / "w.pt")
    (tmp_path / "file").write_bytes(b"")
    with (
        serve({"/w.pt": whole(CONTENT)}) as (url, _),
        pytest.raises(ConfigError, match="could not be downloaded"),
    ):
        download(f"{url}/w.pt", tmp_path / "file" / "w.pt")


def test_a_killed_download_is_never_taken_for_the_file(tmp_path: Path) -> None:
    path, release = tmp_path / "w.pt", threading.Event()
    program = "import sys, pathlib, tinytl.download as d; d.download(sys.argv[1], pathlib.Path(sys.argv[2]))"
    with serve({"/slow.pt": held(CONTENT, 400_000, release), "/w.pt": whole(CONTENT)}) as (url, _):
        process = subprocess.Popen([sys.executable, "-c", program, f"{url}/slow.pt", str(path)])
        deadline = time.monotonic() + 30
        while sum(p.stat().st_size for p in tmp_path.iterdir()) < 100_000 and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        release.set()
        assert len(list(tmp_path.iterdir())) == 1 and not path.exists()
        download(f"{url}/w.pt", path)
    assert path.read_bytes() == CONTENT


def test_verify(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(CONTENT)
    verify(path, SHA256[:8])
    verify(path, SHA256)
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(ConfigError, match=rf"^{path} is damaged: .* promises {SHA256[:8]}; delete it$"):
        verify(path, SHA256[:8], "; delete it")
    assert path.read_bytes() == CONTENT[:-1]
    with pytest.raises(ConfigError, match="cannot be read"):
        verify(tmp_path, SHA256[:8])
