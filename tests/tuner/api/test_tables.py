import math
from dataclasses import replace

import pytest

from tests.support import mlflow_studies as made
from tinytl.config.plan import Plan
from tuner.api.tables import baselines_table, columns_of, curve_table, front_table, trials_table
from tuner.record.reading import StudyReading
from tuner.record.trials import Trial

FAST = Plan(micro_batch_size=8, checkpoint="none", stock_below_kib=0.0, peak_memory_mib=30.0, slowdown=1.0)
SMALL = replace(FAST, micro_batch_size=1, checkpoint="all", peak_memory_mib=20.0, slowdown=1.7)
PLANNED = Trial(
    name="s-000",
    params={"base_lr": 0.1},
    accuracy_top1=0.8,
    peak_memory_mib=20.0,
    curve=[FAST, SMALL],
    source="baseline user_report",
)
WORSE = replace(PLANNED, name="s-001", accuracy_top1=0.7, peak_memory_mib=25.0, source=None, curve=())


@pytest.fixture
def planned():
    return StudyReading(name="s", trials=[PLANNED, WORSE])


def test_a_row_per_trial_with_figures_that_can_be_sorted(small):
    frame = trials_table(small.reading)
    assert list(frame["trial"]) == [made.trial_name(index) for index in range(8)]
    kinds = {column: kind.kind for column, kind in frame.dtypes.items()}
    assert {kinds[column] for column in frame.filter(regex="_mib$|_s$|_top1$|slowdown$|base_lr")} == {"f"}
    assert kinds["on_front"] == "b"
    assert frame.set_index("trial")["failure"][made.trial_name(2)] == "the loss is nan at step 7"
    assert math.isnan(frame["accuracy_top1"][2])


def test_a_study_without_trials_has_the_same_columns_and_no_rows(small):
    empty = StudyReading(name="s")
    for table in (trials_table, front_table, baselines_table):
        frame = table(empty)
        assert len(frame) == 0 and set(columns_of(empty)) <= set(frame.columns)
    assert list(curve_table(Trial(name="", params={})).columns)[:2] == ["peak_memory_mib", "slowdown"]


def test_the_front_has_pairs_of_configuration_and_plan(planned, small):
    (row,) = front_table(planned).to_dict("records")
    assert (row["trial"], row["peak_memory_mib"], row["slowdown"]) == ("s-000", 20.0, 1.7)
    assert (row["micro_batch_size"], row["checkpoint"], row["base_lr"]) == (1, "all", 0.1)
    older = front_table(small.reading)
    assert older["peak_memory_mib"].is_monotonic_increasing and older["micro_batch_size"].isna().all()


def test_baselines_have_their_names(planned):
    frame = baselines_table(planned)
    assert list(frame["baseline"]) == ["user_report"] and list(frame["trial"]) == ["s-000"]


def test_a_curve_names_the_plan_that_counts():
    frame = curve_table(PLANNED)
    assert list(frame["peak_memory_mib"]) == [30.0, 20.0] and list(frame["of_front"]) == [False, True]
    assert list(frame["plan"]) == [FAST.describe(), SMALL.describe()]
