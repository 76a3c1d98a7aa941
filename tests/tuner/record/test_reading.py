import ast
import dataclasses
import math

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from tests.support import mlflow_studies as made
from tests.support.places import ROOT
from tests.support.synthetic_study import write_study
from tinytl.errors import ConfigError
from tuner import __main__ as command
from tuner.record import schema
from tuner.record.claim import folder_claimed
from tuner.record.reading import open_study, read_study

CONTRACT = ("study", "requested", "trials", "pareto", "hypervolume")


def make_trial(state, values=None, **attrs):
    return optuna.create_trial(state=state, values=values, user_attrs=attrs)


def test_status_counts_each_kind_of_trial_once():
    study = optuna.create_study(study_name="s", directions=["maximize", "minimize"])
    study.set_user_attr(schema.REQUESTED, 5)
    measured = {"peak_memory_mib": 20.0, "epoch_time_s": 2.0}
    for trial in (
        make_trial(TrialState.COMPLETE, [0.8, 20.0], name="s-000", **measured),
        make_trial(TrialState.COMPLETE, [0.7, 30.0], name="s-001", **(measured | {"peak_memory_mib": 30.0})),
        make_trial(TrialState.FAIL, name="s-002", failure="loss"),
        make_trial(TrialState.PRUNED, name="s-003", pruned_at=1, rungs={"1": 0.9}, peak_memory_mib=10.0),
        make_trial(TrialState.PRUNED, infeasible="99 MiB"),
        make_trial(TrialState.PRUNED, name="s-005", infeasible="out of memory", measured_need_mib=99.0),
        make_trial(TrialState.FAIL, name="s-004", **{schema.INTERRUPTED: True}),
        make_trial(TrialState.RUNNING, name="s-004"),
        make_trial(TrialState.WAITING),
    ):
        study.add_trial(trial)
    found = read_study(study)
    assert found.counts == {"complete": 2, "pruned": 1, "failed": 1, "infeasible": 2, "running": 1}
    assert found.ended == 4
    assert {k: v for k, v in found.to_json().items() if k in CONTRACT} == {
        "study": "s",
        "requested": 5,
        "trials": found.counts,
        "pareto": [
            {
                "trial": "s-000",
                "accuracy_top1": 0.8,
                "balanced_accuracy": None,
                "macro_f1": None,
                "standard_error": None,
                "peak_memory_mib": 20.0,
                "slowdown": None,
                "measured_slowdown": None,
                "curve": [],
                "epoch_time_s": 2.0,
                "params": {},
            }
        ],
        # 10 MiB less than the largest, at accuracy 0.8.
        "hypervolume": {
            "accuracy_mib": pytest.approx(8),
            "reference_mib": 30.0,
            "fraction": pytest.approx(8 / 30),
        },
    }
    assert found.under(40).hypervolume.reference_mib == 40


def test_a_search_for_accuracy_alone_has_no_hypervolume():
    study = optuna.create_study(direction="maximize")
    attrs = {"name": "s-000", "peak_memory_mib": 20.0, "epoch_time_s": 2.0}
    study.add_trial(make_trial(TrialState.COMPLETE, [0.8], **attrs))
    found = read_study(study)
    assert found.hypervolume is None and [trial.name for trial in found.front] == ["s-000"]


@pytest.fixture
def runs_dir(tmp_path):
    """Study `mine` with every kind of trial; two of its front were judged after the search."""
    prepared = made.prepared_study(tmp_path)
    made.every_kind(prepared)
    (prepared.folder / "test_accuracy.json").write_text(
        f'{{"{made.trial_name(4)}": 0.4, "{made.trial_name(7)}": 0.1}}'
    )
    (prepared.folder / "confirm.json").write_text(
        f'{{"{made.trial_name(0)}": {{"1": {{"accuracy_top1": 0.5}}}}}}'
    )
    return tmp_path


