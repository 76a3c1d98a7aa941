import uuid

import pytest

from tinytl.errors import ConfigError
from tinytl.runs.directory import FolderInUseError
from tuner.bucket.claims import ClaimLostError, is_claim
from tuner.bucket.store import open_bucket
from tuner.trial.trial_folder import TrialFolder, TrialInBucket, borrowed, trial_folder


@pytest.fixture
def address(tmp_path, monkeypatch):
    """The address of a trial in a bucket of this process's memory."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return f"memory://{uuid.uuid4().hex}/runs/s/t-0"


def objects(address: str) -> dict[str, bytes]:
    bucket = open_bucket(address.removesuffix("/s/t-0"))
    return bucket.read_all(key for key in bucket.versions("s") if not is_claim(key))


def test_what_is_kept_is_found_by_the_next_process(address):
    one = TrialInBucket(address)
    with one.claimed(0):
        for name in ("last.pt", "metrics.jsonl", "notes.txt"):
            (one.path / name).write_text(name)
        one.keep(one.path / "last.pt", one.path / "metrics.jsonl")
        assert objects(address) == {"s/t-0/last.pt": b"last.pt", "s/t-0/metrics.jsonl": b"metrics.jsonl"}
    assert not one.path.exists(), "a node does not fill up with the trials that it had"
    other = TrialInBucket(address)
    with other.claimed(0):
        assert {file.name for file in other.path.iterdir()} == {"last.pt", "metrics.jsonl"}
        assert (other.path / "last.pt").read_text() == "last.pt"


def test_a_process_waits_for_the_one_before_it_and_no_longer_than_it_was_told(address):
    one, other = TrialInBucket(address), TrialInBucket(address)
    with one.claimed(0):
        (one.path / "last.pt").write_text("1")
        with pytest.raises(FolderInUseError, match=f"^{address} is being written by another process"):
            with other.claimed(0.5):
                pass
        assert (one.path / "last.pt").read_text() == "1"
    with other.claimed(0):
        pass


def test_a_process_that_was_taken_for_gone_keeps_nothing_more(address):
    one = TrialInBucket(address)
    with one.claimed(0):
        (one.path / "last.pt").write_text("1")
        one.bucket.write("s/t-0/trial.claim/000002", b"{}")
        with pytest.raises(ClaimLostError):
            one._claim.renew()
        with pytest.raises(ConfigError, match="another process has taken over"):
            one.keep(one.path / "last.pt")
        assert objects(address) == {}


def test_a_folder_that_all_see_is_locked_and_kept_as_it_is(tmp_path):
    one = trial_folder(str(tmp_path / "t-0"))
    assert type(one) is TrialFolder
    with one.claimed(0):
        one.keep(one.path / "last.pt")
        with pytest.raises(FolderInUseError), trial_folder(str(tmp_path / "t-0")).claimed(0):
            pass
    assert one.path.is_dir() and not list(one.path.iterdir())
    with borrowed(str(tmp_path / "t-0"), 0) as path:
        assert path == tmp_path / "t-0"


def test_an_address_is_a_copy_of_a_bucket(address, tmp_path):
    assert isinstance(trial_folder("s3://team/runs/s/t-0"), TrialInBucket)


def test_what_was_borrowed_is_kept_at_the_end(server, tmp_path, monkeypatch):
    for name, value in (server.env | {"XDG_CACHE_HOME": str(tmp_path)}).items():
        monkeypatch.setenv(name, value)
    place = f"s3://studies/{uuid.uuid4().hex}/s/confirm/t-0-seed1"
    with borrowed(place, 0) as path:
        (path / "deep").mkdir()
        (path / "deep" / "result.json").write_text("{}")
    with borrowed(place, 0) as path:
        assert (path / "deep" / "result.json").read_text() == "{}"
