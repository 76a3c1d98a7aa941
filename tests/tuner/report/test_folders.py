import pytest

from tests.support import mlflow_studies as made
from tuner.record import schema
from tuner.record.reading import open_study
from tuner.report.folders import largest, largest_of, read_folders


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1.0, 3.0, 2.0], 3.0), ([None, 2.0], 2.0), ([float("nan"), "?", 0.0, -1.0], None), ([], None)],
)
def test_a_figure_of_a_trial_is_the_largest_that_is_one(values, expected):
    rows = {"a": [{"epoch": index, "measured_peak_mib": value} for index, value in enumerate(values, 1)]}
    assert largest("measured_peak_mib", rows["a"]) == expected
    assert largest_of("measured_peak_mib", rows) == ({} if expected is None else {"a": expected})
    assert largest_of("process_peak_mib", rows) == {}


def test_what_is_missing_is_named(tmp_path):
    prepared = made.prepared_study(tmp_path)
    made.every_kind(prepared).set_user_attr(schema.EPOCHS, made.EPOCHS)
    (prepared.folder / made.trial_name(0) / "metrics.jsonl").unlink()
    (prepared.folder / made.trial_name(7) / "metrics.jsonl").write_text('{"epoch": 1}\n{"epo')
    rows, notes = read_folders(open_study(made.NAME, str(tmp_path)))
    assert rows[made.trial_name(0)] == [] and len(rows[made.trial_name(4)]) == made.EPOCHS
    assert [note.partition(":")[0] for note in notes] == [
        f"No metrics in the folders of {made.trial_name(0)}",
        f"Epochs are missing in the metrics of {made.trial_name(7)}",
    ]
