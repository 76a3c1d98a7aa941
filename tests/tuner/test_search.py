import os

import optuna
import pytest
from optuna.trial import TrialState
from ray.tune.search.searcher import Searcher

from search_spaces.space import load_space
from tinytl.config import TrainConfig
from tinytl.memory import predict_memory, resolve_plan
from tinytl.planner import PLANNED_FIELDS, is_planned
from tuner import search as search_module
from tuner.config import SAMPLERS
from tuner.results import AGAIN, read_status
from tuner.search import CONSTRAINT, MemoryAwareSearch, make_sampler
from tuner.trainable import CHECKPOINT_FILE
from tuner.trial_config import trial_config

BASE = TrainConfig(weights="none", num_classes=3, device="cpu")
SETTINGS = {"resolution": 32, "method": ["FT-Last", "TinyTL-B"], "norm": "frozen_bn", "batch_size": [8, 16]}


def make_search(folder, *, sampler="random", seed=0, budget=None, remaining=100, deadline_s=None, **settings):
    return MemoryAwareSearch(
        study_name="s",
        storage=optuna.storages.InMemoryStorage(),
        sampler=make_sampler(sampler, seed),
        space=load_space("joint").narrowed(SETTINGS | settings),
        base=BASE,
        study_folder=folder,
        searches_memory=True,
        budget_mib=budget,
        first_index=0,
        remaining=remaining,
        deadline_s=deadline_s,
    )


def finished(suggestion, accuracy):
    memory = suggestion["peak_memory_mib"]
    return {
        "accuracy_top1": accuracy,
        "peak_memory_mib": memory,
        "epoch_time_s": 1.0,
        "measured_peak_mib": memory,
        "finished": True,
    }


@pytest.fixture(autouse=True)
def quiet_optuna():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def test_a_suggestion_has_a_name_of_the_study_and_its_memory(tmp_path):
    search = make_search(tmp_path)
    first, second = search.suggest("a"), search.suggest("b")
    assert [first["name"], second["name"]] == ["joint-000", "joint-001"]
    assert first["peak_memory_mib"] > 0
    assert first["checkpoint"] is None
    assert first["values"]["resolution"] == 32


@pytest.mark.parametrize("plan", ["fast", "smallest", "budget"])
def test_a_suggestion_carries_what_its_plan_chose(plan, tmp_path):
    settings = {"method": "FT-Full", "norm": "batch_norm", "batch_size": 8, "plan": plan}
    if plan == "budget":
        open_config = trial_config(BASE, SETTINGS | settings | {"plan": "smallest"})
        settings["budget_mib"] = predict_memory(open_config).peak_mib
    values = make_search(tmp_path, **settings).suggest("a")["values"]
    planned = {name: values[name] for name in PLANNED_FIELDS}
    if plan == "fast":
        assert planned == {"micro_batch_size": 8, "checkpoint": "none", "stock_below_kib": 1024.0}
    else:
        assert planned == {"micro_batch_size": 8, "checkpoint": "all", "stock_below_kib": 0.0}
    config = trial_config(BASE, values)
    assert config.plan == plan and is_planned(config) and resolve_plan(config) == config


def test_what_exceeds_the_budget_never_starts_and_is_told_infeasible(tmp_path):
    free = make_search(tmp_path)
    sizes = sorted(free.suggest(str(i))["peak_memory_mib"] for i in range(12))
    budget = sizes[4]
    search = make_search(tmp_path, budget=budget)
    suggestions = [search.suggest(str(i)) for i in range(6)]
    assert all(s["peak_memory_mib"] <= budget for s in suggestions)
    assert [s["name"] for s in suggestions] == [f"joint-{i:03d}" for i in range(6)]
    refused = [t for t in search.study.trials if "infeasible" in t.user_attrs]
    assert refused
    for trial in refused:
        assert trial.state == TrialState.PRUNED
        assert trial.user_attrs["peak_memory_mib"] > budget
        assert trial.constraints[CONSTRAINT] == trial.user_attrs["peak_memory_mib"] - budget > 0
    assert read_status(search.study).trials["infeasible"] == len(refused)


def test_the_search_gives_up_after_many_infeasible_in_a_row(tmp_path, monkeypatch):
    monkeypatch.setattr(search_module, "INFEASIBLE_IN_A_ROW", 5)
    search = make_search(tmp_path, budget=0.001)
    assert search.suggest("a") == Searcher.FINISHED
    assert search.gave_up == "5 configurations in a row exceeded the memory budget"
    assert read_status(search.study).trials["infeasible"] == 5


def test_it_ends_with_its_number_of_trials_or_its_time(tmp_path):
    search = make_search(tmp_path, remaining=1)
    assert isinstance(search.suggest("a"), dict)
    assert search.suggest("b") == Searcher.FINISHED
    late = make_search(tmp_path, deadline_s=0.0)
    assert late.suggest("a") == Searcher.FINISHED
    assert late.gave_up == "the time budget is spent"


def test_only_a_trial_with_all_its_epochs_is_complete(tmp_path):
    search = make_search(tmp_path)
    names = ["complete", "diverged", "died", "cut off"]
    suggestions = {name: search.suggest(name) for name in names}
    search.on_trial_complete("complete", finished(suggestions["complete"], 0.75))
    search.on_trial_complete("diverged", {"failure": "loss is not finite at step 3 of epoch 1"})
    search.on_trial_complete("died", error=True)
    search.on_trial_complete("cut off", {"accuracy_top1": 0.5, "peak_memory_mib": 1.0})
    trials = search.study.trials
    assert [t.state for t in trials] == [
        TrialState.COMPLETE,
        TrialState.FAIL,
        TrialState.FAIL,
        TrialState.RUNNING,
    ]
    assert trials[0].values == [0.75, suggestions["complete"]["peak_memory_mib"]]
    assert trials[1].user_attrs["failure"] == "loss is not finite at step 3 of epoch 1"


def test_a_trial_that_was_cut_off_goes_on_under_its_name_from_its_last_checkpoint(tmp_path):
    search = make_search(tmp_path)
    params = {
        "batch_size": 8,
        "method": "FT-Last",
        "micro_batch_size": 2,
        "base_lr": 1e-3,
        "weight_decay": 0.0,
    }
    search.study.enqueue_trial(params, user_attrs={AGAIN: "joint-007"})
    for number in ("000000", "000001", "000002", "000003"):
        (tmp_path / "joint-007" / f"checkpoint_{number}").mkdir(parents=True)
    # Ray counted anew after an earlier interruption, and the last one was cut off while it was written.
    for age, number in ((2, "000000"), (1, "000001"), (3, "000003")):
        path = tmp_path / "joint-007" / f"checkpoint_{number}" / CHECKPOINT_FILE
        path.touch()
        os.utime(path, (1e9 - age, 1e9 - age))
    suggestion = search.suggest("a")
    assert suggestion["name"] == "joint-007"
    assert suggestion["checkpoint"] == str(tmp_path / "joint-007" / "checkpoint_000001")
    assert suggestion["values"].items() >= params.items()
    assert search.suggest("b")["name"] == "joint-000"


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_suggests_and_learns_and_a_seed_repeats_it(sampler, tmp_path):
    def values():
        search = make_search(tmp_path, sampler=sampler, seed=3)
        found = []
        for index in range(14):
            suggestion = search.suggest(str(index))
            found.append(suggestion["values"])
            search.on_trial_complete(str(index), finished(suggestion, accuracy=(index * 7 % 10) / 10))
        return found

    assert values() == values()
