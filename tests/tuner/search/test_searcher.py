import dataclasses
import math
import shutil
import time

import optuna
import pytest
from optuna.trial import TrialState
from ray.tune.search.searcher import Searcher

from search_spaces.space import load_space
from tests.support.sampled import sampled
from tinytl.config.flat import flat_from_config
from tinytl.config.plan import PLANNED_FIELDS, is_planned, least_within
from tinytl.config.train_config import TrainConfig
from tinytl.memory.curve import memory_curve
from tinytl.memory.predict import predict_memory, resolve_plan, with_scheme
from tinytl.runs.directory import RunDirectory, read_config_file
from tuner.config import SAMPLERS
from tuner.record import schema
from tuner.record.reading import read_study
from tuner.record.refusals import UnwrittenError
from tuner.record.trials import merged_trials, state_of
from tuner.record.writer import StudyRecords
from tuner.search import candidates as candidates_module
from tuner.search import searcher as search_module
from tuner.search.candidates import Candidates
from tuner.search.sampling import Proposals
from tuner.search.searcher import MemoryAwareSearch
from tuner.stopping import TIME_SPENT, Stopping
from tuner.trial_config import trial_config

BASE = TrainConfig(weights="none", num_classes=3, device="cpu")
SETTINGS = {
    "resolution": 32,
    "method": ["FT-Last", "TinyTL-B"],
    "norm": "frozen_bn",
    "batch_size": [8, 16],
    "checkpoint": "none",  # fewer plans to predict
}
EVERY_PLAN = {"method": "FT-Full", "batch_size": 8, "checkpoint": "auto"}
POINT = {"batch_size": 8, "method": "FT-Last", "base_lr": 1e-3, "weight_decay": 0.0}


class Told:
    """Follows a study, and keeps what it was told."""

    def __init__(self):
        self.started, self.ended = {}, []

    def trial_started(self, name, params, searched, source):
        self.started[name] = params

    def epoch_ended(self, name, row):
        raise AssertionError("Ray's callback tells of epochs")

    def trial_ended(self, name, state, reason):
        self.ended.append((name, state, reason))


def make_search(
    folder,
    *,
    sampler="random",
    seed=0,
    budget=None,
    max_slowdown=2.0,
    held_mib=math.inf,
    remaining=100,
    time_budget=None,
    study=None,
    **settings,
):
    study = study or optuna.create_study(study_name="s", directions=["maximize", "minimize"])
    space = load_space("joint").narrowed(SETTINGS | settings)
    stopping = Stopping(time_budget)
    found = Candidates(
        records=StudyRecords(study._storage, "s"),
        proposals=Proposals(sampler=sampler, seed=seed, space=space, searches_memory=True),
        space=space,
        base=BASE,
        study_folder=folder,
        budget_mib=budget,
        max_slowdown=max_slowdown,
        held_mib=held_mib,
        stopping=stopping,
        settle=with_scheme,
    )
    search = MemoryAwareSearch(candidates=found, remaining=remaining, observers=[Told()])
    search.study = study
    return search


def ask(search, trial_id):
    """Asks as Ray does: again, while the next one is looked for."""
    while (found := search.suggest(trial_id)) is None:
        time.sleep(0.01)  # the thread that looks needs the interpreter
    return found


def finished(suggestion, accuracy):
    memory = suggestion["peak_memory_mib"]
    result = {"score": accuracy, "peak_memory_mib": memory, "epoch_time_s": 1.0}
    result |= {"accuracy_top1": accuracy, "balanced_accuracy": accuracy / 2, "macro_f1": 0.25}
    return result | {"measured_peak_mib": memory, "epoch": 3, "finished": True}


def test_a_suggestion_has_a_name_of_the_study_its_memory_and_its_folder(tmp_path):
    search = make_search(tmp_path)
    first, second = ask(search, "a"), ask(search, "b")
    assert [first["name"], second["name"]] == ["joint-000", "joint-001"]
    assert first["peak_memory_mib"] > 0
    assert first["folder"] == str(tmp_path / "joint-000")
    assert first["config"].resolution == 32
    assert read_config_file(tmp_path / "joint-000" / "config.yaml") == first["config"]
    assert search.observers[0].started["joint-000"] == flat_from_config(first["config"])
    search.close()


