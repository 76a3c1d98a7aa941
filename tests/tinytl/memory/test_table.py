import dataclasses
from typing import Any

import pytest

from tests.support.cases import exists, small
from tinytl.config.flat import config_from_flat
from tinytl.config.names import LITE_METHODS, METHODS, NORMS
from tinytl.config.plan import Needs, describe, is_planned
from tinytl.config.train_config import TrainConfig
from tinytl.memory.predict import resolve_plan
from tinytl.memory.prediction import MemoryPrediction
from tinytl.memory.table import Row, all_rows, memory_row, row_text, table_text

CONFIG = small(norm="frozen_bn", method="TinyTL-B", optimizer="sgd")
Place = tuple[str, str, str, int]


@pytest.fixture(autouse=True)
def predicted(monkeypatch: pytest.MonkeyPatch) -> list[TrainConfig]:
    """Stands in for predictions and runs; returns the configurations that were predicted together."""
    together: list[TrainConfig] = []

    def predict(config: TrainConfig) -> MemoryPrediction:
        peak = 10.0 * config.samples_in_memory + (config.engine == "stock")
        parts = {"parameters": 4.0, "temporary": peak - 4.0}
        return MemoryPrediction(peak_mib=peak, parts_mib=parts, peak_at="features.2 backward")

    def needs_of(choice: TrainConfig) -> Needs:
        return Needs(predict(choice).peak_mib, lambda: 1.0 if choice.stock_below_kib else 2.0)

    def measure(config: TrainConfig) -> float:
        assert is_planned(config)
        return predict(config).peak_mib + 0.5

    monkeypatch.setattr("tinytl.memory.table.predict_memory", predict)
    monkeypatch.setattr("tinytl.memory.predict.needs_of", needs_of)
    monkeypatch.setattr("tinytl.memory.table.predict_memories", together.extend)
    monkeypatch.setattr("tinytl.memory.table.measure_memory", measure)
    monkeypatch.setattr("tinytl.memory.table.process_peak_mib", lambda: 300.0)
    monkeypatch.setattr("tinytl.memory.table.stock_inference_peak_mib", lambda config: 5.0)
    monkeypatch.setattr("tinytl.memory.table.paper_memory", lambda config: 7.0)
    return together


def places(rows: list[Row]) -> list[Place]:
    return [(row["norm"], row["method"], row["engine"], row["micro_batch_size"]) for row in rows]


def test_a_row_has_every_figure() -> None:
    row = {
        "predicted_peak_mib": 40.0,
        "stock_inference_peak_mib": 5.0,
        "paper_mb": 7.0,
        "breakdown_mib": {"parameters": 4.0, "temporary": 36.0},
        "peak_at": "features.2 backward",
        "plan": {
            "plan": "fast",
            "micro_batch_size": 4,
            "checkpoint": "none",
            "stock_below_kib": 1024.0,
            "memory_format": None,
            "slice_mib": None,
            "cuda_graph": None,
        },
    }
    assert memory_row(CONFIG, measure=False) == row
    measured = {"measured_peak_mib": 40.5, "process_peak_mib": 300.0}
    assert memory_row(CONFIG, measure=True) == row | measured


def test_a_row_is_that_of_the_planned_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve_plan(config: TrainConfig) -> TrainConfig:
        return dataclasses.replace(config, micro_batch_size=2, checkpoint="all", stock_below_kib=0.0)

    monkeypatch.setattr("tinytl.memory.table.resolve_plan", resolve_plan)
    config = dataclasses.replace(CONFIG, plan="smallest")
    row = memory_row(config, measure=True)
    assert (row["predicted_peak_mib"], row["measured_peak_mib"]) == (20.0, 20.5)
    assert row["plan"] == {
        "plan": "smallest",
        "micro_batch_size": 2,
        "checkpoint": "all",
        "stock_below_kib": 0.0,
        "memory_format": None,
        "slice_mib": None,
        "cuda_graph": None,
    }
    assert "lean engine, plan smallest: micro-batches of 2, every block recomputed" in row_text(config, row)


def test_all_rows_are_norms_methods_engines_and_micro_batches(predicted: list[TrainConfig]) -> None:
    rows = all_rows(CONFIG, {}, measure=False)
    assert places(rows) == [
        (norm, method, engine, micro)
        for norm in NORMS
        for method in METHODS
        if exists(method, norm)
        for engine in ("stock", "lean")
        for micro in ((4,) if norm == "batch_norm" else (4, 1))
    ]
    assert [row["predicted_peak_mib"] for row in rows] == [
        10.0 * micro + (engine == "stock") for _, _, engine, micro in places(rows)
    ]
    assert len(predicted) == len(rows)
    assert {config.optimizer for config in predicted} == {"sgd"}


