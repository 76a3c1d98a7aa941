import csv
import json
from dataclasses import replace

import pytest
from rich.console import Console

from tests.support.synthetic_study import write_study
from tinytl.config.plan import Plan
from tinytl.errors import ConfigError
from tuner.__main__ import main
from tuner.findings.compare import cells, compare, lines_of, print_comparison, spanning_budgets
from tuner.record.reading import StudyReading
from tuner.record.trials import Trial

SAME = {"dataset": "d", "images_digest": "ab", "epochs": 3}


def trial(name, accuracy, *peaks):
    curve = [
        Plan(
            micro_batch_size=8, checkpoint="none", stock_below_kib=0, peak_memory_mib=peak, slowdown=1.0 + at
        )
        for at, peak in enumerate(peaks)
    ]
    return Trial(name=name, params={}, accuracy_top1=accuracy, peak_memory_mib=peaks[-1], curve=curve)


def study(name, *trials, runs_dir="runs", settings=(), shared=(), **attributes):
    return StudyReading(
        name=name,
        trials=trials,
        runs_dir=runs_dir,
        states={"complete": len(trials)},
        attributes=SAME | attributes | {"settings": dict(shared)},
        settings=dict(settings),
    )


A = study("a", trial("a-0", 0.7, 30.0, 20.0), trial("a-1", 0.9, 80.0))
B = study("b", trial("b-0", 0.8, 40.0))


def test_each_has_its_best_under_the_same_budgets_with_its_fastest_plan():
    found = compare([A, B], [35, 40, 100])
    best = {
        c.study.name: {b: t and (t.name, t.peak_memory_mib) for b, t in c.best.items()} for c in found.studies
    }
    assert best == {
        "a": {35: ("a-0", 30.0), 40: ("a-0", 30.0), 100: ("a-1", 80.0)},
        "b": {35: None, 40: ("b-0", 40.0), 100: ("b-0", 40.0)},
    }
    assert [found.leaders(budget) for budget in (35, 40, 100)] == [{"a"}, {"b"}, {"a"}]
    near = study("b", replace(B.trials[0], accuracy_top1=0.86, standard_error=0.02))
    sure = study("a", *(replace(one, standard_error=0.01) for one in A.trials))
    assert compare([sure, near], [100]).leaders(100) == {"a", "b"}  # 4 points, of 2.2 each
    far = study("b", replace(B.trials[0], accuracy_top1=0.85, standard_error=0.02))
    assert compare([sure, far], [100]).leaders(100) == {"a"}
    titles, rows = cells(found)
    assert titles == ["study", "complete", "35 MiB", "40 MiB", "100 MiB", "hypervolume"]
    assert rows[1][:5] == ["b", "1", "-", "0.800 (40.0) *", "0.800 (40.0)"]


@pytest.mark.parametrize("width", [110, 60])
def test_no_figure_is_cut_off_in_a_narrow_terminal(width):
    console = Console(width=width)
    with console.capture() as captured:
        print_comparison(console, compare([A, B], [35, 40, 60, 80]))
    lines = captured.get().splitlines()
    table = lines[next(i for i, line in enumerate(lines) if line.startswith("study")) :]
    assert max(map(len, table)) <= width and "…" not in captured.get()
    assert table[0].split()[1:3] == (["complete", "35"] if width == 110 else ["a", "b"])
    for words in ("0.700 (30.0) *", "0.800 (40.0) *", "0.900 (80.0) *", "hypervolume"):
        assert any(words in line for line in table)


def test_gains_over_baselines_and_errors_are_told():
    baseline = replace(trial("b-1", 0.5, 40.0), source="baseline user_report", standard_error=0.02)
    best = replace(B.trials[0], standard_error=0.015)
    found = compare([A, study("b", best, baseline)], [40])
    assert lines_of(found)[-1] == "b: the search gained 30.0 ± 2.5 points over user_report."
    gain = found.to_json()["studies"][1]["gains"]["user_report"]
    assert gain == pytest.approx({"mean": 0.3, "standard_error": 0.025})
    assert cells(found, errors=True)[1][1][2] == "0.800 ± 0.015 (40.0) *"


