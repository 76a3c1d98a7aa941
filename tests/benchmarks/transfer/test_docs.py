import json
import re

from benchmarks.shared.places import RESULTS
from benchmarks.transfer import docs as transfer_docs
from benchmarks.transfer.docs import PAGE, README, TABLES


def _row(**changes):
    row = {"backbone": "mobilenet_v2", "method": "FT-Last", "norm": "frozen_bn", "base_lr": 2e-3}
    row |= {"at_the_grid_s_edge": True, "accuracy_top1_mean": 0.7, "accuracy_top1_std": 0.0123}
    memory = {"lean_mib": 15.0, "stock_mib": 30.0}
    return row | {"memory": {"96": memory, "224": memory}} | changes


def _result(rows):
    machine = {"cpu": "x", "cores": 2, "threads": 1}
    about = {"machine": machine, "torch": "t", "date": "2026-11-22", "command": "c"}
    return about | {"rows": rows, "settings": {"resolution": 96, "seeds": [0, 1, 2]}}


def test_the_pages_have_a_place_for_every_table():
    assert sorted(re.findall(r"<!-- table: (.*) -->", PAGE.read_text())) == sorted(TABLES)
    assert "<!-- table: methods -->" in README.read_text()


def test_a_line_has_ours_and_what_was_published():
    line = transfer_docs.methods(_result([_row()]))[2]
    assert line == (
        "| mobilenet_v2, FT-Last, frozen_bn | 70.0 ± 1.2 | 0.002* | 15.0 of 30.0 | 15.0 of 30.0 "
        "| 76.37 · 990 MB |  |"
    )
    without = _row(backbone="proxylessnas_mobile", norm="frozen_bn")
    del without["accuracy_top1_mean"], without["base_lr"]
    line = transfer_docs.methods(_result([without]))[2]
    assert "| no weights |  |" in line and line.endswith("| 81.74 · 613 MB | 85.9 · 31 MB |")


def test_the_committed_results_are_what_the_page_says():
    folder = RESULTS
    for title, (name, make) in TABLES.items():
        for path in folder.glob(f"{name}_*.json"):
            assert "\n".join(make(json.loads(path.read_text()))) in PAGE.read_text(), title
