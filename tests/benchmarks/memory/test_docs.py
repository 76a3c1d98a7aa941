import re

import pytest

from benchmarks.memory.docs import PAGE, TABLES, numbers


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
