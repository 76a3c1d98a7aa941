"""Numbers with their nouns and units."""

import pytest

from tinytl.plural import counted, rough_span


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


@pytest.mark.parametrize(
    ("seconds", "expected"), [(3, "5 s"), (62, "60 s"), (754, "13 min"), (7384, "2 h 03 min")]
)
def test_an_estimated_span_has_no_more_digits_than_it_can_have(seconds, expected):
    assert rough_span(seconds) == expected
