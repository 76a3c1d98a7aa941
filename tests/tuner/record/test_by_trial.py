"""One reading for every file that holds something by trial."""

from pathlib import Path

import pytest

from tinytl.errors import ConfigError
from tuner.record.by_trial import read_by_trial


def test_values_are_read_by_trial_and_no_file_is_nothing(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    assert read_by_trial(path, float, "figures are read again") == {}
    path.write_text('{"a": 1, "b": 2.5}')
    assert read_by_trial(path, float, "figures are read again") == {"a": 1.0, "b": 2.5}


@pytest.mark.parametrize("content", ["", "[]", '{"a": "x"}', '{"a": null}'])
def test_a_damaged_file_is_named_with_what_happens_again(content: str, tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    path.write_text(content)
    with pytest.raises(
        ConfigError, match=r"figures\.json is damaged: remove it, and figures are read again$"
    ):
        read_by_trial(path, float, "figures are read again")
