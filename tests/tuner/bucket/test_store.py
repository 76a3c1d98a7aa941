import dataclasses
import errno
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.places import ROOT
from tests.support.s3_server import BUCKET
from tests.support.studies import free_port
from tinytl.errors import ConfigError
from tuner.bucket.store import BucketError, open_bucket, told


@pytest.fixture
def in_s3(server, monkeypatch):
    """Opens an address on the server, with variables of one's own."""

    def opened(address: str = f"s3://{BUCKET}/runs", env: dict[str, str] | None = None):
        for name, value in (server.env | (env or {})).items():
            monkeypatch.setenv(name, value)
        return open_bucket.__wrapped__(address)

    return opened


@pytest.fixture(params=["memory", "s3"])
def any_bucket(request, bucket, in_s3):
    return bucket if request.param == "memory" else in_s3(f"s3://{BUCKET}/{time.monotonic_ns()}")


def test_objects_are_written_read_listed_and_removed(any_bucket):
    one = any_bucket
    assert one.read("s/a") is None and one.versions("s") == {} and one.folders() == []
    one.write("s/a", b"1")
    one.write("s/t/b", b"22")
    assert one.read_all(["s/a", "s/t/b", "s/c"]) == {"s/a": b"1", "s/t/b": b"22"}
    assert one.versions("s").keys() == {"s/a", "s/t/b"}
    assert one.versions("s", deep=False).keys() == {"s/a"}
    assert one.folders() == ["s"]
    before = one.versions("s")
    one.write("s/a", b"3")
    after = one.versions("s")
    assert after["s/a"] != before["s/a"] and after["s/t/b"] == before["s/t/b"]
    one.remove(["s/a", "s/missing", "s/t/b"])
    assert one.versions("s") == {}
    assert one.named("s/a") == f"{one.address}/s/a" and one.named("") == one.address


def test_of_many_that_make_an_object_one_does(any_bucket):
    start, made = threading.Barrier(8), []

    def make(content: bytes) -> None:
        start.wait()
        if any_bucket.create("claim", content):
            made.append(content)

    threads = [threading.Thread(target=make, args=[b"%d" % i]) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [any_bucket.read("claim")] == made
    assert any_bucket.create("claim", made[0]), "the answer to its first call may have been lost"


def test_times_are_those_of_the_bucket(any_bucket):
    any_bucket.write("a", b"")
    assert any_bucket.written_at("missing") is None
    assert abs(any_bucket.now("s") - any_bucket.written_at("a")) < timedelta(seconds=30)
    assert abs(any_bucket.now("s") - datetime.now(UTC)) < timedelta(seconds=30)
    assert any_bucket.versions("s") == {}


def refusal(bucket) -> str:
    with pytest.raises(ConfigError) as caught:
        bucket.check_writable()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_bucket_that_can_be_used_keeps_nothing_of_the_check(in_s3, server):
    in_s3().check_writable()
    assert not [key for key in server.keys() if "probe" in key]


def test_a_server_on_which_claims_would_not_hold_is_one_line(bucket, monkeypatch):
    write = bucket.files.pipe_file
    monkeypatch.setattr(bucket.files, "pipe_file", lambda path, content, mode="": write(path, content))
    assert refusal(bucket).endswith(
        "two processes could make the same object: use a server that knows the condition If-None-Match"
    )
    assert bucket.versions("") == {}


def test_a_bucket_that_is_not_there_is_one_line(in_s3):
    bucket = in_s3("s3://nobody-has-this/runs")
    expected = "there is no bucket nobody-has-this: make it, or name another"
    assert refusal(bucket) == f"--runs-dir s3://nobody-has-this/runs: {expected}"
    for call in (lambda: bucket.read("a"), lambda: bucket.versions("a"), bucket.folders):
        with pytest.raises(BucketError, match="there is no bucket"):
            call()


def test_no_credentials_are_one_line(in_s3, monkeypatch):
    bucket = in_s3()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    expected = "there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    assert refusal(bucket).endswith(expected)


def test_credentials_that_are_refused_are_one_line_without_them(in_s3, server):
    with server.checking_access("s3:*"):
        said = refusal(in_s3(env={"AWS_ACCESS_KEY_ID": "AKIAUNKNOWN", "AWS_SECRET_ACCESS_KEY": "geheim"}))
    assert "the credentials are refused (InvalidAccessKeyId): set AWS_ACCESS_KEY_ID" in said
    assert "geheim" not in said and "AKIAUNKNOWN" not in said


def test_a_user_who_may_only_read_is_told_so(in_s3, server):
    with server.checking_access("s3:GetObject", "s3:ListBucket") as reader:
        bucket = in_s3(env=reader)
        assert bucket.read("a") is None and bucket.versions("a") == {}
        said = refusal(bucket)
    assert "access is denied: allow reading, writing, listing and removing there" in said


def test_a_server_that_does_not_answer_is_one_line(in_s3):
    bucket = in_s3(env={"AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"})
    with pytest.raises(BucketError, match="the bucket does not answer") as caught:
        bucket.write("a", b"1")
    assert caught.value.away
    assert "the bucket does not answer" in refusal(bucket)


class Busy:
    """The files of a bucket whose server is busy for the first calls."""

    def __init__(self, files, calls: int) -> None:
        self.files = files
        self.calls = calls

    def pipe_file(self, *args: object) -> None:
        self.calls -= 1
        if self.calls >= 0:
            raise OSError(errno.EBUSY, "Please reduce your request rate")
        self.files.pipe_file(*args)


def test_a_busy_server_is_tried_again_for_a_while(bucket):
    busy = dataclasses.replace(bucket, files=Busy(bucket.files, 2), patience_s=30.0)
    busy.write("a", b"1")
    assert bucket.read("a") == b"1"
    busy = dataclasses.replace(bucket, files=Busy(bucket.files, 9), patience_s=0.5)
    with pytest.raises(BucketError, match=r"does not answer .*reduce your request rate"):
        busy.write("a", b"2")
    assert bucket.read("a") == b"1"


def test_a_missing_package_names_the_extra(tmp_path):
    (tmp_path / "s3fs.py").write_text("raise ModuleNotFoundError('No module named s3fs', name='s3fs')\n")
    look = "from tuner.bucket.store import open_bucket; open_bucket('s3://team/runs')"
    done = subprocess.run(
        [sys.executable, "-c", look],
        cwd=ROOT,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    last = done.stderr.strip().splitlines()[-1]
    assert last.endswith("--runs-dir s3:// needs the package s3fs: pip install 'tinytl-tuner[s3]'")


def test_what_went_wrong_is_told_after_what_was_done():
    with pytest.raises(ConfigError, match=r"^here: it broke: mend it$"), told("here"):
        raise BucketError("it broke", remedy="mend it")
