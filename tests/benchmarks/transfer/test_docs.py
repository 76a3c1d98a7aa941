import json
import re
from pathlib import Path

import pytest

from benchmarks.shared.places import RESULTS
from benchmarks.transfer import docs as transfer_docs
from benchmarks.transfer.docs import PAGE, README, SETS, TABLES
from benchmarks.transfer.figure import plot_comparison


def _row(variant="FT-Last, frozen_bn", **changes):
    row = {"dataset": "digits", "backbone": "mobilenet_v2", "variant": variant, "least_mib": 15.0}
    return row | {"base_lr": 2e-3, "accuracy_top1_mean": 0.7, "standard_error": 0.0123} | changes


def _result(rows):
    machine = {"cpu": "x", "cores": 2, "threads": 1}
    about = {"machine": machine, "torch": "t", "date": "2026-11-22", "command": "c"}
    return about | {"rows": rows}


def test_the_pages_have_a_place_for_every_table():
    assert sorted(re.findall(r"<!-- table: (.*) -->", PAGE.read_text())) == sorted(TABLES)
    assert "<!-- table: comparison -->" in README.read_text()


def test_a_line_has_ours_and_what_was_published():
    memory = {"lean_mib": 15.0, "stock_mib": 30.0}
    row = {"backbone": "mobilenet_v2", "method": "FT-Last", "norm": "frozen_bn"}
    row |= {"memory": {"96": memory, "224": memory}}
    line = transfer_docs.methods(_result([row]))[2]
    assert line == "| mobilenet_v2, FT-Last, frozen_bn | 15.0 of 30.0 | 15.0 of 30.0 | 76.37 · 990 MB |  |"
    line = transfer_docs.methods(_result([row | {"backbone": "proxylessnas_mobile"}]))[2]
    assert line.endswith("| 81.74 · 613 MB | 85.9 · 31 MB |")


def test_a_comparison_has_a_line_per_variant_and_gaps_for_what_has_not_run():
    emoji, lite = next(iter(SETS)), "efficientnet_lite0"
    rows = [
        _row("TinyTL-L+B, frozen_bn, int8 moments"),
        _row("TinyTL-L+B, frozen_bn", dataset=emoji),
        _row("FT-Last, group_norm", backbone=lite, dataset=emoji, least_mib=9.0),
    ]
    head, _, *lines, _, _ = transfer_docs.comparison(_result(rows))
    assert head.split(" | ")[1:4] == [
        "emoji, efficientnet_lite0",
        "emoji, mobilenet_v2",
        "digits, mobilenet_v2",
    ]
    assert lines == [
        "| FT-Last, group_norm | 70.0 ± 1.2 (0.002) |  |  | 9.0 |  |",
        "| TinyTL-L+B, frozen_bn |  | 70.0 ± 1.2 (0.002) |  |  | 15.0 |",
        "| TinyTL-L+B, frozen_bn, int8 moments |  |  | 70.0 ± 1.2 (0.002) |  |  |",
    ]


def test_the_readme_has_what_every_backbone_has():
    emoji = next(iter(SETS))
    both = [
        _row(backbone=name, dataset=emoji, least_mib=mib) for name, mib in (("a", 1.0), ("mobilenet_v2", 2.0))
    ]
    lines = transfer_docs.readme(_result([*both, _row("FT-Full, frozen_bn", dataset=emoji), _row()]))
    assert lines[2:] == ["| FT-Last | 70.0 ± 1.2 | 70.0 ± 1.2 | 2.0 |"]


@pytest.mark.parametrize("variant", ["FT-Last, frozen_bn", "TinyTL-B, group_norm, int8 frozen weights"])
def test_a_comparison_is_drawn(tmp_path: Path, variant: str):
    plot_comparison(_result([_row(variant), _row(least_mib=80.0)]), SETS, tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 10_000


def test_the_committed_results_are_what_the_page_says():
    folder = RESULTS
    for title, (name, make) in TABLES.items():
        for path in folder.glob(f"{name}_*.json"):
            assert "\n".join(make(json.loads(path.read_text()))) in PAGE.read_text(), title
