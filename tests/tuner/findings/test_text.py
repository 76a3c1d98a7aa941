import dataclasses
import math

import pytest
from rich.console import Console

from tinytl.config.plan import Plan
from tuner.findings.importance import Importance
from tuner.findings.text import (
    accuracy_text,
    counts_line,
    describe,
    front_table,
    hypervolume_line,
    importance_line,
    point_name,
    short,
    slowdown_text,
)
from tuner.record.confirmed import ConfirmedResult
from tuner.record.reading import StudyReading
from tuner.record.trials import Trial


def result(name: str, *, confirmed=None, test=None, **params) -> Trial:
    figures = {"accuracy_top1": 0.91234, "peak_memory_mib": 45.67, "epoch_time_s": 3.21}
    on_test = {} if test is None else {"accuracy_top1": test}
    return Trial(name=name, **figures, params=params, confirmed=confirmed, on_test=on_test)


def confirmed(**changes) -> ConfirmedResult:
    fields = {"own": 0.91, "again": {1: 0.90, 2: 0.92}}
    return ConfirmedResult(**fields | changes)


def lines_of(table, width=80) -> list[str]:
    console = Console(width=width)
    with console.capture() as captured:
        console.print(table)
    return [line.rstrip() for line in captured.get().splitlines()]


def row_of(table, width=80) -> list[str]:
    (line,) = [line for line in lines_of(table, width) if line.startswith(" joint-003")]
    return line.split(maxsplit=4)


def test_a_dot_is_named_by_its_baseline_its_method_and_its_network_if_there_are_several():
    one, two = (result(f"a-{i}", backbone=name, method="FT-Last") for i, name in enumerate(["b", "timm/c"]))
    assert point_name(one, [one]) == "FT-Last"
    assert [point_name(trial, [one, two]) for trial in (one, two)] == ["b\nFT-Last", "c\nFT-Last"]
    started = Trial(name="a", params={"method": "FT-Last"}, source="baseline smallest")
    assert point_name(started, [one]) == "smallest"
    assert point_name(Trial(name="a", params={}), [one]) == ""


def test_counts_leave_out_what_is_zero():
    trials = {"complete": 3, "pruned": 0, "failed": 1, "infeasible": 2, "running": 0}
    assert (
        counts_line(StudyReading(name="s", requested=4, states=trials))
        == "s: 3 complete, 1 failed (of 4 requested); 2 more infeasible, not counted"
    )
    assert counts_line(StudyReading(name="s", requested=4)) == "s: no trials (of 4 requested)"


def test_the_front_shows_accuracy_memory_and_time_then_names_and_numbers():
    table = front_table([result("joint-003", base_lr=0.00031415, downsample_ratio=None, method="TinyTL-B")])
    assert row_of(table, 110) == [
        "joint-003",
        "0.912",
        "45.7",
        "3.2",
        "TinyTL-B, base_lr 0.00031, downsample_ratio none",
    ]


def test_the_test_images_have_a_column_with_errors_if_the_terminal_is_wide_enough():
    trial = result("joint-003", test=0.9, method="TinyTL-B")
    assert row_of(front_table([trial]), 110)[2] == "0.900"
    trial = dataclasses.replace(trial, on_test={"accuracy_top1": 0.9, "accuracy_top1_standard_error": 0.02})
    assert "0.912   0.900 ± 0.020       45.7" in " ".join(lines_of(front_table([trial], 110), 110))
    narrow = " ".join(lines_of(front_table([trial], 56), 56))
    assert "0.912   0.900       45.7" in narrow and "±" not in narrow


def test_a_trial_that_computed_no_epoch_whole_has_no_time():
    trial = dataclasses.replace(result("joint-003", method="FT-Last"), epoch_time_s=math.nan)
    assert row_of(front_table([trial]), 110)[3] == "-"


def test_a_baseline_is_named():
    trial = dataclasses.replace(result("joint-003", method="TinyTL-B"), source="baseline tinytl_paper")
    assert row_of(front_table([trial]), 110)[-1] == "tinytl_paper, TinyTL-B"
    given = dataclasses.replace(trial, source="front of other")
    assert row_of(front_table([given]), 110)[-1] == "TinyTL-B"


def test_a_trial_is_one_line_however_narrow_the_terminal():
    many = {f"parameter_{i}": i for i in range(20)}
    table = front_table([result("joint-003", method="TinyTL-B", **many)])
    assert row_of(table)[-1].startswith("TinyTL-B, parameter_0 0") and row_of(table)[-1].endswith("…")


@pytest.mark.parametrize(
    ("prefix", "width", "without"),
    [
        ("joint", 110, ()),
        ("a_search_space_with_a_long_name", 110, ("a_search_space_with",)),
        ("a_search_space_with_a_long_name", 80, ("a_search_space_with", "epoch s")),
        ("joint", 60, ("joint-", "epoch s", "slowdown")),
    ],
)
def test_a_narrow_terminal_has_shorter_names_then_fewer_columns_and_every_figure_whole(
    prefix, width, without
):
    plan = Plan(
        micro_batch_size=1, checkpoint="none", stock_below_kib=0.0, peak_memory_mib=45.7, slowdown=1.8
    )
    front = [
        dataclasses.replace(
            result(
                f"{prefix}-{index:03d}", test=0.9, confirmed=confirmed(), method="TinyTL-L+B", lr=0.1 * index
            ),
            curve=[plan],
            measured_slowdown=1.74,
            standard_error=0.008,
        )
        for index in range(2)
    ]
    lines = lines_of(front_table(front, width), width)
    assert max(map(len, lines)) <= width
    body = lines[2:6]
    for words in ("0.910 ± 0.010", "0.900", "45.7", "-001"):
        assert any(words in line for line in body)
    for words in without:
        assert not any(words in line for line in body)
    shown = " ".join(lines)
    assert (f"… stands for {prefix}." in shown) is bool(without)
    assert ("Left out, for width: " in shown) is ("epoch s" in without)


