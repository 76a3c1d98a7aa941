from benchmarks.gpu.check import MUST
from benchmarks.gpu.page import DESCRIBED, page

ROW = {"method": "FT-Full", "norm": "group_norm", "batch_size": 8, "precision": "tf32"}
PARTS = {
    "exactness": {"most": 2e-14, "rows": []},
    "memory": {"median": 0.001, "lowest": -0.02, "highest": 0.03, "rows": [{}] * 40},
    "syncs": {"waits": False},
    "graph": {"most": 3e-6, "rows": [{}] * 6},
    "two_ranks": {"off_most": 1e-7},
    "times": {
        "left": 3,
        "rows": [
            ROW
            | {"stock_ms": 10.0, "stock_nchw_ms": 9.0, "stock_compiled_ms": 4.0, "lean_ms": 12.5}
            | {"lean_to_stock": 1.389, "lean_graph_ms": 3.0, "graph_to_stock": 0.333}
        ],
        "must": {"batch_size": 8, "graph_to_stock": 0.5, "found": 0.333},
    },
    "processes": {"rows": [{"processes": 1, "steps_per_s": 80.0}, {"processes": 2, "steps_per_s": 120.5}]},
}


def test_each_part_is_a_paragraph_and_times_are_a_table() -> None:
    text = page({"gpu": "A card", "torch": "2.11", "parts": PARTS})
    assert text.startswith("A card, torch 2.11\n\nexactness: lean gradients in float64 are off by 2.0e-14")
    assert "off by 0.1% in the median, -2.0% to +3.0%" in text
    assert "times: milliseconds of a step, 3 left for the next call" in text
    head, row = text.split("next call\n")[1].splitlines()[:2]
    cells = ["8", "tf32", "10.0", "9.0", "4.0", "12.5", "3.0", "1.389", "0.333"]
    assert len(head) == len(row) and row.split()[2:] == cells
    assert "must: lean_graph at batch 8 within 0.5 of stock's time; at most 0.333, met\n" in text
    assert "graph: 6 trainings as CUDA graphs are off by 3.0e-06 of the largest change" in text
    assert "1: 80, 2: 120.5" in text and "a step does not wait for the GPU" in text


def test_a_part_that_is_missing_or_failed_is_told() -> None:
    text = page({"gpu": None, "torch": "2.11", "parts": {"syncs": {"error": "RuntimeError: synced"}}})
    assert "syncs: failed, RuntimeError: synced" in text and text.startswith("no GPU")
    assert text.count("not run yet") == len(DESCRIBED) - 1


def test_what_needs_a_gpu_is_said_in_a_sentence() -> None:
    why = {"why": "a graph needs a GPU"}
    row = {name: value for name, value in PARTS["times"]["rows"][0].items() if "graph" not in name}
    times = PARTS["times"] | {"rows": [row | {"not_recorded": why["why"]}], "must": MUST | {"found": None}}
    text = page({"gpu": None, "torch": "2.11", "parts": {"graph": why, "times": times}})
    assert "graph: a graph needs a GPU\n" in text
    assert "lean_graph was not measured: a graph needs a GPU\n" in text
    assert "within 0.5 of stock's time; at most not measured" not in text
    assert "within 0.5 of stock's time; not measured" in text


def test_a_must_that_is_missed_is_marked() -> None:
    times = PARTS["times"] | {"must": MUST | {"found": 0.7}}
    text = page({"gpu": "A card", "torch": "2.11", "parts": {"times": times}})
    assert "within 0.5 of stock's time; at most 0.7, missed" in text
