import math

import pytest

from tests.support import mlflow_studies as made
from tinytl.runs.record import read_run
from tuner.record.trials import known, merged_trials, read_params, read_rows


def test_a_trial_is_its_last_attempt(tmp_path):
    study = made.every_kind(made.prepared_study(tmp_path))
    trials = {trial.name: trial for trial in merged_trials(study.trials, driver_is_gone=True)}
    assert [trials[made.trial_name(index)].state for index in range(8)] == [
        "complete",
        "pruned",
        "failed",
        "infeasible",
        "complete",
        "interrupted",
        "interrupted",
        "complete",
    ]
    resumed = trials[made.trial_name(4)]
    assert resumed.start < resumed.last_start < resumed.end
    assert trials[made.trial_name(1)].stopped_at == 1
    assert trials[made.trial_name(2)].failure == "the loss is nan at step 7"
    assert trials[made.trial_name(3)].failure == "out of memory"
    last = merged_trials(study.trials)[6]
    assert (last.state, known(last.accuracy_top1), last.end) == ("running", None, None)


@pytest.mark.parametrize(("figure", "expected"), [(0.5, 0.5), (0.0, 0.0), (math.nan, None)])
def test_a_figure_that_a_trial_lacks_is_none(figure, expected):
    assert known(figure) == expected


def test_lines_that_are_none_are_left_out(tmp_path):
    assert read_rows(tmp_path) == [] and read_params(tmp_path) == {}
    lines = [
        '{"epoch": 2, "loss": 9}',
        '{"epoch": 1}',
        '{"epoch": 2, "loss": 1}',  # of the weights that went on
        "[]",
        '{"epoch": 1e999}',
        '{"ep',
    ]
    (tmp_path / "metrics.jsonl").write_bytes("\n".join(lines).encode() + b"\xff")
    assert [row for row, _ in read_rows(tmp_path)] == [{"epoch": 1}, {"epoch": 2, "loss": 1}]


def test_a_trial_s_epochs_are_read_as_a_run_s_are(make_run):
    folder = make_run("a", epochs=2)
    with (folder / "metrics.jsonl").open("a") as lines:
        lines.write('{"epoch": 2, "accuracy_top1": 0.1}\n{"epoch": 3, "acc')
    assert [row for row, _ in read_rows(folder)] == list(read_run(folder).epochs)
    assert read_run(folder).series("accuracy_top1")[-1] == 0.1
