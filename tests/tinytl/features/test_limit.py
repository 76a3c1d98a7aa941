import pytest

from tinytl.errors import ConfigError
from tinytl.features.limit import MOST_VARIABLE, most_stored_bytes


@pytest.mark.parametrize(("text", "n_bytes"), [("0", 0), ("3", 3 << 20), ("", 4 << 30)])
def test_a_variable_says_how_much_may_be_stored(
    monkeypatch: pytest.MonkeyPatch, text: str, n_bytes: int
) -> None:
    monkeypatch.setenv(MOST_VARIABLE, text)
    assert most_stored_bytes() == n_bytes


def test_without_the_variable_something_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MOST_VARIABLE)
    assert most_stored_bytes() == 4 << 30


@pytest.mark.parametrize("text", ["-1", "1.5", "off", " 1", "٣"])
def test_anything_but_whole_mib_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(MOST_VARIABLE, text)
    with pytest.raises(
        ConfigError, match=f"^{MOST_VARIABLE}={text} is no whole number of MiB: give one, or 0"
    ):
        most_stored_bytes()