def test_hypervolumes_have_one_reference():
    found = compare([A, B], [100])
    assert found.reference_mib == 80.0
    assert [c.hypervolume.fraction for c in found.studies] == pytest.approx([0.7 * 60 / 80, 0.8 * 40 / 80])


def test_budgets_span_the_fronts_if_none_are_given():
    budgets = spanning_budgets([A, B])
    assert budgets == sorted(budgets) and len(budgets) == 4
    assert budgets[0] == 20 and 80 <= budgets[-1] < 88
    assert compare([A, B]).budgets_mib == budgets
    assert spanning_budgets([B]) == [40.0]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (study("b", *B.trials, dataset="e"), "they are of different images (dataset: a d, b e)"),
        (
            study("b", *B.trials, images_digest="cd"),
            "they are of different images (images digest: a ab, b cd)",
        ),
        (
            study("b", *B.trials, shared={"metric": "macro_f1"}),
            "the metric differs (a accuracy_top1, b macro_f1)",
        ),
    ],
)
def test_what_cannot_be_compared_is_said_and_nothing_leads(other, said):
    found = compare([A, other], [100])
    assert found.differences == [said] and not found.comparable
    assert found.leaders(100) == set() and "*" not in str(cells(found))
    assert lines_of(found)[0] == f"Accuracies cannot be compared: {said}."
    assert found.to_json()["comparable"] is False


def test_what_else_differs_is_named_and_what_is_not_known_is_no_difference():
    found = compare([A, study("b", *B.trials, epochs=5, images_digest=None)])
    assert found.comparable and found.notes == ["epochs: a 3, b 5"]
    assert "They differ in epochs: a 3, b 5." in lines_of(found)


@pytest.mark.parametrize(
    ("studies", "budgets", "said"),
    [
        ([A], [], "name two studies or more"),
        ([A, A], [], "each once"),
        ([A, B], [0], "--under-mib 0: must be a number above 0"),
        ([study("a"), study("b")], [], "there is no complete trial in a, b"),
    ],
)
def test_bad_input_is_one_line(studies, budgets, said):
    with pytest.raises(ConfigError, match=said):
        compare(studies, budgets)


def test_studies_of_one_name_in_two_folders_are_two():
    found = compare([A, replace(B, name="a", runs_dir="other")], [100])
    assert found.comparable and found.leaders(100) == {"a (runs)"}
    assert [row[0] for row in cells(found)[1]] == ["a (runs)", "a (other)"]


def test_a_study_without_results_has_no_figures():
    found = compare([A, study("b")], [100])
    assert cells(found)[1][1] == ["b", "0", "-", "-"]


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    write_study(folder, "many", 8, 3)
    write_study(folder, "more", 12, 3)
    return folder


def test_the_command_prints_a_row_per_study(runs_dir, capsys):
    argv = ["compare", "many", "more", "--runs-dir", str(runs_dir)]
    assert main([*argv, "--under-mib", "100"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[-2:]] == ["many", "more"] and "100 MiB" in lines[-3]
    assert main([*argv, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {row["study"] for row in found["best"]} == {"many", "more"}
    assert main(["compare", "many", "--runs-dir", str(runs_dir)]) == 2
    assert capsys.readouterr().err == "tuner compare: name two studies or more to compare, each once\n"


def test_the_command_writes_files_beside_json(runs_dir, tmp_path, capsys):
    argv = ["compare", "many", "more", "--runs-dir", str(runs_dir), "--out", str(tmp_path / "a b")]
    assert main([*argv, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(
        (tmp_path / "a b" / "comparison.json").read_text()
    )
    with (tmp_path / "a b" / "comparison.csv").open() as file:
        assert {row["study"] for row in csv.DictReader(file)} == {"many", "more"}
