"""The store: whole files, bounded, and no fault of its disk ends a run."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.places import ROOT
from tinytl.features import store as module
from tinytl.features.limit import MOST_VARIABLE
from tinytl.features.rows import most_bytes_of
from tinytl.features.store import LEFT_OVER_S, FeatureStore, store_of_this_machine

SHAPE = (6, 8)
FEATURES = torch.arange(48.0).view(SHAPE)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "features", 3 * most_bytes_of(SHAPE))


def _write(store: FeatureStore, name: str, features: Tensor = FEATURES) -> None:
    with store.writing(name, SHAPE) as rows:
        assert rows is not None
        for few in features.split(4):
            rows.add(few)


def _read(store: FeatureStore, name: str) -> Tensor | None:
    with store.reading(name, SHAPE) as rows:
        if rows is None:
            return None
        return torch.cat([few for few, _ in rows.batches(np.arange(6), 4, torch.device("cpu"))])


def _names(store: FeatureStore) -> list[str]:
    return sorted(path.name for path in store.folder.iterdir())


def test_what_was_written_is_read_and_nothing_else(store: FeatureStore) -> None:
    assert _read(store, "a") is None
    _write(store, "a")
    found = _read(store, "a")
    assert found is not None and torch.equal(found, FEATURES)
    assert _read(store, "b") is None and _names(store) == ["a"]


def test_a_block_that_raises_leaves_nothing(store: FeatureStore) -> None:
    with pytest.raises(KeyboardInterrupt), store.writing("a", SHAPE) as rows:
        assert rows is not None
        rows.add(FEATURES)
        raise KeyboardInterrupt
    assert _names(store) == []


def test_an_epoch_that_was_not_finished_leaves_nothing(store: FeatureStore) -> None:
    _write(store, "a", FEATURES[:4])
    assert _names(store) == []


def test_a_damaged_file_is_written_anew(store: FeatureStore) -> None:
    _write(store, "a")
    (store.folder / "a").write_bytes(b"not what was written")
    assert _read(store, "a") is None
    _write(store, "a")
    assert _read(store, "a") is not None


def test_what_was_used_longest_ago_makes_room(store: FeatureStore) -> None:
    for age, name in enumerate("cba"):
        _write(store, name)
        os.utime(store.folder / name, (1000.0 + age,) * 2)
    assert _read(store, "c") is not None, "now used last, though written first"
    _write(store, "d")
    assert _names(store) == ["a", "c", "d"]


def test_a_file_larger_than_the_store_is_not_begun(tmp_path: Path) -> None:
    small = FeatureStore(tmp_path / "features", most_bytes_of(SHAPE) - 1)
    with small.writing("a", SHAPE) as rows:
        assert rows is None


def test_a_file_that_the_store_removes_stays_readable_to_the_end(store: FeatureStore) -> None:
    _write(store, "a")
    with store.reading("a", SHAPE) as rows:
        assert rows is not None
        (store.folder / "a").unlink()
        ((few, _),) = rows.batches(np.arange(6), 6, torch.device("cpu"))
    assert torch.equal(few, FEATURES)


def test_what_a_killed_process_left_goes_after_a_day(store: FeatureStore) -> None:
    store.folder.mkdir(parents=True)
    for name, age_s in ((".a.1.tmp", LEFT_OVER_S + 60), (".b.2.tmp", 60.0)):
        (store.folder / name).write_bytes(b"half")
        os.utime(store.folder / name, (time.time() - age_s,) * 2)
    _write(store, "c")
    assert _names(store) == [".b.2.tmp", "c"]


def test_a_disk_that_fills_up_stores_nothing_and_is_told(
    store: FeatureStore, caplog: pytest.LogCaptureFixture
) -> None:
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150, before[1]))  # in the middle of the second batch
    try:
        _write(store, "a")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert _names(store) == []
    assert f"features cannot be stored in {store.folder} (File too large): each run" in caplog.text


def test_a_folder_that_cannot_be_made_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    for _ in range(2):
        with FeatureStore(tmp_path / "file" / "features", 1 << 20).writing("a", SHAPE) as rows:
            assert rows is None
    assert caplog.text.count("(Not a directory): each run computes its own") == 1


def test_the_last_of_a_disk_is_left_to_others(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FREE_BYTES", 1 << 62)  # more than any disk has
    with store.writing("a", SHAPE) as rows:
        assert rows is None
    assert _names(store) == []


def test_two_writers_of_one_file_do_not_meet(store: FeatureStore) -> None:
    with store.writing("a", SHAPE) as one, store.writing("a", SHAPE) as other:
        assert one is not None and other is not None
        for few in FEATURES.split(2):
            one.add(few)
            other.add(few)
    found = _read(store, "a")
    assert found is not None and torch.equal(found, FEATURES) and _names(store) == ["a"]


BUSY = """
import sys, pathlib, torch
from tinytl.features.store import FeatureStore
store, n = FeatureStore(pathlib.Path(sys.argv[1]), 10 * 4000), 0
for turn in range(300):
    name = f"file{turn % 15}"
    with store.reading(name, (30, 32)) as rows:
        if rows is not None:
            import numpy
            ((few, _),) = rows.batches(numpy.arange(30), 30, torch.device("cpu"))
            assert torch.equal(few, torch.full((30, 32), float(turn % 15)))
            n += 1
            continue
    with store.writing(name, (30, 32)) as rows:
        for few in torch.full((30, 32), float(turn % 15)).split(7):
            rows.add(few)
print(n)
"""


def test_processes_that_write_read_and_remove_at_the_same_time_see_whole_files(tmp_path: Path) -> None:
    busy = [
        subprocess.Popen(
            [sys.executable, "-c", BUSY, str(tmp_path / "features")],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    for process in busy:
        out, errors = process.communicate(timeout=120)
        assert process.returncode == 0 and errors == "", errors
        assert int(out) >= 0
    held = list((tmp_path / "features").iterdir())
    assert 0 < sum(path.stat().st_size for path in held) <= 10 * 4000


def test_the_store_is_in_the_cache_folder_unless_it_is_off(
    feature_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store_of_this_machine() == FeatureStore(feature_store, 64 << 20)
    monkeypatch.setenv(MOST_VARIABLE, "0")
    assert store_of_this_machine() is None