@pytest.mark.parametrize("plan", ["fast", "smallest", "budget"])
def test_a_suggestion_carries_what_its_plan_chose(plan, tmp_path):
    settings = {
        "method": "FT-Full",
        "norm": "batch_norm",
        "batch_size": 8,
        "plan": plan,
        "checkpoint": "auto",
    }
    if plan == "budget":
        open_config = trial_config(BASE, SETTINGS | settings | {"plan": "smallest"})
        settings["budget_mib"] = predict_memory(open_config).peak_mib
    config = ask(make_search(tmp_path, **settings), "a")["config"]
    planned = {name: getattr(config, name) for name in PLANNED_FIELDS}
    assert planned.pop("slice_mib") is None  # the engine's own on a CPU
    assert planned.pop("memory_format") is None  # channels_last
    assert planned.pop("cuda_graph") is None  # which a CPU has none of
    if plan == "fast":
        assert planned == {"micro_batch_size": 8, "checkpoint": "none", "stock_below_kib": 1024.0}
    else:
        assert planned == {"micro_batch_size": 8, "checkpoint": "all", "stock_below_kib": 0.0}
    assert config.plan == plan and is_planned(config) and resolve_plan(config) == config


def test_a_trial_trains_with_its_fastest_plan_and_has_the_memory_of_the_least_within_the_slowdown(tmp_path):
    for max_slowdown in (1.0, 1.5, 2.0, math.inf):
        search = make_search(tmp_path / str(max_slowdown), max_slowdown=max_slowdown, **EVERY_PLAN)
        found = ask(search, "a")
        search.close()
        curve = memory_curve(trial_config(BASE, search.candidates._values(search.study.trials[0].params)))
        assert found["config"] == curve[0].of(found["config"])
        assert found["trained_memory_mib"] == curve[0].peak_memory_mib
        assert found["peak_memory_mib"] == least_within(curve, max_slowdown).peak_memory_mib
        (trial,) = merged_trials(search.study.trials[:1])
        assert list(trial.curve) == curve
        assert (trial.fast_memory_mib, trial.smallest_memory_mib) == (
            curve[0].peak_memory_mib,
            curve[-1].peak_memory_mib,
        )
        assert trial.slowdown <= max_slowdown


def test_a_trial_trains_with_the_fastest_plan_that_its_worker_holds_or_with_the_smallest(tmp_path):
    free = make_search(tmp_path / "free", **EVERY_PLAN)
    ask(free, "a")
    free.close()
    (trial,) = merged_trials(free.study.trials[:1])
    for held_mib, plan in ((trial.curve[1].peak_memory_mib, trial.curve[1]), (0.0, trial.curve[-1])):
        search = make_search(tmp_path / str(held_mib), held_mib=held_mib, **EVERY_PLAN)
        found = ask(search, "a")
        search.close()
        assert found["trained_memory_mib"] == plan.peak_memory_mib
        assert found["config"] == plan.of(found["config"])
        assert found["peak_memory_mib"] == trial.peak_memory_mib


def test_a_trial_that_was_cut_off_goes_on_with_the_plan_with_which_it_began(tmp_path):
    first = make_search(tmp_path, **EVERY_PLAN)
    begun = ask(first, "a")
    first.close()
    first.records.end_cut_off()
    again = make_search(tmp_path, held_mib=0.0, study=first.study, **EVERY_PLAN)  # as if on a smaller machine
    assert ask(again, "a")["config"] == begun["config"]
    again.close()


@pytest.mark.parametrize("lost", ["config.yaml", ""], ids=["configuration", "folder"])
def test_a_trial_that_was_cut_off_gets_the_configuration_back_that_was_lost(lost, tmp_path):
    first = make_search(tmp_path)
    begun = ask(first, "a")
    first.close()
    first.records.end_cut_off()
    folder = tmp_path / begun["name"]
    if lost:
        (folder / lost).unlink()
    else:
        shutil.rmtree(folder)
    again = make_search(tmp_path, study=first.study)
    assert ask(again, "a")["config"] == begun["config"]
    again.close()
    assert read_config_file(folder / "config.yaml") == begun["config"]
    assert (folder / "curve.json").is_file()


