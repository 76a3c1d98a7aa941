from datetime import timedelta

from tests.tuner import mlflow_studies as made
from tuner.report_facts import duration, made_with, problems, where_flags
from tuner.trial_records import trial_records


def test_what_went_wrong_is_counted(tmp_path):
    study = made.every_kind(made.prepared_study(tmp_path))
    assert problems(study, trial_records(study, driver_is_gone=True)) == [
        "1 failed: the loss is nan at step 7",
        "1 ran out of memory: others took their place",
        "1 never started: 80.0 MiB exceed the budget",
    ]


def test_words():
    assert [duration(timedelta(seconds=s)) for s in (59, 3661, 200_000)] == [
        "0 min 59 s",
        "1 h 1 min",
        "2 days 7 h",
    ]
    assert where_flags("runs", None) == "" and where_flags("my runs", None) == " --runs-dir 'my runs'"


def test_who_made_it_is_the_last_driver(tmp_path):
    assert made_with({}) == {}
    facts = made_with(made.every_kind(made.prepared_study(tmp_path)).user_attrs)
    assert facts["Device"] and "torch 2." in facts["Versions"]
