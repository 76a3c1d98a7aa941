import json
import signal
import subprocess
import sys
import time

import pytest

from tinytl.errors import ConfigError
from tuner.jobs import client as job_client
from tuner.jobs import stop
from tuner.jobs.stop import stop_here, stop_job
from tuner.record.claim import LOCK_FILE, folder_claimed

DRIVER = """
import pathlib, signal, sys, time
from tuner.record.claim import folder_claimed
time.sleep(float(sys.argv[2]))
with folder_claimed(pathlib.Path(sys.argv[1]), "s"):
    got = []
    signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
    print("claimed", flush=True)
    while not got:
        time.sleep(0.05)
    time.sleep(float(sys.argv[2]))
    sys.exit(0 if got == [signal.SIGTERM] else 1)
"""


def test_the_driver_is_asked_as_by_ctrl_c_and_its_end_is_waited_for(tmp_path):
    argv = [sys.executable, "-c", DRIVER, str(tmp_path / "s"), "0"]
    driver = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    try:
        assert driver.stdout.readline() == "claimed\n"
        told = []
        stop_here("s", str(tmp_path), told.append)
        assert told == ["study s: running trials end their epoch and are saved ..."]
        assert driver.wait(10) == 0
        with folder_claimed(tmp_path / "s", "s"):
            pass
    finally:
        driver.kill()
        driver.communicate()


def test_a_study_that_does_not_run_is_told(tmp_path):
    with pytest.raises(ConfigError, match="study s does not run"):
        stop_here("s", str(tmp_path), print)


def test_a_driver_of_another_machine_is_named_and_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("os.kill", lambda pid, number: pytest.fail(f"sent {signal.Signals(number).name}"))
    with folder_claimed(tmp_path / "s", "s"):
        (tmp_path / "s" / LOCK_FILE).write_text(json.dumps({"host": "elsewhere", "pid": 7, "seen_s": 0}))
        with pytest.raises(ConfigError, match="runs on elsewhere as process 7: stop it there"):
            stop_here("s", str(tmp_path), print)


def test_a_driver_that_prepares_is_waited_for_and_a_long_wait_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(stop, "SILENT_S", 0.1)
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path / "s"), "1"], stdout=subprocess.DEVNULL
    )
    try:
        told = []
        stop_here("s", str(tmp_path), told.append, wait_s=30)
        assert driver.wait(10) == 0
        assert "study s: still waiting, 1 s by now: epochs under way may take long ..." in told
    finally:
        driver.kill()
        driver.wait()


def test_a_driver_of_another_user_is_one_line(tmp_path, monkeypatch):
    def refuse(pid, number):
        raise PermissionError

    monkeypatch.setattr("os.kill", refuse)
    with folder_claimed(tmp_path / "s", "s"), pytest.raises(ConfigError, match="run by another user"):
        stop_here("s", str(tmp_path), print)


def test_ctrl_c_says_that_the_study_goes_on_stopping(tmp_path, monkeypatch):
    def interrupt(seconds):
        raise KeyboardInterrupt

    told = []
    monkeypatch.setattr("os.kill", lambda pid, number: monkeypatch.setattr(time, "sleep", interrupt))
    with folder_claimed(tmp_path / "s", "s"), pytest.raises(KeyboardInterrupt):
        stop_here("s", str(tmp_path), told.append)
    assert told[-1] == "\nNot waiting any longer: study s is still stopping"


def test_a_job_that_could_not_be_stopped_is_one_line_even_without_a_log(monkeypatch):
    from ray.job_submission import JobDetails

    class Client:
        """A cluster whose stopping job fails at once, before it wrote anything."""

        def list_jobs(self):
            return [self.get_job_info("job")]

        def get_job_info(self, job_id):
            kinds = {"job": ("RUNNING", None), "stopping": ("FAILED", 2)}
            status, code = kinds[job_id]
            return JobDetails(
                type="SUBMISSION",
                submission_id=job_id,
                entrypoint="e",
                status=status,
                driver_exit_code=code,
                metadata={job_client.STUDY: "s", job_client.RUNS_DIR: "/r"},
            )

        def submit_job(self, **kwargs):
            return "stopping"

        def get_job_logs(self, job_id):
            return ""

    monkeypatch.setattr(job_client, "connect", lambda flag, address: Client())
    with pytest.raises(ConfigError, match=r"job job of study s was not stopped \(nothing in its log\)"):
        stop_job("s", "http://127.0.0.1:1", print)