def test_a_reading_has_all_that_storage_and_folder_say(runs_dir):
    study = open_study(made.NAME, str(runs_dir))
    states = [
        "complete",
        "pruned",
        "failed",
        "infeasible",
        "complete",
        "interrupted",
        "interrupted",
        "complete",
    ]
    assert [(trial.name, trial.state) for trial in study.trials] == [
        (made.trial_name(index), state) for index, state in enumerate(states)
    ]
    assert [trial.name for trial in study.trials if trial.on_front] == [t.name for t in study.front]
    assert [trial.name for trial in study.front] == [made.trial_name(0), made.trial_name(4)]
    assert study.best.name == made.trial_name(4) and study.best.test_accuracy_top1 == 0.4
    assert study.confirmed == {made.trial_name(0): study.front[0].confirmed}
    assert study.trials[7].test_accuracy_top1 == 0.1, "of a trial that left the front, too"
    assert study.to_json()["test_accuracy_top1"] == {made.trial_name(4): 0.4}
    assert [refusal.reason for refusal in study.refused] == ["80.0 MiB exceed the budget"]
    assert study.holder is None and study.ended == 5 and study.counts["running"] == 1
    assert study.folder == runs_dir / made.NAME and study.settings["trials"] == 6


def test_a_trial_runs_as_long_as_its_driver_does(runs_dir):
    with folder_claimed(runs_dir / made.NAME, made.NAME):
        study = open_study(made.NAME, str(runs_dir))
    assert study.holder is not None and study.trials[6].state == "running"


def test_trials_are_rows_of_a_table(runs_dir):
    rows = open_study(made.NAME, str(runs_dir)).rows()
    assert len({tuple(row)[:9] for row in rows}) == 1 and len(rows) == 8, "every row has the same figures"
    assert (
        rows[4]["trial"] == made.trial_name(4)
        and rows[4]["on_front"]
        and rows[4]["test_accuracy_top1"] == 0.4
    )
    assert rows[2]["failure"] == "the loss is nan at step 7" and rows[2]["accuracy_top1"] is None
    assert 1e-4 <= rows[0]["base_lr"] <= 1e-2


@pytest.mark.parametrize("file", ["test_accuracy.json", "confirm.json", "study.json"])
def test_a_damaged_file_is_named(runs_dir, file):
    (runs_dir / made.NAME / file).write_text("{")
    with pytest.raises(ConfigError, match=f"{file} is damaged"):
        open_study(made.NAME, str(runs_dir))


def test_a_trial_is_found_by_its_name_and_a_wrong_name_names_the_nearest(runs_dir):
    study = open_study(made.NAME, str(runs_dir))
    assert study.trial(made.trial_name(4)) is study.trials[4]
    with pytest.raises(ConfigError, match="no trial separate_lr-04 in study mine: did you mean"):
        study.trial("separate_lr-04")


def test_its_state_is_that_of_its_driver_before_that_of_its_trials(runs_dir):
    study = open_study(made.NAME, str(runs_dir))
    assert study.state == "unfinished"
    assert dataclasses.replace(study, requested=5).state == "finished"
    assert dataclasses.replace(study, holder={"host": "h", "pid": 1}).state == "running"


def test_another_budget_is_the_same_moment(runs_dir):
    study = open_study(made.NAME, str(runs_dir))
    assert study.under(None) is study
    least = study.under(40.0)
    assert least.best.name == made.trial_name(0) and least.hypervolume.reference_mib == 40
    assert dataclasses.replace(least, budget_mib=None) == study


@pytest.mark.parametrize("argv", [["status"], ["status", "--json"], ["best"], ["report"], ["sync"]])
def test_a_command_reads_the_storage_once(argv, tmp_path, monkeypatch, capsys):
    write_study(tmp_path, "many", 8, 2)
    readings = []
    read = optuna.storages.JournalStorage.get_all_trials

    def counted(storage, study_id, *args, **kwargs):
        readings.append(study_id)
        return read(storage, study_id, *args, **kwargs)

    monkeypatch.setattr(optuna.storages.JournalStorage, "get_all_trials", counted)
    name, *flags = argv
    assert command.main([name, "many", "--runs-dir", str(tmp_path), *flags]) == 0
    assert len(readings) == 1


