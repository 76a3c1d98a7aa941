import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.cases import small, tinted_images
from tinytl.data.sets.listing import image_files, in_memory_or_streamed, stored_side
from tinytl.data.splits import DataSplits, ImageFiles, ImageSet
from tinytl.errors import ConfigError


@pytest.mark.parametrize(("resolution", "side"), [(224, 256), (96, 110), (32, 37), (7, 8)])
def test_pictures_are_stored_an_eighth_larger(resolution: int, side: int) -> None:
    assert stored_side(resolution) == side


def test_a_file_is_found_whatever_bytes_its_name_has(tmp_path: Path) -> None:
    names = ["a/1.png", "ü/é.png", os.fsdecode(b"latin/\xfc.png"), "a name.png"]
    files = image_files(tmp_path, zip(names, [3, 1, 0, 2], strict=True), side=37)
    assert [files.path(i) for i in range(4)] == [tmp_path / name for name in names]
    assert files.labels.tolist() == [3, 1, 0, 2]
    assert files.labels.dtype == np.int64


def _splits(folder: Path, counts: tuple[int, int, int]) -> DataSplits:
    """Pictures whose grey counts up through the three splits."""
    parts, grey = [], 0
    for split, count in zip(("train", "val", "test"), counts, strict=True):
        members = []
        for i in range(count):
            grey += 20
            Image.new("RGB", (8, 8), (grey,) * 3).save(folder / f"{split}{i}.png")
            members.append((f"{split}{i}.png", i % 2))
        parts.append(image_files(folder, members, side=8))
    train, val, test = parts
    return DataSplits("greys", ("a", "b"), train, val, test if counts[2] else None, 0.7, flip=True)


@pytest.mark.parametrize("counts", [(3, 2, 2), (1, 4, 1), (3, 2, 0)])
def test_each_split_gets_its_own_pictures(tmp_path: Path, counts: tuple[int, int, int]) -> None:
    listed = _splits(tmp_path, counts)
    loaded, as_files = in_memory_or_streamed(listed, small(loading="memory"))
    assert as_files is listed
    greys: list[int] = []
    for before, after in zip(
        (listed.train, listed.val, listed.test), (loaded.train, loaded.val, loaded.test), strict=True
    ):
        if before is None:
            assert after is None
            continue
        assert isinstance(after, ImageSet)
        assert after.labels.tolist() == before.labels.tolist()
        assert len(after.images) == len(after)
        greys += after.images[:, 0, 0, 0].tolist()
    assert greys == [20 * (i + 1) for i in range(sum(counts))]


def test_a_set_fits_up_to_the_limit_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = _splits(tmp_path, (3, 2, 2))
    size_mib = 7 * 3 * 8**2 / 2**20
    for limit, kind in ((size_mib, ImageSet), (size_mib * 0.999, ImageFiles)):
        monkeypatch.setattr("tinytl.data.sets.listing.MEMORY_LIMIT_MIB", limit)
        assert isinstance(in_memory_or_streamed(listed, small(loading="auto"))[0].train, kind)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            Path.unlink,
            r"val1.png does not decode as an image \(No such file or directory; the data set lists it",
        ),
        (
            lambda path: path.write_bytes(b""),
            r"val1.png does not decode as an image \(it is empty\): repair or remove it$",
        ),
    ],
)
def test_what_streams_is_there_before_training_starts(tmp_path: Path, damage: Any, message: str) -> None:
    listed = _splits(tmp_path, (2, 2, 1))
    damage(tmp_path / "val1.png")
    with pytest.raises(ConfigError, match=message):
        in_memory_or_streamed(listed, small(loading="stream"))


def test_a_set_of_arrays_is_left_as_it_is() -> None:
    arrays = DataSplits("colors", ("a", "b", "c"), *[tinted_images(3, i) for i in range(3)], 0.5, flip=True)
    for loading in ("auto", "memory"):
        assert in_memory_or_streamed(arrays, small(loading=loading)) == (arrays, arrays)
    with pytest.raises(ConfigError, match=r"^loading=stream: colors is arrays, not image files"):
        in_memory_or_streamed(arrays, small(loading="stream"))


@pytest.mark.parametrize("loading", ["memory", "stream"])
def test_all_that_is_broken_is_named_at_once_or_left_out(tmp_path: Path, loading: str) -> None:
    listed = _splits(tmp_path, (6, 2, 2))
    for name in ("train1", "train4", "val0", "test1"):
        (tmp_path / f"{name}.png").write_bytes(b"\x89PNG")
    if loading == "memory":
        with pytest.raises(ConfigError) as caught:
            in_memory_or_streamed(listed, small(loading=loading))
        text = str(caught.value)
        assert (
            text.startswith(f"4 of 10 images do not decode: {tmp_path / 'train1.png'} (") and "\n" not in text
        )
        file = Path(text.partition("; all 4 stand in ")[2].partition(":")[0])
        assert [line.split("\t")[0] for line in file.read_text().splitlines()] == [
            str(tmp_path / f"{name}.png") for name in ("train1", "train4", "val0", "test1")
        ]
        file.unlink()
    loaded, as_files = in_memory_or_streamed(listed, small(loading=loading, skip_broken=True))
    for splits in (loaded, as_files):
        assert splits.train.labels.tolist() == [0, 0, 1, 1] and splits.val.labels.tolist() == [1]
        assert splits.test is not None and splits.test.labels.tolist() == [0]
    assert loaded.account == "greys; skipped: 4 that do not decode"
    assert isinstance(as_files.train, ImageFiles)
    assert [as_files.train.path(i).stem for i in range(4)] == ["train0", "train2", "train3", "train5"]


def test_a_class_of_which_nothing_is_left_is_named(tmp_path: Path) -> None:
    listed = _splits(tmp_path, (4, 2, 0))
    for name in ("train1", "train3"):
        (tmp_path / f"{name}.png").write_bytes(b"")
    with pytest.raises(
        ConfigError, match=r"^--skip-broken: 2 files cannot be decoded, and none is left to train class b$"
    ):
        in_memory_or_streamed(listed, small(loading="memory", skip_broken=True))
