"""Studies that are killed, stopped, run out of room or memory: nothing is lost, doubled or left RUNNING.

test_study.py has the quick one: a worker and a driver that are killed.
"""

import os
import re
import signal
import sys

import pytest
from optuna.trial import TrialState

from tests.support.studies import (
    TIMEOUT_S,
    check_whole,
    command,
    epochs_saved,
    free_port,
    mlflow_runs,
    processes_under,
    ray_start,
    raylet_of,
    records_of,
    refusal,
    resume,
    run,
    started,
    status_of,
    wait_for,
    workers_of,
    write_pictures,
)
from tuner.record.storage import load_study

NAMED = ["--space", "update_method", "--name", "k"]
LONG = [*NAMED, "--workers", "2", "--trials", "4", "--epochs", "4"]
ONE_WORKER = [*NAMED, "--workers", "1"]
"""Most of these need no second process that imports torch."""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.mark.slow
def test_everything_killed_at_once_twice_is_resumed(pictures, tmp_path):
    runs_dir, log = tmp_path / "runs", tmp_path / "log"
    argv = command(pictures, runs_dir, *LONG)
    for saved in (2, 8):
        with started(argv, log) as driver:
            wait_for(lambda saved=saved: epochs_saved(runs_dir / "k") >= saved, f"{saved} epochs")
            for pid in [driver.pid, *processes_under(driver.pid)]:
                os.kill(pid, signal.SIGKILL)
        argv = resume("k", runs_dir)
    run(argv)
    check_whole("k", runs_dir, trials=4, epochs=4)


@pytest.mark.slow
def test_ctrl_c_saves_and_ends_with_130_and_names_the_way_on(pictures, tmp_path):
    runs_dir, log = tmp_path / "runs", tmp_path / "log"
    flags = [*ONE_WORKER, "--trials", "3", "--epochs", "50"]
    with started(command(pictures, runs_dir, *flags), log) as driver:
        wait_for(lambda: epochs_saved(runs_dir / "k") >= 2, "epochs")
        driver.send_signal(signal.SIGINT)
        driver.wait(TIMEOUT_S)
    out = log.read_text()
    assert driver.returncode == 130, out
    assert "Stopping: running trials end their epoch and are saved" in out
    assert "Resume:  python launch.py --name k --resume" in out
    assert "Traceback" not in out
    assert status_of("k", runs_dir)["trials"]["running"] == 0
    assert {r.info.status for r in mlflow_runs("k", runs_dir, "trial")} <= {"KILLED"}


@pytest.mark.slow
def test_sigterm_to_the_whole_group_of_processes_ends_as_ctrl_c_does(pictures, tmp_path):
    runs_dir, log = tmp_path / "runs", tmp_path / "log"
    with started(command(pictures, runs_dir, *ONE_WORKER, "--trials", "3", "--epochs", "50"), log) as driver:
        wait_for(lambda: epochs_saved(runs_dir / "k") >= 2, "epochs")
        os.killpg(driver.pid, signal.SIGTERM)  # as `timeout` does
        driver.wait(TIMEOUT_S)
    out = log.read_text()
    assert driver.returncode == 130, out
    assert "Resume:  python launch.py --name k --resume" in out
    assert "Traceback" not in out
    assert status_of("k", runs_dir)["trials"]["running"] == 0


@pytest.mark.slow
def test_ctrl_c_twice_ends_at_once(pictures, tmp_path):
    runs_dir, log = tmp_path / "runs", tmp_path / "log"
    with started(command(pictures, runs_dir, *ONE_WORKER, "--trials", "3", "--epochs", "50"), log) as driver:
        wait_for(lambda: epochs_saved(runs_dir / "k") >= 2, "epochs")
        driver.send_signal(signal.SIGINT)
        driver.send_signal(signal.SIGINT)
        driver.wait(TIMEOUT_S)
    assert driver.returncode == 130 and "Traceback" not in log.read_text(), log.read_text()
    assert status_of("k", runs_dir)["trials"]["running"] == 0


