"""A store of features that is on: for all other tests it is off."""

from pathlib import Path

import pytest

from tinytl.features.limit import MOST_VARIABLE


@pytest.fixture
def feature_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of an empty store that may hold 64 MiB."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(MOST_VARIABLE, "64")
    return tmp_path / "cache" / "tinytl" / "features"
