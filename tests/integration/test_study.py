"""Whole studies: a real Ray and a real MLflow store, on pictures made here."""

import json
import os
import signal
import sys
import time

import pytest
from mlflow.tracking import MlflowClient

import launch
from tests.support import published_sets as published
from tests.support.places import ROOT
from tests.support.studies import (
    SMALL,
    check_whole,
    command,
    doors_of,
    epochs_saved,
    metrics_of,
    mlflow_runs,
    records_of,
    resume,
    run,
    started,
    status_of,
    wait_for,
    workers_of,
    write_pictures,
)
from tuner.cluster.metrics import BEST_ACCURACY, FRONT, TRAINED, TRIALS
from tuner.cluster.start import Cluster
from tuner.record.schema import ENDED


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def searched(pictures, tmp_path_factory):
    """A finished study under a memory budget, of which a worker and then the driver were killed and which was
    resumed: its folder, the last driver's output, and the trials' records as the first driver left them.
    """
    folder = tmp_path_factory.mktemp("searched")
    runs_dir = folder / "runs"
    flags = "--trials 3 --epochs 3 --name first --memory-budget-mib 40 --workers 2".split()
    flags += ["--set", "method=FT-Last,TinyTL-B,FT-Full"]
    with started(command(pictures, runs_dir, *flags), folder / "log") as driver:
        wait_for(lambda: epochs_saved(runs_dir / "first") >= 2, "epochs")
        (folder / "doors").write_text(json.dumps(doors_of(driver.pid)))
        os.kill(wait_for(lambda: workers_of(driver), "a worker")[0], signal.SIGKILL)
        wait_for(lambda: records_of("first", runs_dir), "a whole trial")
        done = epochs_saved(runs_dir / "first")
        wait_for(lambda: epochs_saved(runs_dir / "first") > done, "an epoch behind it")
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
    before = records_of("first", runs_dir)
    interrupted = status_of("first", runs_dir)
    assert before and interrupted["trials"]["running"] >= 1
    saved, pages = epochs_saved(runs_dir / "first"), []
    each_second = {"RAY_metrics_report_interval_ms": "1000"}
    again = resume("first", runs_dir, "--workers", "1")  # each imports for some seconds
    with started(again, folder / "log of the resumed", each_second) as driver:
        while driver.poll() is None:
            pages += filter(None, [metrics_of(driver.pid)])
            time.sleep(0.3)
    (folder / "metrics").write_text(json.dumps([interrupted, saved, pages]))
    out = (folder / "log of the resumed").read_text()
    assert driver.returncode == 0, out
    return runs_dir, out, before


class TestFinishedStudy:
    def test_a_finished_trial_is_left_as_it_was_and_each_has_its_epochs_once(self, searched):
        runs_dir, _, before = searched
        check_whole("first", runs_dir, trials=3, epochs=3, space="joint")
        after = records_of("first", runs_dir)
        assert {name: after[name] for name in before} == before

    def test_a_study_of_this_machine_listens_on_the_loopback_alone(self, searched):
        runs_dir, *_ = searched
        here, elsewhere = json.loads((runs_dir.parent / "doors").read_text())
        assert len(here) > 5 and not elsewhere

    def test_rays_metrics_page_begins_with_the_record_and_follows_the_study(self, searched):
        runs_dir, *_ = searched
        interrupted, saved, pages = json.loads((runs_dir.parent / "metrics").read_text())
        first, last, status = pages[0], pages[-1], status_of("first", runs_dir)
        assert {f"ray_{TRIALS} {state}" for state in status["trials"]} <= first.keys()
        for state in ENDED:
            assert first[f"ray_{TRIALS} {state}"] == interrupted["trials"][state]
        assert first[f"ray_{BEST_ACCURACY}"] == max(r["accuracy_top1"] for r in interrupted["pareto"])
        assert first[f"ray_{FRONT}"] == len(interrupted["pareto"])
        assert (
            saved <= first[f"ray_{TRAINED}"] <= last[f"ray_{TRAINED}"]
        )  # an epoch may end before the page is read
        # Ray's page ends with the study: what came last may be missing.
        assert any(page[f"ray_{TRIALS} running"] for page in pages)
        assert last[f"ray_{TRAINED}"] <= epochs_saved(runs_dir / "first")
        assert last[f"ray_{BEST_ACCURACY}"] <= max(r["accuracy_top1"] for r in status["pareto"])

    def test_it_has_exactly_its_trials_and_a_front(self, searched):
        runs_dir, out, _ = searched
        status = status_of("first", runs_dir)
        counts = status["trials"]
        assert status["requested"] == 3
        assert counts["complete"] + counts["failed"] + counts["pruned"] == 3
        assert counts["running"] == 0
        assert status["pareto"]
        assert "Pareto front" in out and "Best under 40 MiB: joint-" in out
        assert "python -m tuner status first" in out

    def test_nothing_over_the_budget_was_started(self, searched):
        runs_dir, *_ = searched
        status = status_of("first", runs_dir)
        assert status["trials"]["infeasible"] >= 1, (
            "the user's report, FT-Full with batch norm, is over 40 MiB"
        )
        for trial in mlflow_runs("first", runs_dir, "trial"):
            assert trial.data.metrics["peak_memory_mib"] <= 40

    def test_mlflow_agrees_with_the_storage(self, searched):
        runs_dir, *_ = searched
        (parent,) = mlflow_runs("first", runs_dir, "study")
        assert parent.info.status == "FINISHED"
        children = {r.data.tags["trial"]: r for r in mlflow_runs("first", runs_dir, "trial")}
        assert set(children) == {f"joint-{i:03d}" for i in range(3)}
        for result in status_of("first", runs_dir)["pareto"]:
            child = children[result["trial"]]
            assert child.data.metrics["accuracy_top1"] == result["accuracy_top1"]
            assert child.data.metrics["peak_memory_mib"] == result["peak_memory_mib"]
            assert child.data.tags["on_front"] == "true"
            assert child.data.params["base_lr"] == str(result["params"]["base_lr"])
        for child in children.values():
            assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
            assert child.info.status == "FINISHED"

    def test_each_epoch_is_recorded_with_the_lr_of_each_group(self, searched):
        runs_dir, *_ = searched
        client = MlflowClient(f"sqlite:///{runs_dir}/mlflow.db")
        for child in mlflow_runs("first", runs_dir, "trial"):
            for metric in (
                "accuracy_top1",
                "train_accuracy_top1",
                "loss",
                "peak_memory_mib",
                "epoch_time_s",
                "lr.classifier",
            ):
                history = client.get_metric_history(child.info.run_id, metric)
                assert [point.step for point in history] == [1, 2, 3], metric

    def test_measured_memory_stands_beside_the_prediction(self, searched):
        runs_dir, *_ = searched
        for child in mlflow_runs("first", runs_dir, "trial"):
            figures = child.data.metrics
            assert figures["measured_peak_mib"] == pytest.approx(figures["trained_memory_mib"], rel=0.1)
            assert figures["smallest_memory_mib"] <= figures["peak_memory_mib"] <= figures["fast_memory_mib"]
            assert 1 <= figures["slowdown"] <= 2

    def test_the_study_can_be_made_again_from_its_folder(self, searched):
        runs_dir, *_ = searched
        made = json.loads((runs_dir / "first" / "study.json").read_text())
        assert (made["memory_budget_mib"], made["trials"], made["epochs"]) == (40, 3, 3)
        assert (runs_dir / "first" / "joint.yaml").read_text() == (
            ROOT / "search_spaces/joint.yaml"
        ).read_text()
        assert (runs_dir / "first" / "front.png").stat().st_size > 10_000

    def test_its_name_is_taken(self, searched, pictures, capsys, monkeypatch):
        runs_dir, *_ = searched
        monkeypatch.setattr(Cluster, "begin", lambda self: None)  # which would end with this process alone
        _, _, *flags = command(pictures, runs_dir, "--name", "first")
        assert launch.main(flags) == 2
        shown = capsys.readouterr().err
        assert "study first exists" in shown and "--resume" in shown