@pytest.mark.parametrize(
    ("given", "engines", "micros"),
    [
        ({"engine": "stock"}, {"stock"}, {4, 1}),
        ({"engine": "lean"}, {"lean"}, {4, 1}),
        ({"micro_batch_size": 2}, {"stock", "lean"}, {2}),
        ({"engine": "lean", "micro_batch_size": 1}, {"lean"}, {1}),
        ({"batch_size": 1}, {"stock", "lean"}, {1}),
    ],
)
def test_what_is_given_stays(given: dict[str, Any], engines: set[str], micros: set[int]) -> None:
    config = dataclasses.replace(CONFIG, resolution=96, **given)
    found = places(all_rows(config, given, measure=False))
    assert len(found) == len(set(found))
    assert {engine for _, _, engine, _ in found} == engines
    assert {micro for norm, _, _, micro in found if norm != "batch_norm"} == micros
    assert {micro for norm, _, _, micro in found if norm == "batch_norm"} <= {config.batch_size}
    assert {norm for norm, *_ in found} == set(NORMS)


def test_one_sample_has_no_row_where_batch_norm_has_no_statistics() -> None:
    config = dataclasses.replace(CONFIG, batch_size=1, resolution=96)
    found = places(all_rows(config, {}, measure=False))
    assert {method for norm, method, *_ in found if norm == "batch_norm"} == set(METHODS) - set(LITE_METHODS)
    assert {method for norm, method, *_ in found if norm == "group_norm"} == set(METHODS)


def test_a_network_without_inverted_residuals_has_no_row_of_sparse(predicted: list[TrainConfig]) -> None:
    config = small(backbone="torchvision/resnet18")
    assert {row["method"] for row in all_rows(config, {}, False)} == {*METHODS} - {"Sparse"}


def test_what_an_alias_sets_for_one_method_does_not_reach_the_others() -> None:
    config = config_from_flat({"method": "deep"}, CONFIG)
    assert {row["method"] for row in all_rows(config, {}, measure=False)} == set(METHODS)


def test_weight_standardization_has_no_row_under_frozen_statistics() -> None:
    config = dataclasses.replace(CONFIG, norm="group_norm", weight_standardization=True)
    assert {row["norm"] for row in all_rows(config, {}, measure=False)} == {"batch_norm", "group_norm"}


def test_stock_has_nothing_between_none_and_all(predicted: list[TrainConfig]) -> None:
    all_rows(dataclasses.replace(CONFIG, checkpoint="depthwise"), {}, measure=False)
    assert {(c.engine, c.checkpoint) for c in predicted} == {("stock", "none"), ("lean", "depthwise")}


def test_row_text() -> None:
    text = row_text(CONFIG, memory_row(CONFIG, measure=False))
    assert text.splitlines() == [
        "TinyTL-B on mobilenet_v2, frozen_bn, batch 4, 32 px, 3 classes, sgd",
        f"  lean engine, plan fast: {describe(resolve_plan(CONFIG))}",
        "  predicted peak             40.0 MiB at features.2 backward",
        "    parameters                4.0 MiB",
        "    temporary                36.0 MiB",
        "  stock inference             5.0 MiB (whole batch)",
        "  the paper's formula         7.0 MB",
    ]
    more = row_text(CONFIG, memory_row(CONFIG, measure=True)).splitlines()
    assert [line for line in more if line not in text.splitlines()] == [
        "  measured peak              40.5 MiB (allocator)",
        "  whole process             300.0 MiB (resident)",
    ]


@pytest.mark.parametrize("measure", [False, True])
def test_table_text(measure: bool) -> None:
    lines = table_text(CONFIG, all_rows(CONFIG, {"engine": "lean"}, measure)).splitlines()
    assert lines[0] == (
        "mobilenet_v2, batch 4, 32 px, 3 classes, sgd; peak of a training step in MiB, "
        "the paper's formula in MB"
    )
    measured = ["measured"] if measure else []
    assert lines[1].split() == [
        "norm",
        "method",
        "engine",
        "micro",
        "predicted",
        *measured,
        "paper",
        "peak",
        "at",
    ]
    figures = ["40.0", "40.5", "7.0"] if measure else ["40.0", "7.0"]
    assert lines[2].split() == ["batch_norm", "FT-Last", "lean", "4", *figures, "features.2", "backward"]
    assert len(lines) == 2 + 10 + 9 * 2 + 10 * 2
    # Columns: every figure ends where its heading does.
    for heading in ("micro", "predicted", "paper", *measured):
        end = lines[1].index(heading) + len(heading)
        assert all(line[end - 1].isdigit() and line[end] == " " for line in lines[2:]), heading
