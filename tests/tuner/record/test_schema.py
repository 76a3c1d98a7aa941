"""The names in storages that studies of older versions have: a changed one loses what stands under it."""

from tests.support.mlflow_studies import every_kind, prepared_study
from tuner.record import schema

OF_STUDIES = (
    "requested_trials study_id sessions driver space parameters fixed dataset experiment classes images "
    "images_digest backbone weights epochs objectives max_slowdown settings"
).split()
OF_TRIALS = (
    "name source peak_memory_mib trained_memory_mib curve standard_error measured_peak_mib process_peak_mib "
    "measured_need_mib epoch_time_s infeasible failure dropped interrupted again rungs pruned_at "
    "memory_budget_mib"
).split()


def names() -> list[str]:
    return [value for key, value in vars(schema).items() if key.isupper() and isinstance(value, str)]


def test_a_name_is_neither_changed_nor_gone():
    assert names() == [*OF_STUDIES, *OF_TRIALS]


def test_no_two_names_of_a_study_or_of_a_trial_are_the_same():
    for of_one in (OF_STUDIES, OF_TRIALS):
        assert len(set(of_one)) == len(of_one)


def test_what_a_study_of_every_kind_of_trial_writes_stands_under_these_names(tmp_path):
    study = every_kind(prepared_study(tmp_path))
    assert set(study.user_attrs) <= set(OF_STUDIES)
    assert {key for trial in study.trials for key in trial.user_attrs} <= set(OF_TRIALS)


def test_the_states_that_count_are_among_those_that_are_counted():
    assert schema.ENDED == ("complete", "pruned", "failed")
    assert set(schema.STATES) - set(schema.ENDED) == {"infeasible", "running"}
