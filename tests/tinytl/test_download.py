import contextlib
import errno
import hashlib
import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.support.file_server import cut, held, serve, whole
from tinytl.download import cached_path, checksum_in_name, download, verify
from tinytl.errors import ConfigError

CONTENT = bytes(range(256)) * 2000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OK = b"HTTP/1.1 200 OK\r\n"


@contextlib.contextmanager
def raw(answer: bytes) -> Iterator[str]:
    """Sends one client these very bytes, and hangs up; gives the URL."""

    def send() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(10_000)
            connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=send)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/w.pt"
        thread.join(30)


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


def _terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    stream = io.StringIO()
    stream.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


def test_progress_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _terminal(monkeypatch)
    with serve({"/w.pt": whole(CONTENT)}) as (url, _):
        download(f"{url}/w.pt", tmp_path / "w.pt")
    assert terminal.getvalue().split("\r")[1:] == [
        "w.pt   26%  0.1 of 0.5 MiB",
        "w.pt   51%  0.2 of 0.5 MiB",
        "w.pt   77%  0.4 of 0.5 MiB",
        "w.pt  100%  0.5 of 0.5 MiB\n",
    ]


def test_a_line_of_progress_ends_if_the_download_breaks_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = _terminal(monkeypatch)
    with serve({"/w.pt": cut(CONTENT, 200_000)}) as (url, _), pytest.raises(ConfigError):
        download(f"{url}/w.pt", tmp_path / "w.pt")
    assert terminal.getvalue() == "\rw.pt   26%  0.1 of 0.5 MiB\n"


def test_ten_lines_of_progress_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    started: list[str] = []
    with serve({"/w.pt": whole(CONTENT * 5)}) as (url, _):
        download(f"{url}/w.pt", tmp_path / "w.pt", report=started.append)
    assert started == [f"fetching {url}/w.pt"]
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "w.pt    5%  0.1 of 2.4 MiB" and lines[-1] == "w.pt  100%  2.4 of 2.4 MiB"
    assert len(lines) == 11


def test_progress_without_a_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _terminal(monkeypatch)
    with raw(OK + b"\r\n" + CONTENT) as url:
        download(url, tmp_path / "w.pt", SHA256)
    assert terminal.getvalue() == "\rw.pt  0.1 MiB\n"


@pytest.mark.parametrize("sent", [0, 1, 200_000, len(CONTENT) - 1])
def test_a_connection_that_ends_early_leaves_nothing(tmp_path: Path, sent: int) -> None:
    with serve({"/w.pt": cut(CONTENT, sent)}) as (url, _), pytest.raises(ConfigError) as caught:
        download(f"{url}/w.pt", tmp_path / "w.pt")
    assert str(caught.value) == (
        f"{url}/w.pt could not be downloaded "
        f"(connection broken: {sent} bytes read, {len(CONTENT) - sent} more expected)"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("checksum", "kind"), [("0" * 8, "SHA-256"), (f"md5:{'0' * 32}", "MD5")])
def test_other_content_than_the_checksum_promises_leaves_nothing(
    tmp_path: Path, checksum: str, kind: str
) -> None:
    digits = checksum.removeprefix("md5:")
    found = (hashlib.md5 if kind == "MD5" else hashlib.sha256)(CONTENT).hexdigest()[: len(digits)]
    with serve({"/w.pt": whole(CONTENT)}) as (url, _), pytest.raises(ConfigError) as caught:
        download(f"{url}/w.pt", tmp_path / "w.pt", checksum)
    assert str(caught.value) == (
        f"{url}/w.pt could not be downloaded: its {kind} begins with {found}, not {digits}"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(b"before")
    with serve({"/w.pt": whole(CONTENT)}) as (url, asked):
        download(f"{url}/w.pt", tmp_path / "w.pt", report=pytest.fail)
    assert asked == []
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"before"]


def test_a_server_is_asked_not_to_compress_and_may_lead_elsewhere(tmp_path: Path) -> None:
    encodings: list[str | None] = []

    def elsewhere(handler: BaseHTTPRequestHandler) -> None:
        encodings.append(handler.headers["Accept-Encoding"])
        handler.send_response(302)
        handler.send_header("Location", "/w.pt")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with serve({"/old.pt": elsewhere, "/w.pt": whole(CONTENT)}) as (url, asked):
        download(f"{url}/old.pt", tmp_path / "w.pt", SHA256[:8])
    assert (asked, encodings) == (["/old.pt", "/w.pt"], ["identity"])
    assert (tmp_path / "w.pt").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "404 Client Error: Not Found"),
        (b"HTTP/1.1 302 F\r\nLocation: ftp://a/\r\n\r\n", "No connection adapters were found for 'ftp://a/'"),
        (
            OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
            "connection broken: 2 bytes read, 3 more expected",
        ),
        (OK + b"Content-Length: x\r\n\r\n", "invalid literal for int() with base 10: 'x'"),
        (b"Hello\r\n", "Hello"),
        (b"", "Remote end closed connection without response"),
    ],
)
def test_what_a_server_answers_is_one_line(tmp_path: Path, answer: bytes, reason: str) -> None:
    with raw(answer) as url, pytest.raises(ConfigError) as caught:
        download(url, tmp_path / "w.pt")
    assert str(caught.value) == f"{url} could not be downloaded ({reason})"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:9/w.pt", "Connection refused"),
        ("http://[", "Failed to parse: '[' is not a valid host or port"),
        ("http://a b/", "Failed to parse: Host 'a b' contains invalid character ' '"),
        ("http://", "Invalid URL 'http://': No host supplied"),
        ("http://a..b/", "label empty"),  # what stands before and behind it differs by Python
    ],
)
def test_a_url_that_leads_nowhere_is_one_line(tmp_path: Path, url: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        download(url, tmp_path / "w.pt")
    assert str(caught.value).startswith(f"{url} could not be downloaded (")
    assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_a_proxy_of_the_environment_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve({"http://a.invalid/w.pt": whole(CONTENT)}) as (proxy, asked):
        monkeypatch.setenv("http_proxy", proxy)
        download("http://a.invalid/w.pt", tmp_path / "w.pt", SHA256)
    assert asked == ["http://a.invalid/w.pt"]
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with pytest.raises(
        ConfigError, match=r"^http://a.invalid/x could not be downloaded \(Connection refused\)$"
    ):
        download("http://a.invalid/x", tmp_path / "x")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    path = tmp_path / "file" / "w.pt"
    with pytest.raises(ConfigError, match=f"^{path} cannot be written"):
        download("http://127.0.0.1:9/w.pt", path)


def test_a_full_disk_is_no_fault_of_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        name = str(tmp_path / "w.pt.part")

        def write(self, content: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tinytl.download.part_of", lambda path: contextlib.nullcontext(Full()))
    with serve({"/w.pt": whole(CONTENT)}) as (url, _), pytest.raises(ConfigError) as caught:
        download(f"{url}/w.pt", tmp_path / "w.pt")
    assert str(caught.value) == f"{tmp_path / 'w.pt'} cannot be written (No space left on device): make room"


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
    with pytest.raises(
        ConfigError,
        match=rf"^{path} is damaged: its SHA-256 begins with \w{{8}}, not {SHA256[:8]}; delete it$",
    ):
        verify(path, SHA256[:8], "; delete it")
    assert path.read_bytes() == CONTENT[:-1]
    with pytest.raises(ConfigError, match="cannot be read"):
        verify(tmp_path, SHA256[:8])
