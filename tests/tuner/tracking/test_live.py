import logging
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from mlflow.tracking import MlflowClient

from tests.support import mlflow_studies as made
from tests.support.counted import Counted, comparisons_of
from tests.support.mlflow_server import Server
from tinytl.config.flat import flat_from_config
from tinytl.errors import ConfigError
from tuner.record.results import pareto_front
from tuner.record.trials import Trial
from tuner.tracking import live as tracking
from tuner.tracking.client import open_mlflow
from tuner.tracking.live import StudyTracking
from tuner.tracking.sync import SyncCounts, sync


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory):
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    open_mlflow(f"sqlite:///{path}")
    return path


@pytest.fixture
def runs_dir(empty_database, tmp_path):
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return tmp_path


def client_of(runs_dir):
    return MlflowClient(f"sqlite:///{runs_dir / 'mlflow.db'}")


def started(study, index):
    """A trial that started in the storage, as the driver tells tracking."""
    return made.start(study, index), flat_from_config(made.planned_config(index))


def train(watched, prepared, study, index, epochs, state="complete", reason=None, **attrs):
    """One trial as the driver lives it: folder, storage and tracking."""
    trial, params = started(study, index)
    watched.trial_started(made.trial_name(index), params, trial.params, None)
    for row in made.write_folder(prepared, index, epochs):
        watched.epoch_ended(made.trial_name(index), row)
    made.end(study, trial, index, **attrs)
    watched.trial_ended(made.trial_name(index), state, reason)


def test_a_study_is_recorded_as_sync_would_rebuild_it(runs_dir, empty_database):
    prepared = made.prepared_study(runs_dir)
    study = made.new_study(prepared)
    watched = StudyTracking(prepared, study)
    train(watched, prepared, study, 0, 3)
    train(watched, prepared, study, 1, 1, "pruned", "stopped at epoch 1", pruned_at=1)
    train(watched, prepared, study, 2, 2, "failed", "the loss is nan", failure="the loss is nan")
    train(watched, prepared, study, 3, 1, "infeasible", "out of memory", infeasible="out of memory")
    train(watched, prepared, study, 4, 2, "interrupted", None, interrupted=True)
    watched.close(study, interrupted=True)

    said = made.view(client_of(runs_dir))
    states = {name: (run["status"], run["tags"].get("state")) for name, run in said.items()}
    assert states == {
        made.NAME: ("KILLED", None),
        made.trial_name(0): ("FINISHED", "complete"),
        made.trial_name(1): ("FINISHED", "pruned"),
        made.trial_name(2): ("FAILED", "failed"),
        made.trial_name(4): ("KILLED", "interrupted"),
    }
    front = said[made.trial_name(0)]
    assert front["tags"]["on_front"] == "true"
    assert set(front["artifacts"]) == {"config.yaml", "last.pt"}
    assert set(said[made.NAME]["artifacts"]) == {
        "commands.txt", "front.html", "front.png", "trials.csv", "trials.json"
    }  # fmt: skip
    before = made.all_rows(runs_dir / "mlflow.db")
    assert sync(made.NAME, str(runs_dir), None, None, driver_is_gone=False) == SyncCounts(0, 5)
    assert made.all_rows(runs_dir / "mlflow.db") == before
    (runs_dir / "mlflow.db").unlink()
    shutil.copy(empty_database, runs_dir / "mlflow.db")
    sync(made.NAME, str(runs_dir), None, None, driver_is_gone=False)
    assert made.view(client_of(runs_dir)) == said


