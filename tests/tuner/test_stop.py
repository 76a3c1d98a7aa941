import json
import signal
import subprocess
import sys

import pytest

from tinytl.errors import ConfigError
from tuner.claim import LOCK_FILE, folder_claimed
from tuner.stop import stop_here

DRIVER = """
import pathlib, signal, sys, time
from tuner.claim import folder_claimed
with folder_claimed(pathlib.Path(sys.argv[1]), "s"):
    got = []
    signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
    print("claimed", flush=True)
    while not got:
        time.sleep(0.05)
    sys.exit(0 if got == [signal.SIGTERM] else 1)
"""


def test_the_driver_is_asked_as_by_ctrl_c_and_its_end_is_waited_for(tmp_path):
    argv = [sys.executable, "-c", DRIVER, str(tmp_path / "s")]
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
