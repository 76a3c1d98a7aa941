"""The long tail: its law, the copy of links, and what is compared."""

import numpy as np
import pytest
from PIL import Image

from benchmarks.search.long_tail import FACTOR, SPACE, digits_folder, drawn, long_tailed, summary, tail
from search_spaces.space import load_space
from tinytl.data.sets.imagefolder import load_imagefolder


@pytest.mark.parametrize(
    "available",
    [[298, 206, 201, 166, 164, 118, 113, 94, 69], [69, 118, 206, 94, 201], [100, 100, 100], [20, 400]],
)
def test_the_largest_is_a_factor_of_the_smallest_and_an_exponential_law_lies_between(available):
    kept = tail(available)
    assert all(1 <= n <= most for n, most in zip(kept, available, strict=True))
    assert max(kept) / min(kept) == pytest.approx(FACTOR, rel=1 / min(kept))
    ranked = sorted(kept, reverse=True)
    steps = np.diff(np.log(ranked))
    assert steps == pytest.approx(np.full(len(steps), -np.log(FACTOR) / len(steps)), abs=1.5 / min(kept))
    assert np.argmax(kept) == np.argmax(available)


@pytest.mark.parametrize("available", [[5, 3], [100]])
def test_too_few_pictures_or_classes_are_refused(available):
    with pytest.raises(ValueError, match="have no tail"):
        tail(available)


def test_the_seed_draws_which_pictures_stay_not_how_many():
    labels = np.repeat(np.arange(3), 50)
    rows = [drawn(labels, seed) for seed in (0, 0, 1)]
    assert rows[0].tolist() == rows[1].tolist() != rows[2].tolist()
    assert np.bincount(labels[rows[0]]).tolist() == np.bincount(labels[rows[2]]).tolist()


def test_a_copy_is_links_with_the_test_images_as_they_were(tmp_path):
    source = tmp_path / "colors"
    for split, count in (("train", 40), ("test", 3)):
        for name in ("a", "b", "c"):
            (source / split / name).mkdir(parents=True)
            for number in range(count):
                Image.new("L", (4, 4)).save(source / split / name / f"{number}.png")
    root = long_tailed(source, tmp_path / "runs", 0)
    files = [path for path in root.rglob("*.png") if path.is_file()]
    assert files and all(path.is_symlink() for path in files)
    data = load_imagefolder(str(root), side=8)
    was = load_imagefolder(str(source), side=8)
    assert data.classes == was.classes and data.test is not None and was.test is not None
    assert {data.test.path(i).resolve() for i in range(len(data.test))} == {
        was.test.path(i).resolve() for i in range(len(was.test))
    }
    kept = np.bincount(np.concatenate([data.train.labels, data.val.labels]))
    assert max(kept) / min(kept) == pytest.approx(FACTOR, rel=0.5)
    (root / "train" / "stray").mkdir()
    assert long_tailed(source, tmp_path / "runs", 0) == root and (root / "train" / "stray").exists()


def test_the_digits_are_a_folder_too(tmp_path):
    root = digits_folder(tmp_path)
    data = load_imagefolder(str(root), side=8)
    assert len(data.classes) == 10 and data.test is not None
    assert len(data.train) + len(data.val) + len(data.test) == 1797


def test_the_space_searches_what_helps_rare_classes():
    assert {"class_weighting", "sampling"} <= {p.name for p in load_space(str(SPACE)).parameters}


def test_gains_are_over_the_seeds():
    rows = [
        {
            "gain_macro_f1": gain,
            "gain_accuracy_top1": -gain,
            "macro_f1": {"test_macro_f1": 0.5 + gain, "test_accuracy_top1": 0.6},
            "accuracy_top1": {"test_macro_f1": 0.5, "test_accuracy_top1": 0.6 + gain},
        }
        for gain in (0.1, 0.3)
    ]
    found = summary(rows)
    assert found["gain_macro_f1"] == {"mean": 0.2, "standard_error": pytest.approx(0.1)}
    assert found["test_macro_f1_by_macro_f1"]["mean"] == pytest.approx(0.7)
    assert summary(rows[:1])["gain_macro_f1"]["standard_error"] is None