def test_a_resumed_study_keeps_its_runs_and_adds_what_the_last_driver_had_not_recorded(runs_dir):
    prepared = made.prepared_study(runs_dir)
    study = made.new_study(prepared)
    first = StudyTracking(prepared, study)
    train(first, prepared, study, 0, 3)
    trial, params = started(study, 1)
    first.trial_started(made.trial_name(1), params, {}, None)
    rows = made.write_folder(prepared, 1, 2)
    first.epoch_ended(made.trial_name(1), rows[0])
    first._queue.put(None)  # killed: the second row stands in the folder only
    first._thread.join()
    finished = rows_of_run(runs_dir, made.trial_name(0))

    made.end(study, trial, 1, interrupted=True)
    again = made.start(study, 1)
    second = StudyTracking(prepared, study)
    assert made.view(client_of(runs_dir))[made.NAME]["status"] == "RUNNING"
    second.trial_started(made.trial_name(1), params, {}, None)
    for row in made.write_folder(prepared, 1, 3)[1:]:  # from the checkpoint of the first epoch
        second.epoch_ended(made.trial_name(1), row)
    made.end(study, again, 1)
    second.trial_ended(made.trial_name(1), "complete", None)
    second.close(study, interrupted=False)

    said = made.view(client_of(runs_dir))
    assert set(said) == {made.NAME, made.trial_name(0), made.trial_name(1)}
    assert {run["status"] for run in said.values()} == {"FINISHED"}
    assert [step for step, _, _ in said[made.trial_name(1)]["metrics"]["loss"]] == [1, 2, 3]
    assert rows_of_run(runs_dir, made.trial_name(0)) == finished | {"on_front": "true"}


def rows_of_run(runs_dir, name):
    run = made.view(client_of(runs_dir))[name]
    return {"metrics": run["metrics"], "params": run["params"], "on_front": run["tags"]["on_front"]}


def test_calls_cost_the_driver_next_to_nothing(runs_dir):
    prepared = made.prepared_study(runs_dir)
    study = made.new_study(prepared)
    watched = StudyTracking(prepared, study)
    _, params = started(study, 0)
    watched.trial_started(made.trial_name(0), params, {}, None)
    row = made.row(0, 1) | {f"lr.{i}": 0.1 for i in range(5)}
    start = time.thread_time()
    for epoch in range(1, 201):
        watched.epoch_ended(made.trial_name(0), row | {"epoch": epoch})
    assert (time.thread_time() - start) / 200 < 1e-3
    watched.close(study, interrupted=True)
    assert len(made.view(client_of(runs_dir))[made.trial_name(0)]["metrics"]["loss"]) == 200


def test_epochs_that_wait_are_written_in_one_call(runs_dir):
    prepared = made.prepared_study(runs_dir)
    study = made.new_study(prepared)
    watched = StudyTracking(prepared, study)
    calls = []
    log_batch = watched.runs.client.log_batch

    def counted(run_id, *args, **kwargs):
        calls.append(run_id)
        return log_batch(run_id, *args, **kwargs)

    watched.runs.client.log_batch = counted
    train(watched, prepared, study, 0, 3)
    watched._queue.put(None)
    watched._thread.join()
    assert len(calls) == 1


def recorded(watched):
    """Waits until all that was told is in MLflow, without the end that brings it in line."""
    watched._queue.put(None)
    watched._thread.join()
    return {
        name: run["tags"]["on_front"]
        for name, run in made.view(watched.runs.client, with_artifacts=False).items()
        if name != made.NAME
    }


def test_the_front_is_marked_while_the_study_runs(runs_dir, monkeypatch):
    monkeypatch.setattr(tracking, "GATHER_S", 0.0)
    prepared = made.prepared_study(runs_dir)
    study = made.new_study(prepared)
    train(StudyTracking(prepared, study), prepared, study, 3, 3)
    watched = StudyTracking(prepared, study)  # of a resumed study
    assert set(watched._front) == {made.trial_name(3)}
    less_memory, better = made.row(0, 3), made.row(3, 3)
    front = {"accuracy_top1": better["accuracy_top1"], "peak_memory_mib": less_memory["peak_memory_mib"]}
    for name, row, state in (
        (made.trial_name(1), less_memory, "complete"),
        (made.trial_name(2), less_memory | front, "complete"),  # beats both
        (made.trial_name(4), better | {"accuracy_top1": 1.0, "peak_memory_mib": 1.0}, "pruned"),
    ):
        watched.trial_started(name, {}, {}, None)
        watched.epoch_ended(name, row)
        watched.trial_ended(name, state, None)
        wait_until(lambda name=name: watched._queue.empty() and name not in watched._last_rows)
    on_front = recorded(watched)
    assert on_front.pop(made.trial_name(2)) == "true"
    assert len(on_front) == 3 and set(on_front.values()) == {"false"}


