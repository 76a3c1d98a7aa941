import json
import statistics

from benchmarks.shared.places import RESULTS, ROOT
from benchmarks.transfer.shared_forward import EIGHT, LIMIT


def test_the_page_has_the_committed_figures():
    page = (ROOT / "docs" / "search.md").read_text()
    (path,) = RESULTS.glob("transfer_shared_forward_*.json")
    result = json.loads(path.read_text())
    for backbone, ratio in result["median_ratio"].items():
        rounds = [row for row in result["rounds"] if row["backbone"] == backbone]
        assert all(row["same_bits"] for row in rounds) and ratio <= LIMIT
        one, eight, unstored = (
            f"{statistics.median(row[name] for row in rounds):.1f}"
            for name in ("one_s", "eight_s", "one_with_nothing_stored_s")
        )
        assert f"| {backbone} | {one} | {eight} | **{ratio:.2f} x** | {unstored} |" in page


def test_the_eight_differ_in_rate_decay_and_seed():
    assert len({tuple(changes.values()) for changes in EIGHT}) == len(EIGHT) == 8
    assert all(len({changes[name] for changes in EIGHT}) > 1 for name in EIGHT[0])
