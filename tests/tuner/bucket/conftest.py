import uuid

import pytest

from tuner.bucket.store import Bucket, open_bucket


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The cache folder of a machine: copies of buckets lie in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def bucket() -> Bucket:
    """A bucket in this process's memory."""
    return open_bucket(f"memory://{uuid.uuid4().hex}/runs")