def watched_trials(rows):
    return [Trial(name=str(index), params={}, **row) for index, row in enumerate(rows)]


def test_a_trial_that_ends_is_compared_with_the_front_alone():
    watched = object.__new__(StudyTracking)
    watched._front = {}
    rows = [
        {"accuracy_top1": Counted(i * 7 % 1000), "peak_memory_mib": Counted(10 + i % 5)} for i in range(1000)
    ]
    watched._last_rows = {str(index): row for index, row in enumerate(rows)}
    for name in watched._last_rows:
        watched._front = watched._front_with(name)
    assert comparisons_of(lambda: watched._front_with("0")) < 60
    assert list(watched._front) == [trial.name for trial in pareto_front(watched_trials(rows))]


def test_a_trial_that_goes_on_on_another_device_is_not_refused(runs_dir, caplog):
    prepared = made.prepared_study(runs_dir)
    study = made.new_study(prepared)
    first = StudyTracking(prepared, study)
    _, params = started(study, 0)
    first.trial_started(made.trial_name(0), params | {"device": "cpu"}, {}, None)
    recorded(first)
    second = StudyTracking(prepared, study)
    second.trial_started(made.trial_name(0), params | {"device": "cuda"}, {}, None)
    second.epoch_ended(made.trial_name(0), made.row(0, 1))
    recorded(second)
    run = made.view(client_of(runs_dir))[made.trial_name(0)]
    assert run["params"]["device"] == "cpu" and len(run["metrics"]["loss"]) == 1
    assert not caplog.records


def test_what_mlflow_refuses_is_told_shortly_and_holds_up_no_other_trial(runs_dir, caplog):
    prepared = made.prepared_study(runs_dir)
    study = made.new_study(prepared)
    watched = StudyTracking(prepared, study)
    watched.trial_started(made.trial_name(0), {"no key * " + "long " * 100: 1}, {}, None)
    watched.trial_started(made.trial_name(1), {}, {}, None)
    recorded(watched)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"MLflow refuses {made.trial_name(0)} (") and len(line) < 150
    assert made.trial_name(1) in made.view(client_of(runs_dir))


@pytest.mark.parametrize(
    "place", ["tuner.tracking.children.TrialRuns.bring_in_line", "tuner.tracking.live.sync_runs"]
)
def test_a_bug_shows_its_traceback_once_and_stops_no_training(runs_dir, caplog, monkeypatch, place):
    def wrong(*args, **more):
        raise TypeError("mine")

    monkeypatch.setattr(place, wrong)
    prepared = made.prepared_study(runs_dir)
    study = made.new_study(prepared)
    watched = StudyTracking(prepared, study)
    train(watched, prepared, study, 0, 3)
    train(watched, prepared, study, 1, 3)
    watched.close(study, interrupted=False)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR and record.exc_info[0] is TypeError
    assert "does not answer" not in caplog.text and f"tuner sync {made.NAME}" in record.getMessage()


def test_it_opens_in_a_thread_while_ray_starts(runs_dir):
    prepared = made.prepared_study(runs_dir)
    study = made.new_study(prepared)
    with ThreadPoolExecutor() as pool:
        watched = pool.submit(StudyTracking, prepared, study).result()
    watched.close(study, interrupted=False)
    assert made.view(client_of(runs_dir))[made.NAME]["status"] == "FINISHED"


def test_a_new_database_leaves_nothing_beside_it(empty_database):
    assert [path.name for path in empty_database.parent.iterdir()] == ["mlflow.db"]


