from pathlib import Path

import pytest

from tinytl.data_checks.findings import Finding
from tinytl.data_checks.kept import FOLDER, KeptCheck, keep_check, kept_check

DARK = Finding(kind="dark", split="val", label="a", file="l\udcfc.png", number=3.5, reason="it is dark")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "tinytl"


def _check(*findings: Finding, labels: bool = False) -> KeptCheck:
    return KeptCheck(account="pictures: 3 images", findings=list(findings), labels=labels)


def test_a_check_is_found_by_the_digest_of_its_pictures(cache: Path) -> None:
    assert kept_check("0a") is None
    keep_check(_check(DARK), "0a", 3)
    assert kept_check("0a") == _check(DARK) and kept_check("0b") is None
    keep_check(_check(), "0a", 3)
    assert kept_check("0a") == _check()


def test_one_that_looked_at_labels_comes_first(cache: Path) -> None:
    keep_check(_check(DARK, labels=True), "0a", 3)
    keep_check(_check(), "0a", 3)
    assert kept_check("0a") == _check(DARK, labels=True)


@pytest.mark.parametrize("content", ["", "{}", '{"data": "x", "findings": [{"kind": "odd"}]}', "[]"])
def test_a_damaged_file_counts_as_none(cache: Path, content: str) -> None:
    keep_check(_check(), "0a", 3)
    (cache / FOLDER / "0a.json").write_text(content)
    assert kept_check("0a") is None


def test_without_a_place_to_write_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    keep_check(_check(), "0a", 3)
    assert kept_check("0a") is None
