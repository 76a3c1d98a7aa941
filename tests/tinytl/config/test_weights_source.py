from pathlib import Path

import pytest

from tinytl.config.weights_source import is_url, with_whole_path


@pytest.mark.parametrize("source", ["http://a/w.pt", "HTTPS://a/w.pt?x=1", "file:///a/w.pt"])
def test_urls(source: str) -> None:
    assert is_url(source)
    assert with_whole_path(source) == source


@pytest.mark.parametrize("source", ["imagenet", "imagenet_v1", "imagenet_v2", "none"])
def test_names(source: str) -> None:
    assert not is_url(source)
    assert with_whole_path(source) == source


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert with_whole_path("w.pt") == str(tmp_path / "w.pt")
    assert with_whole_path("~/w.pt") == str(tmp_path / "home" / "w.pt")
    assert not is_url("ftp/w.pt")
