import json

import torch

from benchmarks.shared.places import RESULTS, ROOT
from benchmarks.transfer.label_errors import LIMIT, SHARE, flipped


def test_the_page_has_the_committed_figures() -> None:
    page = (ROOT / "docs" / "data.md").read_text()
    (path,) = RESULTS.glob("transfer_label_errors_*.json")
    result = json.loads(path.read_text())
    found = [row["found"] for row in result["rows"]]
    assert len(found) >= 3 and min(found) == result["least_found"] >= LIMIT
    assert result["share_flipped"] == SHARE == 0.05
    assert (
        f"first 5 % of the list hold\n  {100 * min(found):.0f} to {100 * max(found):.0f} % of the flipped"
        in page
    )


def test_a_flipped_label_is_always_another_class() -> None:
    labels = torch.arange(200) % 4
    changed, rows = flipped(labels, 4, 0.1, 0)
    assert len(rows) == 20 == len(set(rows.tolist()))
    differs = (changed != labels).nonzero()[:, 0]
    assert differs.tolist() == rows.tolist() and 0 <= changed.min() and changed.max() < 4
    assert flipped(labels, 4, 0.1, 1)[1].tolist() != rows.tolist()
