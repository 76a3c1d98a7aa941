"""Tests write sets as published, but small: CIFAR's files are then not the published ones, byte for byte."""

import pytest

from tinytl.data.sets import cifar


@pytest.fixture(autouse=True)
def _files_of_cifar_are_trusted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "published_alone" not in request.fixturenames:
        monkeypatch.setattr(cifar, "check_published", lambda _folder, _md5s: None)


@pytest.fixture
def published_alone() -> None:
    """Only files that are the published ones are read, as outside of tests."""