@pytest.mark.slow
def test_a_time_budget_ends_cleanly_a_resume_ends_the_study_and_another_extends_it(pictures, tmp_path):
    runs_dir = tmp_path / "runs"
    flags = [*ONE_WORKER, "--trials", "2", "--epochs", "10"]
    out = run(command(pictures, runs_dir, *flags, "--time-budget", "6"))
    assert "The search ended: the time budget is spent." in out and "Resume:" in out
    assert status_of("k", runs_dir)["trials"]["running"] == 0
    run(resume("k", runs_dir))
    check_whole("k", runs_dir, trials=2, epochs=10)
    before = records_of("k", runs_dir)
    run(resume("k", runs_dir, "--trials", "3"))
    check_whole("k", runs_dir, trials=3, epochs=10)
    after = records_of("k", runs_dir)
    assert {name: after[name] for name in before} == before


@pytest.mark.slow
def test_a_second_driver_is_refused_and_the_first_is_named(pictures, tmp_path):
    runs_dir, log = tmp_path / "runs", tmp_path / "log"
    with started(
        command(pictures, runs_dir, *ONE_WORKER, "--trials", "2", "--epochs", "1000"), log
    ) as driver:
        wait_for(lambda: epochs_saved(runs_dir / "k") >= 1, "an epoch")
        line = refusal(resume("k", runs_dir))
        assert f"study k is being run by process {driver.pid} on " in line


@pytest.mark.slow
def test_a_worker_that_dies_more_often_than_allowed_has_failed(pictures, tmp_path):
    runs_dir, log = tmp_path / "runs", tmp_path / "log"
    flags = [*ONE_WORKER, "--trials", "2", "--epochs", "6", "--max-failures", "0"]
    with started(command(pictures, runs_dir, *flags), log) as driver:
        wait_for(lambda: epochs_saved(runs_dir / "k") >= 2, "epochs")
        os.kill(wait_for(lambda: workers_of(driver), "a worker")[0], signal.SIGKILL)
        driver.wait(TIMEOUT_S)
    assert driver.returncode == 0, log.read_text()
    assert re.search(r"update_method-000 .*failed: its process was killed", log.read_text())
    counts = status_of("k", runs_dir)["trials"]
    assert (counts["failed"], counts["complete"]) == (1, 1)
    check_whole("k", runs_dir, trials=2, epochs=6)


NO_FILE_OVER_8_MIB = """
import resource, sys
if any(word.endswith("default_worker.py") for word in sys.orig_argv):  # Ray itself needs larger files
    resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 20, 8 << 20))
"""


@pytest.mark.slow
def test_a_full_disk_stops_the_study_and_it_goes_on_once_there_is_room(pictures, tmp_path):
    """No process that trains may write a file of more than 8 MiB: the first checkpoint is one."""
    runs_dir = tmp_path / "runs"
    (tmp_path / "sitecustomize.py").write_text(NO_FILE_OVER_8_MIB)
    argv = command(pictures, runs_dir, *ONE_WORKER, "--trials", "2", "--epochs", "2")
    line = refusal(argv, {"PYTHONPATH": str(tmp_path)})
    assert "study k was stopped: checkpoint" in line and "--resume" in line
    run(resume("k", runs_dir))
    check_whole("k", runs_dir, trials=2, epochs=2)


@pytest.mark.slow
@pytest.mark.parametrize(("free_kib", "tracking"), [(0, "none"), (8, "none"), (16, "default")])
def test_a_disk_that_is_full_from_the_start_is_one_line(pictures, tmp_path, free_kib, tracking):
    runs_dir = tmp_path / "runs"
    runs_dir.mkdir()
    mounts = "-m" if os.geteuid() == 0 else "-mr"  # only root may mount: another is root to itself
    full = f"mount -t tmpfs -o size={free_kib + 4}k none {runs_dir} && printf x > {runs_dir}/fill && "
    flags = [] if tracking == "default" else ["--tracking-uri", tracking]
    argv = command(pictures, runs_dir, *ONE_WORKER, *flags)
    after = f'"$@"; code=$?; cd {runs_dir}; printf %s "$(echo *)" > {tmp_path}/left; exit $code'
    line = refusal(["unshare", mounts, "sh", "-c", full + after, "full", *argv])
    assert line.startswith("launch.py: ") and line.endswith("make room\n"), line
    assert "k" not in (tmp_path / "left").read_text().split()  # no folder of the study


