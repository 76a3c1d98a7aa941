from pathlib import Path

import pytest

from tinytl.data.sets.under_name import under_name


def test_a_folder_is_found_under_the_name_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("content")
    with under_name(tmp_path / "mine", "theirs") as parent:
        assert [path.name for path in parent.iterdir()] == ["theirs"]
        assert (parent / "theirs" / "file").read_text() == "content"
    assert not parent.exists()
    assert (tmp_path / "mine" / "file").read_text() == "content"


def test_a_relative_folder_is_meant_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    with under_name(Path("mine"), "theirs") as parent:
        assert (parent / "theirs").samefile(tmp_path / "mine")


def test_the_link_is_gone_after_a_failure_too(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unreadable"), under_name(tmp_path, "theirs") as parent:
        raise ValueError("unreadable")
    assert not parent.exists()
    assert tmp_path.is_dir()