def test_a_trial_goes_on_with_a_plan_that_would_not_be_chosen_any_more(tmp_path):
    first = make_search(tmp_path, **EVERY_PLAN)
    name = ask(first, "a")["name"]
    first.close()
    first.records.end_cut_off()
    directory = RunDirectory(tmp_path / name)
    begun = dataclasses.replace(
        read_config_file(directory.config_file), micro_batch_size=1, stock_below_kib=640.0
    )
    directory.write_config(begun)
    again = make_search(tmp_path, study=first.study, **EVERY_PLAN)
    found = ask(again, "a")
    again.close()
    assert found["config"] == begun
    assert found["trained_memory_mib"] == predict_memory(begun).peak_mib


def test_what_exceeds_the_budget_never_starts_and_is_recorded_infeasible(tmp_path):
    free = make_search(tmp_path / "free")
    sizes = sorted(ask(free, str(i))["peak_memory_mib"] for i in range(4))
    budget = sizes[1]
    search = make_search(tmp_path, budget=budget)
    suggestions = [ask(search, str(i)) for i in range(2)]
    search.close()
    assert all(s["peak_memory_mib"] <= budget for s in suggestions)
    assert [s["name"] for s in suggestions] == ["joint-000", "joint-001"]
    refused = [t for t in search.study.trials if "infeasible" in t.user_attrs]
    assert refused
    for trial in refused:
        assert trial.state == TrialState.PRUNED and "name" not in trial.user_attrs
        assert trial.user_attrs["peak_memory_mib"] > budget
        assert trial.constraints[schema.CONSTRAINT] == trial.user_attrs["peak_memory_mib"] - budget > 0
    assert read_study(search.study).counts["infeasible"] == len(refused)


def test_the_search_gives_up_after_many_infeasible_in_a_row(tmp_path, monkeypatch):
    monkeypatch.setattr(candidates_module, "INFEASIBLE_IN_A_ROW", 5)
    search = make_search(tmp_path, budget=0.001)
    assert ask(search, "a") == Searcher.FINISHED
    assert search.gave_up == "5 configurations in a row exceeded the memory budget"
    assert read_study(search.study).counts["infeasible"] == 5


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_no_configuration_runs_twice_and_a_space_that_is_used_up_ends_the_search(
    sampler, tmp_path, monkeypatch
):
    monkeypatch.setattr(candidates_module, "REPEATED_IN_A_ROW", 60)
    settings = {"resolution": [32, 48], "base_lr": [1e-3], "weight_decay": [0.0], "batch_size": [8]}
    search = make_search(tmp_path, sampler=sampler, **settings)
    seen = []
    while (found := ask(search, str(len(seen)))) != Searcher.FINISHED:
        seen.append(str(found["config"]))
        search.on_trial_complete(str(len(seen) - 1), finished(found, 0.5))
    search.close()
    assert len(seen) == len(set(seen)) == 4
    assert search.gave_up.startswith("the last 60 configurations")
    # Nor in a later call on the same study.
    later = make_search(tmp_path, sampler=sampler, study=search.study, **settings)
    assert ask(later, "x") == Searcher.FINISHED


def test_it_ends_with_its_number_of_trials_or_its_time(tmp_path):
    search = make_search(tmp_path, remaining=1)
    assert isinstance(ask(search, "a"), dict)
    assert search.suggest("b") is None  # the trial that runs may turn out infeasible
    search.on_trial_complete("a", error=True)
    assert search.suggest("b") == Searcher.FINISHED
    late = make_search(tmp_path, time_budget=0.0)
    assert late.suggest("a") == Searcher.FINISHED
    assert late.stopping.reason == TIME_SPENT


