import pytest

from tests.support import mlflow_studies as made
from tuner.record.reading import open_study
from tuner.tracking.runs import study_labels
from tuner.tracking.summary import StudySummary, table


@pytest.fixture
def summary(tmp_path):
    prepared = made.prepared_study(tmp_path)
    made.every_kind(prepared)
    (prepared.folder / "test_accuracy.json").write_text(f'{{"{made.trial_name(4)}": 0.25}}')
    study = open_study(made.NAME, str(tmp_path))
    return StudySummary(study=study, labels=study_labels(study, f"sqlite:///{tmp_path}/mlflow.db"))


def test_a_study_is_named_by_network_data_and_length(summary):
    epochs = summary.study.attributes["epochs"]
    assert summary.title == f"efficientnet_lite0 on digits, {epochs} epochs"


def test_studies_are_compared_by_their_front_and_their_best(summary):
    assert summary.metrics == {
        "hypervolume": summary.study.hypervolume.fraction,
        "best_accuracy_top1": summary.study.best.accuracy_top1,
        "best_peak_memory_mib": 44.0,
    }


def test_the_table_has_the_trials_that_ran_with_figures_before_what_was_searched(summary):
    names, cells = table(summary)
    assert names == [
        "trial",
        "state",
        "on_front",
        "accuracy_top1",
        "test_accuracy_top1",
        "balanced_accuracy",
        "macro_f1",
        "peak_memory_mib",
        "slowdown",
        "epoch_time_s",
        "base_lr",
    ]
    rows = {row[0]: row for row in cells}
    assert list(rows) == [made.trial_name(index) for index in (0, 1, 2, 4, 5, 6, 7)], "3 ran out of memory"
    assert rows[made.trial_name(4)][1:10] == [
        "complete",
        True,
        pytest.approx(0.43),
        0.25,
        None,
        None,
        44.0,
        None,
        0.5,
    ]
    assert rows[made.trial_name(1)][1:10] == ["pruned", False, *[None] * 4, 41.0, None, None]
