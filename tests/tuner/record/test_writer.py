import errno

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from tuner.record import schema
from tuner.record.reading import read_study
from tuner.record.refusals import UnwrittenError
from tuner.record.trials import merged_trials, state_of
from tuner.record.writer import StudyRecords, fits_by_now

PARAMS = ({"base_lr": 0.1}, {"base_lr": FloatDistribution(0.0, 1.0)})


@pytest.fixture(params=["memory", "journal"])
def records(request, tmp_path):
    storage = InMemoryStorage()
    if request.param == "journal":
        storage = JournalStorage(JournalFileBackend(str(tmp_path / "optuna.journal")))
    optuna.create_study(study_name="s", storage=storage, directions=["maximize", "minimize"])
    return StudyRecords(storage, "s")


def begin(records, name="s-000"):
    number = records.enqueue(PARAMS, {schema.NAME: name, schema.PEAK_MEMORY_MIB: 20.0})
    records.start(number)
    return number


ENDS = {
    "complete": lambda records, n: records.complete(n, 0.5, 20.0, {schema.EPOCH_TIME_S: 2.0}),
    "pruned": lambda records, n: (records.passed_rung(n, {1: 0.25}), records.pruned(n, 1)),
    "failed": lambda records, n: records.failed(n, "the loss is nan"),
    "infeasible": lambda records, n: records.out_of_memory(n, "out of memory", 99.0),
}


@pytest.mark.parametrize("state", ENDS)
def test_what_is_written_of_an_end_is_read_again(records, state):
    ENDS[state](records, begin(records))
    (trial,) = merged_trials(records.trials())
    assert trial.state == state and trial.params == {"base_lr": 0.1} and trial.peak_memory_mib == 20
    expected = {
        "complete": (0.5, None, None),
        "pruned": (0.25, 1, None),
        "failed": ("none", None, "the loss is nan"),
        "infeasible": ("none", None, "out of memory"),
    }[state]
    accuracy = trial.accuracy_top1 if trial.accuracy_top1 == trial.accuracy_top1 else "none"
    assert (accuracy, trial.stopped_at, trial.failure) == expected


def test_what_was_cut_off_waits_again_once_with_its_rungs(records):
    number = begin(records)
    records.passed_rung(number, {1: 0.25})
    assert records.end_cut_off() == 1
    assert records.end_cut_off() == 0
    cut, again = records.trials()
    assert (state_of(cut), again.state) == ("interrupted", TrialState.WAITING)
    assert again.user_attrs == {schema.AGAIN: "s-000", schema.RUNGS: {"1": 0.25}}


def test_what_never_ran_counts_as_no_trial(records):
    records.refuse(PARAMS, "80.0 MiB exceed the budget", 80.0, 60.0)
    records.refuse(PARAMS, "no such group", None, 60.0)
    records.enqueue(PARAMS, {schema.SOURCE: "baseline a"})
    (waiting,) = records.trials(TrialState.WAITING)
    records.drop_waiting(waiting, "it has run already", 20.0)
    over, impossible, dropped = records.trials()
    assert over.constraints == {schema.CONSTRAINT: 20.0} and not impossible.constraints
    assert [fits_by_now(over, budget) for budget in (60.0, 80.0, None)] == [False, True, True]
    assert not fits_by_now(impossible, None) and fits_by_now(dropped, 60.0)
    study = read_study(optuna.load_study(study_name="s", storage=records.storage))
    assert study.trials == [] and study.ended == 0 and study.counts["infeasible"] == 2 == records.refused


def test_an_attribute_of_the_study_is_written_only_if_it_changes(records, monkeypatch):
    records.set_study_attribute(schema.FIXED, {"input_mean": (0.5, 0.5)})
    assert records.study_attributes() in (
        {schema.FIXED: {"input_mean": [0.5, 0.5]}},
        {schema.FIXED: {"input_mean": (0.5, 0.5)}},
    )
    records.set_study_attribute(schema.REQUESTED, 4)
    monkeypatch.setattr(records.storage, "set_study_user_attr", None)
    records.set_study_attribute(schema.REQUESTED, 4)


def test_behind_a_write_that_failed_nothing_is_written(records):
    def broken():
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(UnwrittenError, match="Input/output error"):
        records.reach(broken)
    with pytest.raises(UnwrittenError, match="Input/output error"):
        begin(records)
    assert records.remedy == "bring the disk or the database back"


@pytest.mark.parametrize("bug", [TypeError, KeyError, ValueError, AttributeError])
def test_a_bug_shows_as_a_bug(records, bug):
    def wrong():
        raise bug("mine")

    with pytest.raises(bug, match="mine"):
        records.reach(wrong)
    assert records.unwritten is None and begin(records) is not None
