import pytest
from jinja2 import UndefinedError

from tuner.report.render import render

EMPTY = dict.fromkeys(("differences", "lines", "fronts", "titles", "rows", "front_rows", "baselines"), ())
PAGE = EMPTY | {"live": None, "made": "now", "csv": "", "commands": {}}


def test_what_a_page_shows_is_text():
    page = render("comparison.html", PAGE | {"names": ["<b>&"]})
    assert "<h1>&lt;b&gt;&amp;</h1>" in page and "<b>&" not in page.partition("<script>")[0]
    assert page.count("<script>") == 2 and "connect-src" not in page.partition("<script>")[0]


def test_a_name_that_a_page_wants_and_does_not_get_is_an_error():
    with pytest.raises(UndefinedError):
        render("comparison.html", PAGE)
