import dataclasses
import datetime
import json
import math

import pytest
import ray
import torch

from tests.support.cases import learnt
from tests.tuner.conftest import trial_config
from tinytl.errors import ConfigError
from tinytl.networks.backbones.weights import RANDOM_WEIGHTS
from tinytl.runs.directory import RunDirectory
from tuner.cluster.resources import TrialResources
from tuner.cluster.start import Cluster
from tuner.config import StudyConfig
from tuner.record.confirmed import confirmed_result, read_outcomes, write_outcomes
from tuner.record.trials import Trial
from tuner.study.confirm import cost_line, other_seeds, train_again, train_with_seeds, trial_configs
from tuner.study.prepare import prepare

ONE_CPU = TrialResources(workers=2, cpus_per_trial=1.0, gpus_per_trial=0.0)


def rows_of(folder) -> list[dict]:
    return [learnt(json.loads(line)) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def without_test(colors):
    return dataclasses.replace(colors, test=None)


def test_a_run_is_a_run_folder(tmp_path, without_test):
    torch.set_num_threads(2)
    found = train_again(trial_config(seed=5), without_test, RANDOM_WEIGHTS, tmp_path / "run")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert found == {
        "accuracy_top1": result["val_accuracy_top1"],
        "balanced_accuracy": result["balanced_accuracy"],
        "macro_f1": result["macro_f1"],
    }
    assert result["test_accuracy_top1"] is None, "test images stay unseen"
    assert result["config"]["seed"] == 5
    assert torch.get_num_threads() == 1


def test_a_run_that_is_done_is_not_done_again(tmp_path, without_test):
    folder = RunDirectory(tmp_path / "run")
    folder.path.mkdir()
    folder.finish({"val_accuracy_top1": 0.125})
    assert train_again(trial_config(), without_test, RANDOM_WEIGHTS, folder.path) == {"accuracy_top1": 0.125}


def test_a_run_that_was_cut_off_ends_as_if_it_was_not(tmp_path, without_test):
    config = trial_config(epochs=3, method="TinyTL-B")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    expected = train_again(config, without_test, RANDOM_WEIGHTS, whole)

    class KilledError(Exception):
        pass

    def die(*args, **kwargs):
        raise KilledError

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("tinytl.runs.run._Record.finish", die)
        with pytest.raises(KilledError):
            train_again(config, without_test, RANDOM_WEIGHTS, cut)
    state = torch.load(cut / "last.pt", weights_only=True)
    assert state["epoch"] == 3
    assert train_again(config, without_test, RANDOM_WEIGHTS, cut) == expected
    assert rows_of(cut) == rows_of(whole)


def test_divergence_is_a_failure(tmp_path, without_test):
    config = trial_config(method="FT-Full", norm="group_norm", base_lr=1e30)
    found = train_again(config, without_test, RANDOM_WEIGHTS, tmp_path / "run")
    assert found["failure"].startswith("loss is not finite at step ")


def test_configurations_come_from_the_folders_of_the_trials(tmp_path, make_trial):
    front = [make_trial("s-000", base_lr=0.002, seed=3)]
    (config,) = trial_configs(tmp_path, front).values()
    assert config == trial_config(base_lr=0.002, seed=3)
    assert list(other_seeds(config, 2)) == [4, 5]
    (tmp_path / "s-000" / "config.yaml").unlink()
    with pytest.raises(ConfigError, match=r"s-000/config\.yaml: no such file"):
        trial_configs(tmp_path, front)


@pytest.fixture(scope="module")
def ray_here():
    cluster = Cluster(StudyConfig(workers=2))
    cluster.dashboard_url()
    yield
    cluster.end()


@pytest.fixture
def prepared(tmp_path, colors):
    """A study named tmp_path's folder, so that its trials lie there."""
    config = StudyConfig(
        space="separate_lr",
        backbone="mobilenet_v2",
        weights="none",
        runs_dir=str(tmp_path.parent),
        name="new",
        confirm=2,
    )
    found = prepare(config, datetime.datetime(2020, 1, 1))
    return dataclasses.replace(found, name=tmp_path.name, data=colors)


def test_what_it_costs_is_said_before(tmp_path):
    front = [
        Trial(name="s-000", accuracy_top1=0.5, peak_memory_mib=10.0, epoch_time_s=30.0, params={}),
        Trial(name="s-001", accuracy_top1=0.5, peak_memory_mib=10.0, epoch_time_s=math.nan, params={}),
    ]
    configs = {"s-000": trial_config(epochs=4, seed=0), "s-001": trial_config(epochs=4, seed=0)}
    assert cost_line(tmp_path, front, configs, 2, workers=2) == (
        "training again: 4 runs of 2 trials, with up to 2 other seeds each: 16 epochs, about 2.0 min with 2 "
        "at a time, without 2 runs whose epochs were not timed"
    )
    write_outcomes(tmp_path, {"s-000": {1: {"accuracy_top1": 0.5}}, "s-001": {1: {}, 2: {}}})
    assert cost_line(tmp_path, front, configs, 2, workers=3) == (
        "training again: 1 run of 1 trial, with up to 2 other seeds each: 4 epochs, about 40 s with 3 at "
        "a time"
    )
    write_outcomes(tmp_path, {"s-000": {1: {}, 2: {}}, "s-001": {1: {}, 2: {}}})
    assert cost_line(tmp_path, front, configs, 2, workers=3) is None


class Progress:
    def __init__(self):
        self.calls = []

    def __call__(self, trial, seed, accuracy):
        self.calls.append((trial, seed, accuracy))


def again(prepared, front, **changes):
    """Confirms, and returns what was told and found."""
    progress = Progress()
    configs = trial_configs(prepared.folder, front)
    train_with_seeds(prepared, front, configs, prepared.config.confirm, ONE_CPU, progress, **changes)
    kept = read_outcomes(prepared.folder)
    found = {trial.name: confirmed_result(trial.score, kept.get(trial.name, {})) for trial in front}
    return progress.calls, {name: result for name, result in found.items() if result is not None}


@pytest.mark.slow
def test_the_front_is_trained_again_once(ray_here, prepared, tmp_path, make_trial):
    front = [make_trial("s-000"), make_trial("s-001", method="TinyTL-B")]
    told, found = again(prepared, front)
    runs = {(trial, seed) for trial in ("s-000", "s-001") for seed in (1, 2)}
    assert {(trial, seed) for trial, seed, _ in told} == runs
    assert all(found[trial].again[seed] == accuracy for trial, seed, accuracy in told)
    kept = read_outcomes(tmp_path)
    assert found == {t.name: confirmed_result(t.score, kept[t.name]) for t in front}
    folders = {path.name for path in (tmp_path / "confirm").iterdir()}
    assert folders == {f"{trial}-seed{seed}" for trial, seed in runs}
    # As it would be without Ray.
    alone = train_again(
        dataclasses.replace(trial_config(), seed=1),
        dataclasses.replace(prepared.data, test=None),
        prepared.weights["mobilenet_v2"],
        tmp_path / "alone",
    )
    assert alone["accuracy_top1"] == found["s-000"].again[1]
    assert rows_of(tmp_path / "alone") == rows_of(tmp_path / "confirm" / "s-000-seed1")

    assert again(prepared, front) == ([], found), "nothing is trained twice"
    more = dataclasses.replace(prepared, config=dataclasses.replace(prepared.config, confirm=3))
    assert {(trial, seed) for trial, seed, _ in again(more, front)[0]} == {("s-000", 3), ("s-001", 3)}


@pytest.mark.slow
def test_what_diverges_is_recorded_and_what_breaks_is_tried_again(ray_here, prepared, tmp_path):
    front = [Trial(name="s-000", accuracy_top1=0.5, peak_memory_mib=9, epoch_time_s=1, params={})]
    (tmp_path / "s-000").mkdir()
    RunDirectory(tmp_path / "s-000").start(trial_config(method="FT-Full", norm="group_norm", base_lr=1e30))
    broken = tmp_path / "confirm" / "s-000-seed2"
    broken.mkdir(parents=True)
    torch.save({}, broken / "last.pt")
    told, found = again(prepared, front)
    assert len(told) == 2 and all(math.isnan(accuracy) for _, _, accuracy in told)
    failures = found["s-000"].failures
    assert failures[1].startswith("loss is not finite")
    assert 2 not in failures, "it is tried again"
    assert list(json.loads((tmp_path / "confirm.json").read_text())["s-000"]) == ["1"]
    (broken / "last.pt").unlink()
    told, found = again(prepared, front)
    assert [(trial, seed) for trial, seed, _ in told] == [("s-000", 2)]
    assert found["s-000"].failures[2].startswith("loss is not finite")


@pytest.mark.slow
def test_a_stop_ends_the_runs_and_they_go_on_later(ray_here, prepared, tmp_path, make_trial):
    front = [make_trial("s-000", epochs=3)]
    assert again(prepared, front, stopped=lambda: True) == ([], {})
    asked = iter([False, True])
    told, found = again(prepared, front, stopped=lambda: next(asked))
    assert len(told) <= 2
    told_later, found = again(prepared, front)
    assert sorted(seed for _, seed, _ in told + told_later) == [1, 2]
    assert found["s-000"].seeds == 3


@pytest.mark.slow
def test_data_is_not_copied_into_the_processes(ray_here, colors):
    @ray.remote(num_cpus=1)
    def owns(data):
        return data.train.images.flags.owndata, data.train.images.flags.writeable

    assert ray.get(owns.remote(ray.put(colors))) == (False, False)
