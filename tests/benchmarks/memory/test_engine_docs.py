import re

from benchmarks.memory.docs import ENGINE
from benchmarks.memory.engine_docs import ENGINE_TABLES, net_budgets, net_peers, random_configurations

ABOUT = {
    "machine": {"cpu": "x", "cores": 1, "threads": 1},
    "torch": "t",
    "date": "2026-12-01",
    "command": "c",
    "batch": 8,
    "resolution": 224,
}


def row(way, peak_mib, **more):
    return {"net": "n", "freeze": "everything", "way": way, "peak_mib": peak_mib, "time": 1.0} | more


ROWS = [
    row("stock", 100.0),
    row("checkpoint", 40.0, time=1.3),
    row("compile 0.1", 70.0, budget=0.1, mib_kept=False, kept_mib=10.05, promised_mib=10.0),
    row("fit 0.3", 25.0, budget=0.3, mib_kept=True),
    {"net": "n", "freeze": "everything", "way": "fit 0.1", "budget": 0.1, "refused": "20.0 MiB"},
    {"net": "n", "freeze": "everything", "way": "lean, block", "failed": "RuntimeError: no"},
]


def test_the_page_has_a_place_for_every_table():
    assert re.findall(r"<!-- table: (.*) -->", ENGINE.read_text()) == list(ENGINE_TABLES)


def test_peers_stand_beside_stock_and_kept_budgets_are_counted():
    line = net_peers(ABOUT | {"rows": ROWS})[2]
    assert line.startswith("| n, everything | 100 | - | 40 % · 1.30 | - | 70 % · 1.00 | - | failed | 1 · 0 |")
    assert line.endswith("| 1, 1 refused |")


def test_a_budget_is_kept_missed_or_refused():
    three, one = net_budgets(ABOUT | {"rows": ROWS})[2:]
    assert three == "| 30 % | 0 of 0 | 0 of 0 | - | - | 1 of 1 | 0 | 25 % | 1.00 |"
    assert one == "| 10 % | 1 of 1 | 0 of 1 | 70 % | 1.00 | 0 of 1 | 1 | - | - |"


def test_the_largest_miss_stands_beside_the_median():
    rows = [
        {"engine": "stock", "threads": 2, "backbone": name, "off": off}
        for name, off in (("a", 0.001), ("a", -0.0123), ("b", 0.0))
    ]
    others = [
        {"engine": e, "threads": n, "backbone": "a", "off": 0.0}
        for e, n in (("lean", 1), ("lean", 2), ("stock", 1))
    ]
    lines = random_configurations(ABOUT | {"rows": rows + others})
    assert "| stock, 2 threads | 3 | 2 | 0.100% | **1.2%** |" in lines
