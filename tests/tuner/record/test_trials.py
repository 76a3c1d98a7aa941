from tests.support import mlflow_studies as made
from tuner.record.trials import read_params, read_rows, trial_records


def test_a_record_is_a_trial_s_last_attempt(tmp_path):
    study = made.every_kind(made.prepared_study(tmp_path))
    records = {record.name: record for record in trial_records(study, driver_is_gone=True)}
    states = [records[made.trial_name(index)].state for index in range(8)]
    assert states == [
        "complete",
        "pruned",
        "failed",
        "infeasible",
        "complete",
        "interrupted",
        "interrupted",
        "complete",
    ]
    assert [name[-3:] for name, record in records.items() if record.on_front] == ["000", "004"]
    assert records[made.trial_name(1)].stopped_at == 1
    assert records[made.trial_name(2)].failure == "the loss is nan at step 7"
    assert records[made.trial_name(3)].failure == "out of memory"
    last = trial_records(study, driver_is_gone=False)[6]
    assert (last.state, last.accuracy_top1, last.end) == ("running", None, None)


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
