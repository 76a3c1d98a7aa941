from benchmarks.gpu.page import DESCRIBED, page

ROW = {"method": "FT-Full", "norm": "group_norm", "batch_size": 8, "precision": "tf32"}
PARTS = {
    "exactness": {"most": 2e-14, "rows": []},
    "memory": {"median": 0.001, "lowest": -0.02, "highest": 0.03, "rows": [{}] * 40},
    "syncs": {"waits": False},
    "two_ranks": {"off_most": 1e-7},
    "times": {
        "left": 3,
        "rows": [
            ROW
            | {"stock_ms": 10.0, "stock_nchw_ms": 9.0, "stock_compiled_ms": 4.0, "lean_ms": 12.5}
            | {"lean_to_stock": 1.389}
        ],
    },
    "processes": {"rows": [{"processes": 1, "steps_per_s": 80.0}, {"processes": 2, "steps_per_s": 120.5}]},
}


def test_each_part_is_a_paragraph_and_times_are_a_table() -> None:
    text = page({"gpu": "A card", "torch": "2.11", "parts": PARTS})
    assert text.startswith("A card, torch 2.11\n\nexactness: lean gradients in float64 are off by 2.0e-14")
    assert "off by 0.1% in the median, -2.0% to +3.0%" in text
    assert "times: milliseconds of a step, 3 left for the next call" in text
    head, row = text.split("next call\n")[1].splitlines()[:2]
    assert len(head) == len(row) and row.split()[2:] == ["8", "tf32", "10.0", "9.0", "4.0", "12.5", "1.389"]
    assert "1: 80, 2: 120.5" in text and "a step does not wait for the GPU" in text


def test_a_part_that_is_missing_or_failed_is_told() -> None:
    text = page({"gpu": None, "torch": "2.11", "parts": {"syncs": {"error": "RuntimeError: synced"}}})
    assert "syncs: failed, RuntimeError: synced" in text and text.startswith("no GPU")
    assert text.count("not run yet") == len(DESCRIBED) - 1
