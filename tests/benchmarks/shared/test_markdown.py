import pytest

from benchmarks.shared.markdown import fill


def test_fills_a_table_and_leaves_the_rest():
    page = "a\n<!-- table: one -->\nold\n<!-- end -->\nb\n<!-- table: two -->\nkept\n<!-- end -->\n"
    filled = fill(page, {"one": [r"\1", "new"]})
    assert filled == page.replace("old", "\\1\nnew")
    assert fill(filled, {"one": [r"\1", "new"]}) == filled


def test_a_table_without_a_place_is_named():
    with pytest.raises(ValueError, match="'three'"):
        fill("", {"three": []})