def test_how_a_trial_ended_is_recorded_and_told(tmp_path):
    search = make_search(tmp_path)
    names = ["complete", "diverged", "died", "cut off", "stopped"]
    suggestions = {name: ask(search, name) for name in names}
    search.passed_rung("stopped", 1, 0.25, goes_on=True)
    search.passed_rung("stopped", 2, 0.375, goes_on=False)
    search.on_trial_complete("complete", finished(suggestions["complete"], 0.75))
    search.on_trial_complete("diverged", {"failure": "loss is not finite at step 3 of epoch 1"})
    search.on_trial_complete("died", error=True)
    search.on_trial_complete("cut off", {"score": 0.5, "peak_memory_mib": 1.0, "epoch": 1})
    search.on_trial_complete("stopped", {"score": 0.375, "epoch": 2, "finished": False})
    search.close()
    trials = search.study.trials[:5]
    assert [state_of(t) for t in trials] == ["complete", "failed", "failed", "running", "pruned"]
    assert trials[0].values == [0.75, suggestions["complete"]["peak_memory_mib"]]
    complete = merged_trials(trials)[0]
    assert (complete.accuracy_top1, complete.balanced_accuracy, complete.macro_f1) == (0.75, 0.375, 0.25)
    assert trials[1].user_attrs["failure"] == "loss is not finite at step 3 of epoch 1"
    assert trials[4].values is None
    assert trials[4].user_attrs[schema.RUNGS] == {"1": 0.25, "2": 0.375}
    assert [state for _, state, _ in search.observers[0].ended] == ["complete", "failed", "failed", "pruned"]
    stopped = merged_trials(trials)[4]
    assert (stopped.name, stopped.rungs, stopped.stopped_at) == ("joint-004", {1: 0.25, 2: 0.375}, 2)
    assert stopped.accuracy_top1 == 0.375


def test_a_trial_that_ran_out_of_memory_is_infeasible_and_leaves_room_for_another(tmp_path, monkeypatch):
    monkeypatch.setattr(search_module, "OUT_OF_MEMORY_IN_A_ROW", 2)
    search = make_search(tmp_path, remaining=1)
    lost = {"out_of_memory": True, "failure": "OutOfMemoryError: tried 2 GiB", "measured_need_mib": 2100.0}
    ask(search, "a")
    search.on_trial_complete("a", lost)
    assert ask(search, "b")["name"] == "joint-001"
    search.on_trial_complete("b", lost)
    assert ask(search, "c") == Searcher.FINISHED
    search.close()
    assert search.gave_up == "2 trials in a row ran out of memory"
    first = search.study.trials[0]
    assert state_of(first) == "infeasible" and first.user_attrs["measured_need_mib"] == 2100.0
    counts = read_study(search.study).counts
    assert counts["infeasible"] == 2 and read_study(search.study).ended == 0


def test_a_trial_that_was_cut_off_comes_first_under_its_name_and_is_never_lost(tmp_path):
    search = make_search(tmp_path)
    first = ask(search, "a")
    search.passed_rung("a", 1, 0.25, goes_on=True)
    search.close()
    assert [state_of(t) for t in search.study.trials] == ["running", "waiting"], "one is prepared"
    # Killed between asking again and ending: the copy is not made twice.
    first_trial = search.study.trials[0]
    search.records.enqueue(
        (first_trial.params, first_trial.distributions),
        {schema.AGAIN: "joint-000", schema.RUNGS: {"1": 0.25}},
    )
    assert search.records.end_cut_off() == 1
    assert [t.user_attrs.get(schema.AGAIN) for t in search.study.trials].count("joint-000") == 1
    cut = search.study.trials[0]
    assert state_of(cut) == "interrupted"
    again = make_search(tmp_path, study=search.study)
    suggestion = ask(again, "x")
    assert suggestion == first
    again.passed_rung("x", 3, 0.5, goes_on=True)
    again.close()
    assert {t.name: t.rungs for t in merged_trials(again.study.trials) if t.rungs} == {
        "joint-000": {1: 0.25, 3: 0.5}
    }
    names = [t.user_attrs.get("name", t.user_attrs.get(schema.AGAIN)) for t in search.study.trials]
    assert names[:2] == ["joint-000", "joint-001"] and set(names) == {"joint-000", "joint-001"}


def test_configurations_that_were_given_come_before_those_of_the_sampler(tmp_path):
    search = make_search(tmp_path, remaining=0)
    distributions = {p.name: p.distribution for p in search.candidates.space.parameters}
    params = (POINT, {name: distributions[name] for name in POINT})
    for source in ("file a", "file b"):
        search.records.enqueue(params, {"source": source})
    search.remaining = 2
    first, second = ask(search, "a"), ask(search, "b")
    search.close()
    assert flat_from_config(first["config"]).items() >= POINT.items()
    assert second["config"] != first["config"], "the same configuration, given twice, runs once"
    assert [t.user_attrs.get("source") for t in search.study.trials] == ["file a", "file b", None]
    assert read_study(search.study).counts["running"] == 2


