from tuner.results import StudyStatus, TrialResult
from tuner.tables import counts_line, front_table, short


def test_counts_leave_out_what_is_zero():
    trials = {"complete": 3, "pruned": 0, "failed": 1, "infeasible": 2, "running": 0}
    assert (
        counts_line(StudyStatus("s", 4, trials, []))
        == "s: 3 complete, 1 failed, 2 infeasible (of 4 requested)"
    )
    assert counts_line(StudyStatus("s", 4, {}, [])) == "s: no trials (of 4 requested)"


def test_the_front_shows_accuracy_memory_and_time():
    result = TrialResult(
        trial="joint-003",
        accuracy_top1=0.91234,
        peak_memory_mib=45.67,
        epoch_time_s=3.21,
        params={"base_lr": 0.00031415, "downsample_ratio": None, "method": "TinyTL-B"},
    )
    table = front_table([result])
    cells = [next(iter(column.cells)) for column in table.columns]
    assert cells == [
        "joint-003",
        "0.912",
        "45.7",
        "3.2",
        "base_lr 0.00031, downsample_ratio none, method TinyTL-B",
    ]


def test_values_are_short():
    assert [short(v) for v in (None, 1e-5, 0.25, 8, "adam", True)] == [
        "none",
        "1e-05",
        "0.25",
        "8",
        "adam",
        "True",
    ]
