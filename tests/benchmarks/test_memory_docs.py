import re

import pytest

from benchmarks.memory_docs import PAGE, TABLES, fill, numbers


def test_fills_a_table_and_leaves_the_rest():
    page = "a\n<!-- table: one -->\nold\n<!-- end -->\nb\n<!-- table: two -->\nkept\n<!-- end -->\n"
    filled = fill(page, {"one": [r"\1", "new"]})
    assert filled == page.replace("old", "\\1\nnew")
    assert fill(filled, {"one": [r"\1", "new"]}) == filled


def test_a_table_without_a_place_is_named():
    with pytest.raises(ValueError, match="'three'"):
        fill("", {"three": []})


def test_the_page_has_a_place_for_every_table():
    places = re.findall(r"<!-- table: (.*) -->", PAGE.read_text())
    assert sorted(places) == sorted([*TABLES, "oracle"])


@pytest.mark.parametrize(("mib", "time", "cell"), [(60.0, 0.9, "| 75.0 |"), (80.0, 1.2, "| 75.0, missed |")])
def test_a_missed_limit_says_so(mib, time, cell):
    rows = [
        {"norm": "frozen_bn", "method": "TinyTL-B", "micro_batch_size": 8, "way": way}
        | {"measured_mib": mib, "step_ratio": time}
        for way in ("stock", "fast", "depthwise", "all")
    ]
    machine = {"cpu": "x", "cores": 1, "threads": 1}
    result = {"backbone": "mobilenet_v2", "rows": rows, "machine": machine}
    result |= {"torch": "t", "date": "2026-11-22", "command": "c"}
    line = numbers(result)[2]
    assert cell in line
    assert f"| {time:.2f}{', missed' if time > 1 else ''} |" in line
