"""Files fetched from a real server: whole and right, or not there."""

import dataclasses
import hashlib
import http.server
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from tests.support.cases import small
from tests.support.published_sets import WRITERS
from tinytl.config.train_config import TrainConfig
from tinytl.data.load import check_data_dir, download_dataset, load_dataset
from tinytl.data.sets import NAMED_SETS
from tinytl.data.sets.download import Download
from tinytl.errors import ConfigError

CONTENT = bytes(range(256)) * 20_000  # 5 MB
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith(("/cut/", "/stuck/")):
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT[: len(CONTENT) // 2])
            if self.path.startswith("/stuck/"):
                self.connection.settimeout(20)
                self.rfile.read(1)  # until the client is gone
            self.close_connection = True
        else:
            super().do_GET()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A server's address and its folder; what is under /cut/ breaks off halfway, under /stuck/ it stops."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "set.tgz").write_bytes(CONTENT)
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *args: Handler(*args, directory=str(folder))
    ) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()
        thread.join()


def _download(address: str, path: str = "set.tgz", md5: str | None = None) -> Download:
    return Download(file="set.tgz", url=f"{address}/{path}", md5=md5 or MD5)


def test_a_file_arrives_whole_in_a_new_folder(
    served: tuple[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target, lines = tmp_path / "deep" / "data", []
    _download(served[0]).fetch(target, lines.append)
    assert [path.name for path in target.iterdir()] == ["set.tgz"]
    assert (target / "set.tgz").read_bytes() == CONTENT
    assert lines == [f"fetching {served[0]}/set.tgz"]
    told = capsys.readouterr().err.splitlines()
    assert told[-1] == "set.tgz  100%  4.9 of 4.9 MiB" and 3 <= len(told) <= 11

    _download("http://127.0.0.1:9").fetch(target, pytest.fail)  # it lies there: nobody is asked


@pytest.mark.parametrize(
    ("path", "md5", "message"),
    [
        ("cut/set.tgz", None, "(connection broken: 2560000 bytes read, 2560000 more expected): try again"),
        ("set.tgz", "0" * 32, f"its MD5 begins with {MD5}, not {'0' * 32}: try again"),
        ("other.tgz", None, "could not be downloaded (404 Client Error: File not found): try again"),
    ],
)
def test_what_is_not_right_is_not_kept(
    served: tuple[str, Path], tmp_path: Path, path: str, md5: str | None, message: str
) -> None:
    target = tmp_path / "data"
    with pytest.raises(ConfigError) as caught:
        _download(served[0], path, md5).fetch(target, lambda line: None)
    assert f"{served[0]}/{path}" in str(caught.value) and message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(target.iterdir()) == []
    _download(served[0]).fetch(target, lambda line: None)
    assert (target / "set.tgz").read_bytes() == CONTENT


def test_no_server(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"could not be downloaded \(Connection refused\): try again, or put set.tgz"
    ):
        _download("http://127.0.0.1:9").fetch(tmp_path, lambda line: None)


def test_what_a_killed_download_left_is_begun_anew(served: tuple[str, Path], tmp_path: Path) -> None:
    (tmp_path / "set.tgz.part").write_bytes(b"half of another file" * 500_000)
    _download(served[0]).fetch(tmp_path, lambda line: None)
    assert (tmp_path / "set.tgz").read_bytes() == CONTENT
    assert not (tmp_path / "set.tgz.part").exists()


def test_a_download_that_is_killed_leaves_no_file_of_that_name(
    served: tuple[str, Path], tmp_path: Path
) -> None:
    program = (
        "import pathlib, sys; from tinytl.data.sets.download import Download;"
        "Download(file='set.tgz', url=sys.argv[1], md5='').fetch(pathlib.Path(sys.argv[2]), print)"
    )
    command = [sys.executable, "-c", program, f"{served[0]}/stuck/set.tgz", str(tmp_path / "data")]
    part = tmp_path / "data" / "set.tgz.part"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 30
        while not (part.exists() and part.stat().st_size > 2**20) and time.monotonic() < until:
            time.sleep(0.02)
        process.kill()
    assert [path.name for path in part.parent.iterdir()] == ["set.tgz.part"]
    _download(served[0]).fetch(part.parent, lambda line: None)
    assert [path.name for path in part.parent.iterdir()] == ["set.tgz"]
    assert (part.parent / "set.tgz").read_bytes() == CONTENT


def test_two_at_once_fetch_it_once(served: tuple[str, Path], tmp_path: Path) -> None:
    lines: list[str] = []
    threads = [
        threading.Thread(target=_download(served[0]).fetch, args=(tmp_path / "data", lines.append))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["set.tgz"]
    assert len(lines) == 1


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "cub200", "food101"])
def test_a_set_is_fetched_extracted_and_read(
    served: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    archive = WRITERS[name](served[1])
    md5 = hashlib.md5(archive.read_bytes(), usedforsecurity=False).hexdigest()
    named = NAMED_SETS[name]
    (published,) = named.downloads
    assert published.file == archive.name and published.url.endswith(archive.name)
    local = Download(file=archive.name, url=f"{served[0]}/{archive.name}", md5=md5)
    monkeypatch.setattr("tinytl.data.load.NAMED_SETS", {name: dataclasses.replace(named, downloads=(local,))})
    config = small(dataset=name, data_dir=str(tmp_path / "new"), num_classes=None)
    lines: list[str] = []
    for _ in range(2):
        download_dataset(config, lines.append)
    check_data_dir(config)
    assert len(load_dataset(config).classes) == named.n_classes
    archive.unlink()
    (tmp_path / "new" / archive.name).unlink()
    download_dataset(config, lines.append)  # extracted already
    assert lines == [f"fetching {local.url}"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (small(), "there is nothing to fetch for dataset digits"),
        (small(dataset="imagefolder", data_dir="x"), "there is nothing to fetch for dataset imagefolder"),
        (small(dataset="cub200"), "needs --data-dir, the folder to put CUB-200-2011 in"),
        (small(dataset="cars", data_dir="x"), "Stanford Cars cannot be fetched: its authors' page is gone"),
        (small(dataset="imagenet", data_dir="x"), "ImageNet cannot be fetched: .*https://image-net.org"),
    ],
)
def test_what_cannot_be_fetched(config: TrainConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        download_dataset(config)
    assert not Path("x").exists()


def test_who_waits_for_a_download_that_breaks_off_never_meets_a_half_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaks_off, waits, begun = threading.Event(), threading.Event(), []

    def receive(url: str, out: BinaryIO, progress: object) -> None:
        begun.append(threading.current_thread().name)
        if len(begun) == 1:
            breaks_off.wait(20)
            raise ConfigError("broke off")
        out.write(b"half ")
        out.flush()
        waits.wait(20)
        out.write(b"whole")
        out.flush()

    monkeypatch.setattr("tinytl.download._receive", receive)
    found: dict[str, object] = {}

    def want(name: str) -> None:
        try:
            Download(file="x.tgz", url="http://nowhere", md5="").fetch(tmp_path, lambda line: None)
            found[name] = (tmp_path / "x.tgz").read_bytes()
        except ConfigError as error:
            found[name] = str(error).partition(":")[0]

    def start(name: str) -> threading.Thread:
        thread = threading.Thread(target=want, args=(name,), name=name)
        thread.start()
        return thread

    threads = [start("first")]
    _wait_until(lambda: begun == ["first"])
    threads.append(start("second"))  # waits for the first's lock
    time.sleep(0.2)
    breaks_off.set()
    _wait_until(lambda: begun == ["first", "second"])
    threads.append(start("third"))
    time.sleep(0.2)
    waits.set()
    for thread in threads:
        thread.join(20)
    assert found == {"first": "broke off", "second": b"half whole", "third": b"half whole"}
    assert begun == ["first", "second"]
    assert [path.name for path in tmp_path.iterdir()] == ["x.tgz"]


def _wait_until(happened: Callable[[], bool]) -> None:
    for _ in range(2000):
        if happened():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")