@pytest.mark.slow
def test_two_studies_may_make_the_database_at_once_and_leave_nothing_beside_it(tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    argv = [sys.executable, "-c", f"from tuner.tracking.client import open_mlflow; open_mlflow({uri!r})"]
    both = [subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [(process.communicate(timeout=240)[1], process.returncode) for process in both] == [("", 0)] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_a_server_that_is_not_there_is_one_line(tmp_path):
    prepared = made.prepared_study(tmp_path, tracking_uri="http://127.0.0.1:9")
    study = made.new_study(prepared)
    message = r"--tracking-uri http://127.0.0.1:9: MLflow does not answer \(Connection refused\)$"
    with pytest.raises(ConfigError, match=message):
        StudyTracking(prepared, study)


@pytest.fixture
def server(runs_dir):
    server = Server(runs_dir / "mlflow.db")
    yield server
    server.kill()


def statuses(runs_dir):
    """What the database behind a server says, whether the server lives or not."""
    runs = client_of(runs_dir).search_runs(["1"])
    return {run.info.run_name: run.info.status for run in runs}


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow  # a real server, killed
def test_a_server_that_is_killed_costs_no_record(server, runs_dir, caplog, capsys):
    prepared = made.prepared_study(runs_dir, tracking_uri=server.uri)
    study = made.new_study(prepared)
    watched = StudyTracking(prepared, study)
    train(watched, prepared, study, 0, 3)
    wait_until(lambda: statuses(runs_dir).get(made.trial_name(0)) == "FINISHED")
    server.kill()
    with caplog.at_level(logging.WARNING, logger="tuner"):
        train(watched, prepared, study, 1, 3)
        wait_until(lambda: watched._away)
        train(watched, prepared, study, 2, 2, "failed", "the loss is nan", failure="the loss is nan")
        watched.close(study, interrupted=False)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2 and max(map(len, lines)) < 250
    assert f"`python -m tuner sync {made.NAME} --runs-dir {runs_dir}` adds the rest" in lines[1]
    assert made.trial_name(1) not in statuses(runs_dir)

    server.start()
    assert sync(made.NAME, str(runs_dir), None, None, driver_is_gone=False) == SyncCounts(
        4, 0
    )  # the front's too
    said = made.view(MlflowClient(server.uri))
    assert [said[made.trial_name(i)]["status"] for i in range(3)] == ["FINISHED", "FINISHED", "FAILED"]
    on_front = [name for name, run in said.items() if run["tags"].get("on_front") == "true"]
    assert on_front and all(set(said[name]["artifacts"]) == {"config.yaml", "last.pt"} for name in on_front)
    assert "front.html" in said[made.NAME]["artifacts"]
    assert [len(said[made.trial_name(i)]["metrics"]["loss"]) for i in range(3)] == [3, 3, 2]
    assert sync(made.NAME, str(runs_dir), None, None, driver_is_gone=False) == SyncCounts(0, 4)
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_a_server_that_comes_back_is_told_what_it_missed(server, runs_dir, monkeypatch):
    monkeypatch.setattr(tracking, "RETRY_S", 0.5)
    prepared = made.prepared_study(runs_dir, tracking_uri=server.uri)
    study = made.new_study(prepared)
    watched = StudyTracking(prepared, study)
    server.kill()
    train(watched, prepared, study, 0, 3)
    wait_until(lambda: watched._away)
    restart = threading.Thread(target=server.start)
    restart.start()
    wait_until(lambda: not watched._away)
    restart.join()
    assert len(made.view(MlflowClient(server.uri))[made.trial_name(0)]["metrics"]["loss"]) == 3
    watched.close(study, interrupted=False)


def test_only_what_was_searched_is_a_metric_of_that_name_and_a_baseline_is_tagged(runs_dir):
    prepared = made.prepared_study(runs_dir)
    study = made.new_study(prepared)
    watched = StudyTracking(prepared, study)
    _, params = started(study, 0)
    watched.trial_started(made.trial_name(0), params, {"base_lr": 1e-3}, "baseline user_report")
    recorded(watched)
    run = made.view(client_of(runs_dir))[made.trial_name(0)]
    assert {name for name in run["metrics"] if name.startswith("searched/")} == {"searched/base_lr"}
    assert run["tags"]["source"] == "baseline user_report" and "n_groups" in run["params"]
