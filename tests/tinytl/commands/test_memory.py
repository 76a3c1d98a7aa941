import json
from pathlib import Path

import pytest

from tests.support.cases import exists
from tinytl.__main__ import main
from tinytl.config.names import ENGINES, METHODS, NORMS
from tinytl.config.plan import Needs
from tinytl.config.train_config import TrainConfig
from tinytl.memory.prediction import PARTS, MemoryPrediction

SMALL = "--backbone mobilenet_v2 --resolution 32 --device cpu".split()
ROW = ["predicted_peak_mib", "stock_inference_peak_mib", "paper_mb", "breakdown_mib", "peak_at", "plan"]


def _memory(*more: str) -> list[str]:
    return ["memory", *SMALL, "--method", "FT-Last", "--batch-size", "2", *more]


def test_memory_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(_memory("--json")) == 0
    row = json.loads(capsys.readouterr().out)
    assert list(row) == ROW
    assert tuple(row["breakdown_mib"]) == PARTS
    assert sum(row["breakdown_mib"].values()) == pytest.approx(row["predicted_peak_mib"])

    assert main(_memory("--json", "--measure")) == 0
    measured = json.loads(capsys.readouterr().out)
    assert set(measured) - set(row) == {"measured_peak_mib", "process_peak_mib"}
    assert {key: measured[key] for key in row} == row
    assert 0 < measured["measured_peak_mib"] < measured["process_peak_mib"]

    assert main(_memory("--measure")) == 0
    text = capsys.readouterr().out
    assert f"predicted peak         {row['predicted_peak_mib']:8.1f} MiB at {row['peak_at']}" in text
    assert "measured peak" in text


