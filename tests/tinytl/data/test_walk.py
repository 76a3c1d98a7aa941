import errno
import os
from pathlib import Path

import pytest
from PIL import Image

from tinytl.data.walk import LeftOut, is_hidden, picture_endings, pictures_under
from tinytl.errors import ConfigError


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def names(folder: Path, left_out: LeftOut) -> list[str]:
    return [str(path.relative_to(folder)) for path in pictures_under(folder, left_out)]


def test_endings_are_those_that_this_pillow_opens() -> None:
    assert {".jpg", ".jpeg", ".png", ".gif", ".webp", ".tif", ".tiff", ".bmp", ".jfif"} <= picture_endings()
    opened = {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    assert picture_endings() <= opened
    # Known by their first bytes, or read by programs that Pillow does not bring.
    assert not {".mpg", ".pdf", ".h5", ".grib", ".txt", ".csv"} & picture_endings()


@pytest.mark.parametrize("name", [".DS_Store", "._x.jpg", ".ipynb_checkpoints", "__MACOSX", "Thumbs.db"])
def test_names_that_systems_make_are_hidden(name: str) -> None:
    assert is_hidden(name)


def test_pictures_are_found_at_any_depth_and_in_order_and_the_rest_is_counted(tmp_path: Path) -> None:
    touch(*(tmp_path / name for name in ("b.JPG", "a/2.png", "a/1.gif", "a/b/3.webp", "c.txt", "d", "e.txt")))
    touch(tmp_path / ".hidden" / "f.jpg", tmp_path / "a" / "._1.gif")
    left_out = LeftOut()
    assert names(tmp_path, left_out) == ["a/1.gif", "a/2.png", "a/b/3.webp", "b.JPG"]
    assert str(left_out) == "2 hidden, 2 of ending .txt, 1 without an ending"
    assert left_out.has_files


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere" / "1.png", tmp_path / "here" / "0.png", tmp_path / "2.png")
    (tmp_path / "here" / "folder").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "here" / "file.png").symlink_to(tmp_path / "2.png")
    (tmp_path / "here" / "loop").symlink_to(tmp_path / "here")
    (tmp_path / "here" / "nowhere.png").symlink_to(tmp_path / "gone.png")
    left_out = LeftOut()
    assert names(tmp_path / "here", left_out) == ["0.png", "file.png", "folder/1.png"]
    assert str(left_out) == "1 that lead nowhere, 1 that lead back to a folder above"


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    left_out = LeftOut()
    assert names(tmp_path, left_out) == [] and str(left_out) == "1 that are no files"


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:  # root may read every folder
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    (tmp_path / "locked").mkdir()
    with pytest.raises(ConfigError, match=r"locked: cannot be read \(Permission denied\): change its mode"):
        pictures_under(tmp_path / "locked", LeftOut())


def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone: cannot be read \(No such file or directory\)"):
        pictures_under(tmp_path / "gone", LeftOut())
