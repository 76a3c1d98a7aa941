import os
import pwd
from pathlib import Path

import pytest

from tinytl.errors import ConfigError
from tuner.bucket.claims import ClaimLostError, claimed
from tuner.bucket.copies import (
    READ,
    at_hand,
    bring_checkpoints,
    bring_study,
    copy_at,
    copy_of,
    drivers_copy,
    named,
    remove_from_bucket,
    send,
    studies_in,
)


@pytest.fixture
def copy(bucket):
    for key in (
        "s/study.json",
        "s/t-0/metrics.jsonl",
        "s/t-0/last.pt",
        "s/export/t-0/weights.pt",
        "r/study.json",
    ):
        bucket.write(key, key.encode())
    bucket.write("s/driver.claim/000001", b"{}")
    bucket.write("mlartifacts/run/artifacts/a", b"")
    return copy_at(bucket.address, READ)


def files(copy) -> set[str]:
    found = (path.relative_to(copy.root).as_posix() for path in copy.root.rglob("*") if path.is_file())
    return {name for name in found if not name.startswith(".")}


def test_a_study_is_brought_without_what_is_large(copy):
    bring_study(copy, "s")
    assert files(copy) == {"s/study.json", "s/t-0/metrics.jsonl"}
    assert (copy.root / "s" / "study.json").read_text() == "s/study.json"
    bring_checkpoints(copy.root / "s" / "t-0")
    assert (copy.root / "s/t-0/last.pt").read_text() == "s/t-0/last.pt"


def test_only_what_has_changed_is_brought_again(copy):
    bring_study(copy, "s")
    study, metrics = copy.root / "s/study.json", copy.root / "s/t-0/metrics.jsonl"
    os.utime(study, (0, 0))
    copy.bucket.write("s/t-0/metrics.jsonl", b"more")
    bring_study(copy, "s")
    assert metrics.read_text() == "more" and study.stat().st_mtime == 0
    metrics.unlink()
    bring_study(copy, "s")
    assert metrics.read_text() == "more"


def test_what_is_gone_from_the_bucket_is_gone_here(copy):
    bring_study(copy, "s")
    (copy.root / "s" / "report.html").touch()  # made here
    copy.bucket.remove(["s/t-0/metrics.jsonl", "s/t-0/last.pt"])
    bring_study(copy, "s")
    assert files(copy) == {"s/study.json", "s/report.html"}
    assert not (copy.root / "s" / "t-0").exists()


@pytest.mark.parametrize("every", [False, True], ids=["named", "every"])
def test_of_a_study_that_is_gone_nothing_stays_that_was_made_here(copy, every):
    at_hand(str(copy.root), "s")
    at_hand(str(copy.root), every=True)
    bring_checkpoints(copy.root / "s" / "t-0")
    (copy.root / "s" / "what_decides.json").touch()
    (copy.root / "mlartifacts").mkdir()
    copy.bucket.remove(key for key in copy.bucket.versions("s") if ".claim/" not in key)
    at_hand(str(copy.root), None if every else "s", every=every)
    assert not (copy.root / "s").exists() and files(copy) == {"r/study.json"}
    assert (copy.root / "mlartifacts").is_dir()
    copy.bucket.write("s/study.json", b"s/study.json")  # another study of that name
    at_hand(str(copy.root), "s")
    assert files(copy) == {"r/study.json", "s/study.json"}


def test_only_a_study_of_the_copy_is_removed_whatever_name_is_asked_for(copy, tmp_path):
    at_hand(str(copy.root), every=True)
    mine = tmp_path / "mine"
    mine.mkdir()
    for name in (str(mine), "..", ".", "../read", ""):
        at_hand(str(copy.root), name)
    assert files(copy) >= {"s/study.json", "r/study.json"} and mine.is_dir()


def test_below_a_driver_no_study_is_removed(bucket):
    with claimed(bucket, "s/driver") as claim:
        copy = drivers_copy(bucket, "s", claim)
        (copy.root / "s").mkdir()
        (copy.root / "s" / "study.json").touch()  # not sent yet
        at_hand(str(copy.root), "s", every=True)
    assert files(copy) == {"s/study.json"}