def test_what_the_front_has_in_common_stands_below():
    lines = lines_of(front_table([result("joint-003", a=1, b=2), result("joint-004", a=1, b=3)]))
    assert lines[-1].strip() == "All have a 1."
    assert [line.split("   ")[-1].strip() for line in lines[4:6]] == ["b 2", "b 3"]
    # A parameter that one of them does not have is not in common.
    assert "All have" not in lines_of(front_table([result("x", a=1), result("y", b=1)]))[-1]


def test_accuracy_over_seeds_and_on_test_images_where_there_is_any():
    front = [result("joint-003", confirmed=confirmed()), result("joint-004", test=0.9)]
    lines = lines_of(front_table(front))
    assert "accuracy   seeds    test   peak MiB" in lines[2]
    assert "0.910 ± 0.006       3       -" in lines[4]
    assert "0.912       1   0.900" in lines[5]
    assert "seeds" not in lines_of(front_table([result("joint-003"), result("joint-004")]))[2]
    assert "test" not in lines_of(front_table([result("joint-003"), result("joint-004")]))[2]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "0.910 ± 0.006 (3 seeds)"),
        ({"failures": {3: "loss is not finite"}}, "0.910 ± 0.006 (3 seeds, 1 failed)"),
        ({"again": {}, "failures": {1: "loss is not finite"}}, "0.910 (1 seed, 1 failed)"),
    ],
)
def test_accuracy_over_seeds(changes, text):
    assert accuracy_text(result("joint-003", confirmed=confirmed(**changes))) == text


def test_an_accuracy_has_its_standard_error_of_images_and_of_seeds():
    one = dataclasses.replace(result("a"), standard_error=0.008)
    assert accuracy_text(one) == "0.912 ± 0.008"
    assert accuracy_text(dataclasses.replace(one, confirmed=confirmed())) == "0.910 ± 0.010 (3 seeds)"


def test_the_hypervolume_names_its_reference_point():
    trials = [
        Trial(name="a", params={}, accuracy_top1=0.75, peak_memory_mib=20.0),
        Trial(name="b", params={}, accuracy_top1=0.5, peak_memory_mib=60.0),
    ]
    line = hypervolume_line(StudyReading(name="s", trials=trials, budget_mib=80.0))
    assert line == "Hypervolume 0.562 of 1 (reference: accuracy 0 in 80.0 MiB, the budget)"
    without = hypervolume_line(StudyReading(name="s", trials=trials))
    assert without == "Hypervolume 0.500 of 1 (reference: accuracy 0 in 60.0 MiB, the largest seen)"
    assert hypervolume_line(StudyReading(name="s", trials=trials, searches_memory=False)) is None
    assert hypervolume_line(StudyReading(name="s")) is None


def test_the_measured_slowdown_stands_beside_the_predicted():
    plan = Plan(micro_batch_size=1, checkpoint="none", stock_below_kib=0.0, peak_memory_mib=9.0, slowdown=1.8)
    trial = Trial(name="a", params={}, peak_memory_mib=9.0, curve=[plan])
    assert slowdown_text(trial) == "1.80"
    assert slowdown_text(dataclasses.replace(trial, measured_slowdown=1.744)) == "1.80 (1.74)"
    assert slowdown_text(Trial(name="old", params={}, peak_memory_mib=9.0)) == "-"


def test_the_most_important_parameters():
    shares = {"method": 0.6, "norm": 0.2, "a": 0.1, "b": 0.06, "c": 0.03, "d": 0.01}
    found = Importance(shares, {name: share / 2 for name, share in shares.items()})
    line = importance_line("Memory", found)
    assert line == "Memory depends on method 60 ± 30 %, norm 20 ± 10 %, a 10 ± 5 %, b 6 ± 3 %"
    found = Importance({"a": 0.99, "b": 0.01}, {"a": 0.0, "b": 0.0})
    assert importance_line("Memory", found) == "Memory depends on a 99 ± 0 %"
    assert importance_line("Accuracy", Importance({}, {})) == "Accuracy depends on none of the parameters"


def test_a_long_value_is_cut_in_lists():
    assert short("a" * 60) == "a" * 60
    assert short("a" * 59 + "bc") == "a" * 59 + "…"
    assert describe({"update_scheme": "a" * 100}) == f"update_scheme {'a' * 59}…"


def test_values_are_short():
    assert [short(v) for v in (None, 1e-5, 0.25, 8, "adam", True)] == [
        "none",
        "1e-05",
        "0.25",
        "8",
        "adam",
        "True",
    ]
