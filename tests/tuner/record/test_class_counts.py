from types import SimpleNamespace

import pytest

from tinytl.errors import ConfigError
from tuner.record.class_counts import FILE, counts_of, read_class_counts, write_class_counts


def test_classes_come_back_with_the_images_of_each_split(tmp_path):
    data = SimpleNamespace(
        classes=("cat", "Hund ä"),
        train=SimpleNamespace(labels=[0, 1, 1]),
        val=SimpleNamespace(labels=[0]),
        test=None,
    )
    write_class_counts(tmp_path, counts_of(data))
    found = read_class_counts(tmp_path)
    assert list(found.names) == ["cat", "Hund ä"]
    assert found.images == {"train": [1, 2], "val": [1, 0]} and found.totals() == {"train": 3, "val": 1}


def test_an_older_study_has_none(tmp_path):
    assert read_class_counts(tmp_path) is None


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"names": ["a"]}', '{"names": ["a"], "images": {"train": [1, 2]}}', '{"names": 3}']
)
def test_a_damaged_file_is_one_line(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ConfigError, match=r"classes\.json is damaged: remove it"):
        read_class_counts(tmp_path)