@pytest.mark.slow
def test_a_node_that_is_killed_loses_no_trial(pictures, tmp_path):
    """Two nodes with a CPU each; one is killed while it trains, and its trial continues on the other."""
    runs_dir, address = tmp_path / "runs", f"127.0.0.1:{free_port()}"
    head_flags = ["--head", "--port", address.rpartition(":")[2], "--include-dashboard", "false"]
    study = command(pictures, runs_dir, *LONG, "--address", address, "--max-failures", "0")
    with ray_start(tmp_path / "head", *head_flags) as head:
        wait_for(lambda: raylet_of(head), "Ray's head")
        with ray_start(tmp_path / "node", "--address", address) as node:
            raylet = wait_for(lambda: raylet_of(node), "a second node")
            with started(study, tmp_path / "log") as driver:
                wait_for(
                    lambda: epochs_saved(runs_dir / "k") >= 3 and workers_of(node), "a trial on each node"
                )
                os.kill(raylet, signal.SIGKILL)
                driver.wait(TIMEOUT_S)
    assert driver.returncode == 0, (tmp_path / "log").read_text()
    assert status_of("k", runs_dir)["trials"]["complete"] == 4
    check_whole("k", runs_dir, trials=4, epochs=4)


HOLDS_A_CPU = """
import sys, time, ray
ray.init(address=sys.argv[1], log_to_driver=False)
ray.get(ray.util.placement_group([{"CPU": 1}]).ready())
print("held", flush=True)
time.sleep(1000)
"""


def waiting_again(runs_dir) -> list[str]:
    """Returns the names of the trials that were cut off and wait."""
    trials = load_study("k", str(runs_dir)).get_trials(states=(TrialState.WAITING,))
    return [trial.user_attrs["again"] for trial in trials if "again" in trial.user_attrs]


@pytest.mark.slow
def test_a_study_that_waits_for_the_cluster_says_so_and_stops_when_told(pictures, tmp_path):
    """One CPU, which another driver holds."""
    runs_dir, log, holder = tmp_path / "runs", tmp_path / "log", tmp_path / "holder"
    address = f"127.0.0.1:{free_port()}"
    head_flags = ["--head", "--port", address.rpartition(":")[2], "--include-dashboard", "false"]
    joins = ["--address", address, "--tracking-uri", "none"]
    study = command(pictures, runs_dir, *NAMED, "--trials", "2", *joins)
    hold = [sys.executable, "-c", HOLDS_A_CPU, address]
    with ray_start(tmp_path / "head", *head_flags) as head:
        wait_for(lambda: raylet_of(head), "Ray's head")
        with started(hold, holder, {"RAY_AUTH_MODE": "token"}):
            wait_for(lambda: "held" in holder.read_text(), "the CPU that is held")
            with started(study, log) as driver:
                wait_for(lambda: "Waiting for the cluster" in log.read_text(), "the line that tells")
                driver.send_signal(signal.SIGTERM)
                driver.wait(TIMEOUT_S)
            assert driver.returncode == 130, log.read_text()
            told = log.read_text()
            assert "a trial needs 1 CPU, and others have left 0 of 1 CPUs on " in told
            assert told.count("Waiting") == 1 and "Trial " not in told and "Traceback" not in told
            assert waiting_again(runs_dir) == ["update_method-000"]
            again = [*resume("k", runs_dir, "--time-budget", "1"), *joins]
            assert "the time budget is spent" in run(again)
            assert waiting_again(runs_dir) == ["update_method-000"]
            assert status_of("k", runs_dir)["trials"]["running"] == 0
        assert "2 complete (of 2 requested)" in run([*resume("k", runs_dir), *joins])
    assert sorted(records_of("k", runs_dir)) == ["update_method-000", "update_method-001"]
