from pathlib import Path

import numpy as np
import pytest

from tinytl.data_checks import page
from tinytl.data_checks.findings import Finding
from tinytl.data_checks.page import write_page
from tinytl.data_checks.thumbnails import thumbnail

JPEG = thumbnail(np.full((8, 8, 3), 200, np.uint8))


def _leak(name: str) -> Finding:
    return Finding(
        kind="leak",
        split="train",
        label="<b>",
        file=name,
        compared_with="val/x.png",
        number=0,
        reason="the same",
    )


def _page(tmp_path: Path, findings: list[Finding], make=lambda file: JPEG) -> str:
    write_page("pets & co: 3 images", findings, make, tmp_path / "p.html")
    return (tmp_path / "p.html").read_text()


def test_both_pictures_stand_beside_the_name_and_nothing_is_loaded(tmp_path: Path) -> None:
    asked: list[str] = []
    text = _page(tmp_path, [_leak("train/a.png")], lambda file: asked.append(file) or JPEG)
    assert asked == ["train/a.png", "val/x.png"]
    assert text.count('src="data:image/jpeg;base64,') == 2 and "<code>train/a.png</code>" in text
    assert "http" not in text and "<script" not in text and "pets &amp; co" in text


def test_names_are_text(tmp_path: Path) -> None:
    text = _page(tmp_path, [_leak("<img src=x>\udcfc\n.png")])
    assert "<img src=x>" not in text and "&lt;img src=x&gt;\\xfc\\n.png" in text
    assert "&lt;b&gt;: the same" in text


def test_a_class_has_no_picture_and_a_broken_file_none(tmp_path: Path) -> None:
    thin = Finding(kind="few_pictures", split="train", label="a", number=1, reason="a has 1")
    broken = Finding(
        kind="broken", split="train", label="a", file="a.png", number=0, reason="it does not decode"
    )
    text = _page(tmp_path, [thin, broken], lambda file: None)
    assert "<figure>" not in text and "<li><p>a has 1</p></li>" in text and "<code>a.png</code>" in text


def test_its_size_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = _page(tmp_path, [_leak(f"{i}.png") for i in range(page.MOST_OF_A_KIND + 7)])
    assert text.count("<li>") == page.MOST_OF_A_KIND and "and 7 more: --csv FILE writes all" in text
    monkeypatch.setattr(page, "MOST_THUMBNAILS", 5)
    text = _page(tmp_path, [_leak(f"{i}.png") for i in range(9)])
    assert text.count("<figure>") == 5 and text.count("<li>") == 9


def test_nothing_found_is_said(tmp_path: Path) -> None:
    assert "Nothing was found." in _page(tmp_path, [])
