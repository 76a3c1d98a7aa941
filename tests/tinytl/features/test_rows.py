"""A file of features gives back what was written, bit for bit, or nothing."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tinytl.features import rows
from tinytl.features.rows import TYPES, RowsBeingWritten, most_bytes_of, stored_rows
from tinytl.memory_efficient.ops.measured_scratch import memory_profile, peak_of_events

CPU = torch.device("cpu")
N, WIDTH = 7, 20


def _features(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(N, WIDTH, generator=torch.Generator().manual_seed(0)).to(dtype)


def _write(path: Path, features: Tensor, shape: tuple[int, int] = (N, WIDTH), at_once: int = 3) -> bool:
    with path.open("wb", buffering=0) as out:
        writing = RowsBeingWritten(out, shape)
        for few in features.split(at_once):
            writing.add(few)
        return writing.finish()


def _read(
    path: Path, shape: tuple[int, int] = (N, WIDTH), batch_size: int = 2, first: int = 0
) -> Tensor | None:
    with path.open("rb") as file:
        stored = stored_rows(file, shape)
        if stored is None:
            return None
        labels = np.arange(shape[0])
        batches = list(stored.batches(labels, batch_size, CPU, first))
    assert [label for _, few in batches for label in few.tolist()] == labels[first:].tolist()
    assert all(len(few) == batch_size for few, _ in batches[:-1])
    return torch.cat([few for few, _ in batches])


@pytest.mark.parametrize("dtype", TYPES.values(), ids=TYPES)
def test_rows_come_back_bit_for_bit_in_their_type(tmp_path: Path, dtype: torch.dtype) -> None:
    features = _features(dtype)
    features[0, :3] = torch.tensor([float("inf"), float("nan"), -0.0])
    assert _write(tmp_path / "file", features)
    found = _read(tmp_path / "file")
    assert found is not None and found.dtype is dtype
    assert torch.equal(found.view(torch.uint8), features.view(torch.uint8))
    assert (tmp_path / "file").stat().st_size <= most_bytes_of((N, WIDTH))


def test_batches_begin_at_any_row(tmp_path: Path) -> None:
    _write(tmp_path / "file", _features())
    found = _read(tmp_path / "file", first=3)
    assert found is not None and torch.equal(found, _features()[3:])


@pytest.mark.parametrize("wrong", [_features()[:-1], torch.cat([_features(), _features()[:1]])])
def test_a_file_with_too_few_or_too_many_rows_is_not_finished(tmp_path: Path, wrong: Tensor) -> None:
    assert not _write(tmp_path / "file", wrong)
    assert _read(tmp_path / "file") is None


def test_a_type_that_no_classifier_gets_is_not_stored(tmp_path: Path) -> None:
    assert not _write(tmp_path / "file", _features(torch.float64))


def _cut(content: bytes, at: int) -> bytes:
    return content[:at]


def _flipped(content: bytes, at: int) -> bytes:
    changed = bytearray(content)
    changed[at] ^= 1
    return bytes(changed)


@pytest.mark.parametrize("damage", [_cut, _flipped])
@pytest.mark.parametrize("at", [0, 1, 100, N * WIDTH * 4 - 1, N * WIDTH * 4, -5, -1])
def test_a_damaged_file_is_none(tmp_path: Path, damage, at: int) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "file"
    _write(path, _features())
    path.write_bytes(damage(path.read_bytes(), at))
    assert _read(path) is None


@pytest.mark.parametrize("content", [b"", b"a note\n", b"\0" * (N * WIDTH * 4 + 12), b"x" * 5000])
def test_a_foreign_file_is_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert _read(path) is None


@pytest.mark.parametrize("shape", [(N + 1, WIDTH), (N, WIDTH * 2), (0, WIDTH)])
def test_a_whole_file_of_another_shape_is_none(tmp_path: Path, shape: tuple[int, int]) -> None:
    _write(tmp_path / "file", _features())
    assert _read(tmp_path / "file", shape) is None


def test_a_file_that_shrinks_as_it_is_read_is_an_error_and_never_wrong_rows(tmp_path: Path) -> None:
    n = 20_000  # more than Python reads ahead
    path, labels = tmp_path / "file", np.arange(n)
    _write(path, torch.zeros(n, WIDTH), (n, WIDTH), n)
    with path.open("rb") as file:
        stored = stored_rows(file, (n, WIDTH))
        assert stored is not None
        os.truncate(path, 100)
        with pytest.raises(OSError, match=r"became shorter as it was read$"):
            list(stored.batches(labels, 1000, CPU))


def test_reading_holds_a_batch_and_not_the_file(tmp_path: Path) -> None:
    n, batch_size = 4096, 8
    _write(tmp_path / "file", torch.zeros(n, WIDTH), (n, WIDTH), n)
    with (
        (tmp_path / "file").open("rb") as file,
        memory_profile() as profile,
    ):
        stored = stored_rows(file, (n, WIDTH))
        assert stored is not None
        for _ in stored.batches(np.arange(n), batch_size, CPU):
            pass
    assert 0 < peak_of_events(profile) <= 2 * batch_size * WIDTH * 4


class _OnGpu(torch.Tensor):
    """A tensor that says it is a GPU's."""

    is_cuda = True  # type: ignore[assignment]


class _Late:
    """Stands in for a copy to the host, of which the last is never made before it is asked for."""

    last: "_Late"

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.was_read = tensor.as_subclass(Tensor).clone(), False  # type: ignore[arg-type]
        _Late.last = self

    def is_made(self) -> bool:
        return self is not _Late.last

    def read(self) -> Tensor:
        self.was_read = True
        return self.tensor


def test_a_gpu_is_not_waited_for_before_the_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(rows, "HostCopy", _Late)
    path = tmp_path / "file"
    with path.open("wb", buffering=0) as out:
        writing = RowsBeingWritten(out, (N, WIDTH))
        for few in _features().split(3):
            writing.add(few.as_subclass(_OnGpu))  # type: ignore[arg-type]
            assert not _Late.last.was_read
        assert path.stat().st_size == 6 * WIDTH * 4
        assert writing.finish() and _Late.last.was_read
    found = _read(path)
    assert found is not None and torch.equal(found, _features())