def test_each_driver_has_a_copy_of_its_own_and_removes_those_before_it(bucket):
    with claimed(bucket, "s/driver") as claim, claimed(bucket, "s-0123abcd/driver") as another:
        first, others = drivers_copy(bucket, "s", claim), drivers_copy(bucket, "s-0123abcd", another)
        read = copy_at(bucket.address, READ)
    (first.root / "s").mkdir()
    with claimed(bucket, "s/driver") as claim:
        second = drivers_copy(bucket, "s", claim)
        assert second.root != first.root and not list(second.root.iterdir())
        assert not first.root.exists() and others.root.is_dir() and read.root.is_dir()
        bucket.write("s/driver.claim/000003", b"{}")
        with pytest.raises(ClaimLostError):
            claim.renew()
        third = copy_at(bucket.address, "drive-s-00000000")
        with pytest.raises(ClaimLostError):
            drivers_copy(bucket, "s", claim)
        assert third.root.is_dir(), "the one who took over works there"


def test_a_part_of_a_study_is_brought(copy):
    bring_study(copy, "s", wanted=lambda key: key.endswith(".jsonl"))
    assert files(copy) == {"s/t-0/metrics.jsonl"}
    bring_study(copy, "r", deep=False)
    assert files(copy) == {"s/t-0/metrics.jsonl", "r/study.json"}


def test_studies_are_told_from_mlflows_folders(copy):
    assert studies_in(copy.bucket) == ["r", "s"]


def test_paths_are_named_by_their_addresses_and_back(copy):
    address = copy.bucket.address
    assert named(copy.root) == address
    assert named(copy.root / "s" / "t-0") == f"{address}/s/t-0"
    found = copy_of(copy.root / "s" / "t-0")
    assert found is not None and found.root == copy.root and found.bucket.address == address
    assert found.key_of(copy.root / "s") == "s" and found.path_of("s") == copy.root / "s"


def test_a_folder_that_is_no_copy_is_left_alone(tmp_path):
    (tmp_path / "s").mkdir()
    for act in (bring_checkpoints, send, lambda path: remove_from_bucket(path, last="study.json")):
        act(tmp_path / "s")
    assert named(tmp_path) == str(tmp_path) and named("runs") == "runs"
    assert copy_of(tmp_path) is None and at_hand(str(tmp_path), "s") == str(tmp_path)
    assert at_hand(f"file://{tmp_path}") == str(tmp_path)
    assert list(tmp_path.rglob("*")) == [tmp_path / "s"]


def test_without_a_home_folder_there_are_no_copies(bucket, tmp_path, monkeypatch):
    def unknown(uid):
        raise KeyError(uid)

    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert named(tmp_path) == str(tmp_path) and copy_of(tmp_path) is None
    assert at_hand(str(tmp_path), "s") == str(tmp_path)
    with pytest.raises(ConfigError) as caught:
        copy_at(bucket.address, READ)
    assert str(caught.value) == (
        f"--runs-dir {bucket.address}: this user has no home folder for local copies: set XDG_CACHE_HOME to "
        "a folder"
    )


def test_a_study_is_at_hand_in_its_copy(copy):
    assert at_hand(str(copy.root), "s") == str(copy.root)
    assert "s/t-0/metrics.jsonl" in files(copy) and "r/study.json" not in files(copy)
    at_hand(str(copy.root), every=True)
    assert "r/study.json" in files(copy)


def test_files_are_sent_to_where_they_belong(copy):
    made = copy.root / "s" / "export" / "t-1"
    made.mkdir(parents=True)
    (made / "model.onnx").write_bytes(b"onnx")
    send(made)
    assert copy.bucket.read("s/export/t-1/model.onnx") == b"onnx"


def test_a_study_is_removed_with_the_claims_of_its_trials_its_file_last(copy, monkeypatch):
    removed = []
    copy.bucket.write("s/t-0/trial.claim/000001", b"{}")
    remove = copy.bucket.files.rm_file
    monkeypatch.setattr(copy.bucket.files, "rm_file", lambda path: (removed.append(path), remove(path)))
    remove_from_bucket(copy.root / "s", last="study.json")
    assert list(copy.bucket.versions("s")) == ["s/driver.claim/000001"], "the one who removes it holds it"
    assert Path(removed[-1]).name == "study.json"


def test_a_bucket_that_refuses_is_named_and_not_the_copy(copy, monkeypatch):
    def refuse(*args, **named):
        raise PermissionError("AccessDenied")

    monkeypatch.setattr(copy.bucket.files, "find", refuse)
    with pytest.raises(ConfigError, match=f"^--runs-dir {copy.bucket.address}: .*access is denied"):
        at_hand(str(copy.root), "s")
    with pytest.raises(ConfigError, match=f"^--runs-dir {copy.bucket.address}: .*access is denied"):
        bring_checkpoints(copy.root / "s" / "t-0")


def test_a_cache_that_was_half_removed_is_one_line(copy):
    (copy.root.parent / "address").unlink()
    with pytest.raises(ConfigError, match=f"is gone: remove {copy.root.parent} and do this again"):
        copy_of(copy.root)