@pytest.fixture
def quick_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for predictions that take a second each; each configuration has its own figure."""

    def predict(config: TrainConfig) -> MemoryPrediction:
        peak = (
            METHODS.index(config.method)
            + 10.0 * NORMS.index(config.norm)
            + 100.0 * config.samples_in_memory
            + 1000.0 * ENGINES.index(config.engine)
        )
        return MemoryPrediction(peak_mib=peak, parts_mib={"temporary": peak}, peak_at="here forward")

    monkeypatch.setattr("tinytl.memory.table.predict_memory", predict)
    monkeypatch.setattr(
        "tinytl.memory.predict.needs_of", lambda choice: Needs(predict(choice).peak_mib, lambda: 1.0)
    )
    monkeypatch.setattr("tinytl.memory.table.predict_memories", lambda configs: None)
    monkeypatch.setattr("tinytl.memory.table.stock_inference_peak_mib", lambda config: 5.0)
    monkeypatch.setattr("tinytl.memory.table.paper_memory", lambda config: 7.0)


@pytest.mark.usefixtures("quick_figures")
def test_table_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    words = _memory("--all", "--micro-batch-size", "1")
    assert main(words) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[:5] for row in rows] == [
        [norm, method, engine, str(micro), f"{m + 10 * n + 100 * micro + 1000 * e:.1f}"]
        for n, norm in enumerate(NORMS)
        for m, method in enumerate(METHODS)
        if exists(method, norm)
        for e, engine in reversed(list(enumerate(ENGINES)))
        for micro in [2 if norm == "batch_norm" else 1]
    ]
    assert len(rows) == 58

    assert main([*words, "--engine", "lean", "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert len(table) == 29
    for row in table:
        of_sparse = ["update_scheme"] if row["method"] == "Sparse" else []
        assert list(row) == ["method", "norm", "engine", "micro_batch_size", *ROW, *of_sparse]


@pytest.mark.usefixtures("quick_figures")
@pytest.mark.parametrize("name", ["memory.png", "memory.SVG"])
def test_figure_of_all(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(_memory("--all", "--figure", str(tmp_path / name))) == 0
    assert (tmp_path / name).stat().st_size > 1000
    assert len(capsys.readouterr().out.splitlines()) == 2 + 20 + 36 + 40


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--micro-batch-size 3", "micro_batch_size=3 is above batch_size=2"),
        ("--figure memory.png", "--figure draws what --all or --curve prints: give one of them too"),
        ("--all --figure memory.bmp", "--figure memory.bmp: name a file that ends in .png or .svg"),
        ("--all --figure /nowhere/memory.png", "--figure /nowhere/memory.png: no such folder as /nowhere"),
        ("--plan budget", "plan=budget without budget_mib: give the budget in MiB"),
        (
            "--all --plan budget --budget-mib 9",
            "--all shows what each needs, over the budget or not: leave out --plan budget",
        ),
        ("--budget-mib 9", "budget_mib=9 has no effect with plan=fast: use plan=budget"),
    ],
)
def test_mistakes_in_memory(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(_memory(*words.split())) == 2
    assert capsys.readouterr() == ("", f"tinytl memory: {message}\n")


@pytest.mark.usefixtures("quick_figures")
def test_what_an_alias_stands_for_is_said_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(_memory("--method", "bias")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "method bias stands for TinyTL-B"
    assert lines[1].startswith("TinyTL-B on mobilenet_v2")
    assert main(_memory("--method", "bias", "--json")) == 0
    assert "paper_mb" in json.loads(capsys.readouterr().out)


def test_plans_in_memory(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(_memory("--json", "--plan", "smallest")) == 0
    least = json.loads(capsys.readouterr().out)
    assert least["plan"] == {
        "plan": "smallest",
        "micro_batch_size": 1,
        "checkpoint": "none",
        "stock_below_kib": 0.0,
        "memory_format": None,
        "slice_mib": None,
        "cuda_graph": None,
    }
    assert main(_memory("--plan", "budget", "--budget-mib", "1")) == 2
    assert capsys.readouterr() == (
        "",
        "tinytl memory: budget_mib=1 is under the least that FT-Last with frozen_bn on mobilenet_v2 needs at "
        f"32 px: {least['predicted_peak_mib']:.1f} MiB with micro-batches of 1, nothing recomputed, "
        f"at {least['peak_at']}, most of it parameters ({least['breakdown_mib']['parameters']:.1f} MiB)\n",
    )
    assert main(_memory("--checkpoint", "all")) == 0
    assert "plan fast: micro-batches of 2, every block recomputed" in capsys.readouterr().out


def test_curve_as_text_json_and_figure(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    figure = tmp_path / "curve.svg"
    assert main(_memory("--curve", "--json")) == 0
    row = json.loads(capsys.readouterr().out)
    plans = row["curve"]
    assert row["predicted_peak_mib"] == plans[0]["peak_memory_mib"] and "measured_peak_mib" not in row
    assert (plans[0]["micro_batch_size"], plans[-1]["micro_batch_size"]) == (2, 1)
    assert plans[0]["slowdown"] == 1.0 < plans[-1]["slowdown"]
    assert plans[0]["peak_memory_mib"] > plans[-1]["peak_memory_mib"]

    assert main(_memory("--curve", "--figure", str(figure))) == 0
    title, header, *rows = capsys.readouterr().out.splitlines()
    assert title.endswith(": plans that no other beats")
    assert header.split() == ["MiB", "slowdown", "at", "a", "time", "recomputed"]
    assert [float(row.split()[0]) for row in rows] == [round(plan["peak_memory_mib"], 1) for plan in plans]
    assert all(row.endswith("█") for row in rows)
    assert figure.stat().st_size


def test_curve_with_what_was_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(_memory("--curve", "--measure", "--json")) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["measured_peak_mib"] == pytest.approx(row["curve"][0]["peak_memory_mib"], rel=0.02)
    assert main(_memory("--curve", "--measure")) == 0
    text = capsys.readouterr().out
    assert "measured peak" in text and "plans that no other beats" in text


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["--all"], "--curve shows one configuration, --all every method: give one of them"),
        (["--plan", "smallest"], "--curve shows every plan: leave out --plan smallest"),
        (["--plan", "budget", "--budget-mib", "40"], "--curve shows every plan: leave out --plan budget"),
    ],
)
def test_curve_stands_alone(more: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(_memory("--curve", *more)) == 2
    assert capsys.readouterr().err == f"tinytl memory: {line}\n"
