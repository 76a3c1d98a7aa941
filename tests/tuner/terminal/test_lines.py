import math

from rich.console import Console

from tuner.terminal.lines import TrialLines

ROW = {"accuracy_top1": 0.75, "peak_memory_mib": 20.0, "epoch_time_s": 1.5}


def test_a_time_of_an_epoch_that_read_features_says_so():
    console = Console(width=60)
    with console.capture() as captured, TrialLines(console, already_ended=0, requested=8) as lines:
        lines.epoch_ended("s-000", ROW | {"features_read": 0.985})
        lines.trial_ended("s-000", "complete", None)
    assert "1.5 s/epoch (98% of features read)  (0 s)" in captured.get()


def test_a_line_for_each_trial_that_ends():
    console = Console(width=60)
    with console.capture() as captured, TrialLines(console, already_ended=3, requested=8) as lines:
        lines.trial_started("s-003", {"method": "TinyTL-B"}, {}, "baseline user_report")
        lines.phase("says nothing")
        lines.epoch_ended("s-003", ROW | {"measured_peak_mib": 25.0})
        lines.trial_ended("s-003", "complete", None)
        lines.epoch_ended("s-004", ROW)
        lines.trial_ended("s-004", "pruned", "at epoch 1")
        lines.trial_ended("s-005", "failed", "loss is [not] finite")
        lines.trial_ended("s-006", "infeasible", "out of memory")
        lines.confirmed("s-003", 1, 0.5)
        lines.confirmed("s-003", 2, math.nan)
        lines.stopping()
    told = captured.get().splitlines()
    assert told[0] == (
        "[4/8] s-003 (user_report)  TinyTL-B  accuracy 0.750    20.0 MiB    1.5 s/epoch  "
        "(measured 25.0 MiB: the prediction is off by over 10%)  (0 s)"
    )
    assert told[1].startswith("[5/8] s-004  accuracy 0.750") and "stopped at epoch 1" in told[1]
    assert told[2] == "[6/8] s-005  failed: loss is [not] finite  (0 s)"
    assert told[3] == "s-006  infeasible, not counted: out of memory"
    assert told[4:6] == ["confirm  s-003  seed 1  accuracy 0.500", "confirm  s-003  seed 2  failed"]
    assert told[6].startswith("Stopping: ") and len(told) == 7
