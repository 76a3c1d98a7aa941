import json

from benchmarks.shared.places import RESULTS, ROOT


def test_the_page_has_the_committed_figures():
    page = (ROOT / "docs" / "data.md").read_text()
    (path,) = RESULTS.glob("data_throughput_*.json")
    found = {}
    for row in json.loads(path.read_text())["loading"]:
        found.setdefault((row["loading"], row["workers"]), []).append(f"{row['images_per_s']:,.0f}")
    assert len(found) == 4
    for figures in found.values():
        assert f"| {' | '.join(figures)} |" in page