KEYS = {value for key, value in vars(schema).items() if key.isupper() and isinstance(value, str)}
HOLDERS = {"user_attrs", "attributes", "identity", "attrs"}
"""What a study's or a trial's attributes are called in the code."""


def spelled_out(source: str) -> list[str]:
    """Names of the record that code writes out as text where it reads or writes attributes."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Subscript(value=holder, slice=ast.Constant(value=str(key))):
                pass
            case ast.Call(
                func=ast.Attribute(value=holder, attr="get"), args=[ast.Constant(value=str(key)), *_]
            ):
                pass
            case ast.Compare(left=ast.Constant(value=str(key)), comparators=[holder]):
                pass
            case ast.Call(
                func=ast.Attribute(attr="set_user_attr" | "set_study_attribute"),
                args=[ast.Constant(value=str(key)), *_],
            ):
                holder = ast.Name("attributes")
            case _:
                continue
        name = getattr(holder, "attr", getattr(holder, "id", ""))
        if key in KEYS and name in HOLDERS:
            found.append(key)
    return found


def test_names_of_the_record_stand_in_one_file():
    samples = (
        "t.user_attrs['name']",
        "identity.get('dataset')",
        "'rungs' in attrs",
        "s.set_user_attr('epochs', 1)",
    )
    assert [spelled_out(sample) for sample in samples] == [["name"], ["dataset"], ["rungs"], ["epochs"]]
    files = [path for path in (ROOT / "tuner").rglob("*.py") if path.name != "schema.py"]
    assert {str(path): keys for path in files if (keys := spelled_out(path.read_text()))} == {}


def test_what_shows_a_study_does_not_read_its_storage():
    rooms = ("api", "findings", "report", "pictures", "tracking")
    files = [path for room in rooms for path in (ROOT / "tuner" / room).rglob("*.py")]
    assert len(files) > 20
    for path in files:
        text = path.read_text()
        assert ".get_trials(" not in text and ".user_attrs" not in text, path


def test_a_study_of_another_metric_is_ordered_by_it_and_older_ones_by_accuracy():
    study = optuna.create_study(study_name="s", directions=["maximize", "minimize"])
    study.set_user_attr(schema.SETTINGS, {"metric": "macro_f1"})
    for index, (macro_f1, accuracy, memory) in enumerate([(0.5, 0.9, 20.0), (0.6, 0.7, 20.0)]):
        figures = {"accuracy_top1": accuracy, "balanced_accuracy": 0.65, "macro_f1": macro_f1}
        attributes = {schema.NAME: f"s-{index:03d}", schema.PEAK_MEMORY_MIB: memory, **figures}
        study.add_trial(create_trial(values=[macro_f1, memory], user_attrs=attributes))
    found = read_study(study)
    assert found.metric == found.to_json()["metric"] == "macro_f1"
    assert [trial.name for trial in found.front] == ["s-001"] and found.best.name == "s-001"
    assert (found.best.score, found.best.accuracy_top1) == (0.6, 0.7)
    older = optuna.create_study(study_name="o", directions=["maximize", "minimize"])
    older.add_trial(create_trial(values=[0.9, 20.0], user_attrs={schema.NAME: "o-000"}))
    (trial,) = read_study(older).trials
    assert (trial.metric, trial.score, trial.accuracy_top1) == ("accuracy_top1", 0.9, 0.9)


def test_of_a_trial_that_was_stopped_only_the_metric_is_known():
    study = optuna.create_study(study_name="s", directions=["maximize", "minimize"])
    study.set_user_attr(schema.SETTINGS, {"metric": "balanced_accuracy"})
    attributes = {schema.NAME: "s-000", schema.RUNGS: {"1": 0.4}, schema.PRUNED_AT: 1}
    study.add_trial(create_trial(state=TrialState.PRUNED, user_attrs=attributes))
    (trial,) = read_study(study).trials
    assert trial.score == trial.balanced_accuracy == 0.4 and math.isnan(trial.accuracy_top1)