@pytest.mark.slow  # two more studies; test_search.py has the suggestions
def test_a_seed_and_one_worker_repeat_suggestions_and_accuracies(pictures, tmp_path):
    flags = ["--space", "update_method", "--trials", "3", "--epochs", "1", "--workers", "1", "--seed", "5"]
    seen = []
    for name in ("one", "two"):
        run(command(pictures, tmp_path, *flags, "--name", name))
        trials = sorted(mlflow_runs(name, tmp_path, "trial"), key=lambda r: r.data.tags["trial"])
        seen.append(
            [(t.data.params, t.data.metrics["accuracy_top1"], t.data.metrics["loss"]) for t in trials]
        )
    assert len(seen[0]) == 3
    assert seen[0] == seen[1]


@pytest.mark.slow  # test_trainable.py has the trial itself
def test_a_trial_that_diverges_is_failed_with_the_reason_and_the_study_goes_on(pictures, tmp_path):
    space = tmp_path / "diverging.yaml"
    space.write_text(
        "fixed: {method: FT-Full, norm: frozen_bn}\n"
        "parameters:\n  base_lr: {choices: [1e30, 1e-4]}\n"
        "baselines:\n  absurd: {base_lr: 1e30}\n  sound: {base_lr: 1e-4}\n"
    )
    flags = ["--space", str(space), "--trials", "2", "--epochs", "1", "--name", "d", "--workers", "1"]
    out = run(command(pictures, tmp_path / "runs", *flags))
    assert "failed: loss is not finite at step" in out
    counts = status_of("d", tmp_path / "runs")["trials"]
    assert (counts["failed"], counts["complete"]) == (1, 1)
    by_name = {r.data.tags["trial"]: r for r in mlflow_runs("d", tmp_path / "runs", "trial")}
    assert by_name["diverging-000"].info.status == "FAILED"
    assert "loss is not finite at step" in by_name["diverging-000"].data.tags["failure"]
    assert by_name["diverging-001"].info.status == "FINISHED"


@pytest.mark.slow  # streaming and studies each have quick tests of their own
def test_a_study_on_a_published_set_that_streams(tmp_path):
    published.cub200(tmp_path / "birds")
    argv = [sys.executable, "launch.py", "--dataset", "cub200", "--data-dir", str(tmp_path / "birds")]
    argv += ["--runs-dir", str(tmp_path / "runs"), *SMALL, "--set", "loading=stream"]
    argv += ["--trials", "2", "--epochs", "1", "--name", "birds", "--set", "method=FT-Last,TinyTL-B"]
    run(argv)
    counts = status_of("birds", tmp_path / "runs")["trials"]
    assert counts["complete"] == 2 and counts["failed"] == 0
