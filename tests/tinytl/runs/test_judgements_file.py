from pathlib import Path

import numpy as np
import pytest

from tests.tinytl.training.test_judgements import some_judgements
from tinytl.errors import ConfigError
from tinytl.runs.judgements_file import FIELDS, read_judgements, save_judgements


def test_a_file_gives_back_what_was_said(tmp_path: Path) -> None:
    found, path = some_judgements(50, 0), tmp_path / "val_judgements.npz"
    assert read_judgements(path) is None
    save_judgements(found, path)
    again = read_judgements(path)
    assert again is not None
    for name, kind in FIELDS.items():
        assert getattr(again, name).dtype == kind
        np.testing.assert_array_equal(getattr(again, name), getattr(found, name))


def test_half_a_file_and_a_strange_one_are_named(tmp_path: Path) -> None:
    path = tmp_path / "val_judgements.npz"
    save_judgements(some_judgements(50, 0), path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"PK\x03\x04nonsense", b"text"):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"val_judgements\.npz is damaged"):
            read_judgements(path)


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        save_judgements(some_judgements(5, 0), tmp_path / "missing" / "val_judgements.npz")
