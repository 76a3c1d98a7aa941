"""Numbers with their nouns."""

import pytest

from tinytl.plural import counted


@pytest.mark.parametrize(
    ("number", "words", "expected"),
    [
        (0, ("epoch",), "0 epochs"),
        (1, ("epoch",), "1 epoch"),
        (2, ("epoch",), "2 epochs"),
        (1, ("class", "classes"), "1 class"),
        (1200, ("class", "classes"), "1,200 classes"),
    ],
)
def test_a_noun_follows_its_number(number, words, expected):
    assert counted(number, *words) == expected