@pytest.mark.parametrize("sampler", sampled(SAMPLERS, 2))
def test_every_sampler_suggests_and_learns_and_a_seed_repeats_it(sampler, tmp_path):
    def values(folder):
        search = make_search(tmp_path / folder, sampler=sampler, seed=3)
        found = []
        for index in range(14):
            suggestion = ask(search, str(index))
            found.append(str(suggestion["config"]))
            search.on_trial_complete(str(index), finished(suggestion, accuracy=(index * 7 % 10) / 10))
        search.close()
        return found

    assert values("one") == values("two")


def test_a_record_that_cannot_be_written_stops_the_search_and_nothing_is_written_behind_it(
    tmp_path, monkeypatch
):
    search = make_search(tmp_path)
    suggestion = ask(search, "a")
    search._next.result()  # no trial is being prepared

    def full(*args, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(search.records.storage, "set_trial_user_attr", full)
    search.on_trial_complete("a", finished(suggestion, 0.5))
    search.close()
    monkeypatch.undo()
    told = "its record cannot be written ([Errno 28] No space left on device)"
    assert search.unwritten == search.gave_up == told
    assert search.suggest("b") == Searcher.FINISHED
    with pytest.raises(UnwrittenError, match="No space left"):
        search.records.end_cut_off()
    assert state_of(search.study.trials[0]) == "running", "the next driver resumes it"


def test_a_record_that_cannot_be_read_stops_the_study_as_one_that_cannot_be_written(tmp_path, monkeypatch):
    search = make_search(tmp_path)
    ask(search, "a")
    search._next.result()  # the next is prepared

    def away(*args, **more):
        raise ConnectionError("the server has gone away")

    monkeypatch.setattr(search.records.storage, "get_all_trials", away)
    ask(search, "b")
    search._next.result()
    assert search.suggest("c") == Searcher.FINISHED
    search.close()
    assert search.gave_up == "its record cannot be written (the server has gone away)"


def test_a_bug_in_the_record_is_not_called_a_full_disk(tmp_path, monkeypatch):
    records = make_search(tmp_path).records
    with pytest.raises(TypeError):
        records.reach(lambda number: number, "one", "too many")
    assert records.unwritten is None, "the storage works: what else there is to write is written"


def test_a_bug_at_a_trials_end_stops_the_study_and_stays_a_bug(tmp_path, monkeypatch):
    search = make_search(tmp_path)
    suggestion, other = ask(search, "a"), ask(search, "b")
    search._next.result()

    def bug(*args):
        raise ZeroDivisionError("in the sampler")

    with monkeypatch.context() as patched:
        patched.setattr(search.proposals, "complete", bug)
        search.on_trial_complete("a", finished(suggestion, 0.5))
        search.close()
    assert isinstance(search.bug, ZeroDivisionError) and search.bug.__traceback__ is not None
    assert search.unwritten is None and search.records.unwritten is None, "the storage works"
    assert search.stopping.reason == "of a bug", "trials that run end their epoch"
    assert search.suggest("c") == Searcher.FINISHED
    assert search.records.end_cut_off() == 1
    states = {trial.user_attrs.get("name"): state_of(trial) for trial in search.study.trials[:2]}
    assert states == {suggestion["name"]: "complete", other["name"]: "interrupted"}


def test_a_trials_folder_that_cannot_be_made_stops_the_search(tmp_path):
    (tmp_path / "joint-000").write_text("in the way")
    search = make_search(tmp_path)
    assert ask(search, "a") == Searcher.FINISHED
    search.close()
    assert search.unwritten == f"{tmp_path / 'joint-000'} cannot be written (File exists)"
    assert read_study(search.study).counts["running"] == 0


def test_a_budget_that_was_raised_gives_what_it_refused_a_chance(tmp_path):
    tight = make_search(tmp_path, budget=0.001, remaining=0)
    distributions = {p.name: p.distribution for p in tight.candidates.space.parameters}
    params = (POINT, {name: distributions[name] for name in POINT})
    tight.records.enqueue(params, {"source": "file a"})
    tight.stopping = tight.candidates.stopping = Stopping()
    tight.candidates._try_waiting(tight.records.trials(TrialState.WAITING)[0])
    (config,) = tight.candidates._ran
    for budget, refused in ((0.001, True), (1000.0, False), (None, False)):
        later = make_search(tmp_path, budget=budget, remaining=0, study=tight.study)
        assert (config in later.candidates._ran) == refused
