"""The script resumes: by parts, and by rows of times."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu import check as module
from benchmarks.gpu.check import METHODS, MUST, PARTS, Check, memory, times
from benchmarks.gpu.graph import NEEDS_GPU
from benchmarks.gpu.page import DESCRIBED


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A benchmark names the command that started it; these tests have none."""
    monkeypatch.setattr(module, "about", lambda: {"torch": torch.__version__})


def begun(path: Path) -> Check:
    return Check(torch.device("cpu"), path, quick=True)


def test_a_part_that_failed_runs_again_and_one_that_is_known_does_not(tmp_path: Path) -> None:
    path, calls = tmp_path / "check.json", []

    def failing(check: Check) -> Any:
        calls.append("failing")
        raise ValueError("no card")

    def fine(check: Check) -> Any:
        calls.append("fine")
        return {"most": 0.0}

    for part in (failing, fine, fine):
        begun(path).run("exactness", part)
    assert calls == ["failing", "fine"]
    assert json.loads(path.read_text())["parts"]["exactness"]["most"] == 0.0


def test_rows_of_times_are_written_as_they_end_and_the_next_call_does_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "check.json"
    monkeypatch.setattr(module, "prepared_step", lambda config, *change: lambda: None)
    monkeypatch.setattr(module, "WAYS", dict.fromkeys(module.WAYS, lambda config: lambda: None))
    ended = iter([False, False, True])  # the part begins, a row does, the next one does not
    monkeypatch.setattr(Check, "is_over", property(lambda check: next(ended, False)))
    monkeypatch.setattr(module, "_step_ms", lambda check, step: 1.0)
    begun(path).run("times", times)
    known = json.loads(path.read_text())["parts"]["times"]
    assert (len(known["rows"]), known["left"]) == (1, len(METHODS) - 1)
    begun(path).run("times", times)
    known = json.loads(path.read_text())["parts"]["times"]
    assert [row["method"] for row in known["rows"]] == [method for method, _ in METHODS]
    assert known["left"] == 0


def test_rows_of_memory_are_written_as_they_end_and_those_that_failed_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, asked = tmp_path / "check.json", []
    found = iter([{"predicted_mib": 1.0, "measured_mib": 2.0}, {"error": "full"}])
    good = {"predicted_mib": 1.0, "measured_mib": 1.0}
    monkeypatch.setattr(module, "_predicted_and_measured", lambda check, config: next(found, good))
    monkeypatch.setattr(module, "predict_ahead", lambda configs: asked.append(len(list(configs))))
    ended = iter([False, False, False, True])  # the part begins, two rows do, the next one does not
    monkeypatch.setattr(Check, "is_over", property(lambda check: next(ended, False)))
    begun(path).run("memory", memory)
    known = json.loads(path.read_text())["parts"]["memory"]
    assert (len(known["rows"]), known["left"]) == (2, 2) and "1 of 2" in known["error"]
    assert len(capsys.readouterr().out.splitlines()) == 3  # a line per row, and one for the part
    begun(path).run("memory", memory)
    known = json.loads(path.read_text())["parts"]["memory"]
    assert (len(known["rows"]), known["left"], known["lowest"]) == (4, 0, -0.5) and "error" not in known
    assert asked == [4, 3]


def test_figures_of_elsewhere_are_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "check.json"
    begun(path).run("exactness", lambda check: {"most": 0.0})
    assert begun(path).parts.keys() == {"exactness"}
    assert Check(torch.device("cpu"), path, quick=False).parts == {}
    path.write_text(path.read_text().replace('"gpu": null', '"gpu": "A card"'))
    assert begun(path).parts == {}


def test_rows_without_a_graph_are_measured_again_and_without_a_gpu_say_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "check.json"
    monkeypatch.setattr(module, "WAYS", dict.fromkeys(module.WAYS, lambda config: lambda: None))
    monkeypatch.setattr(module, "_step_ms", lambda check, step: 1.0)
    begun(path).run("times", times)
    known = json.loads(path.read_text())
    rows = known["parts"]["times"]["rows"]
    assert {row["not_recorded"] for row in rows} == {NEEDS_GPU}
    assert known["parts"]["times"]["must"] == MUST | {"found": None}
    for row in rows:
        del row["not_recorded"]
    path.write_text(json.dumps(known | {"parts": {"times": {"rows": rows, "left": 1}}}))
    begun(path).run("times", times)
    assert json.loads(path.read_text())["parts"]["times"]["left"] == 0


def test_the_must_is_about_the_slowest_row_of_its_batch() -> None:
    rows = [
        {"batch_size": n, "graph_to_stock": r, "lean_to_stock": 1.0}
        for n, r in ((8, 0.4), (8, 0.6), (1, 0.9))
    ]
    assert module._times_of(rows, 3)["must"]["found"] == 0.6


def test_the_page_describes_each_part() -> None:
    assert PARTS.keys() == DESCRIBED.keys()
