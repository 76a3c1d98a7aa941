import os
import signal
from contextlib import ExitStack

from tuner.__main__ import build_parser, main
from tuner.config import StudyConfig
from tuner.jobs import stop
from tuner.next_commands import resume_command
from tuner.record.claim import folder_claimed


def test_a_study_here_is_asked_to_end_and_how_to_go_on_is_the_last_line(tmp_path, capsys, monkeypatch):
    runs_dir = str(tmp_path / "my runs")
    monkeypatch.setattr(stop, "POLL_S", 0.01)
    sent = []
    with ExitStack() as driver:
        driver.enter_context(folder_claimed(tmp_path / "my runs" / "mine", "mine"))

        def end(pid, number):
            sent.append((pid, number))
            driver.close()

        monkeypatch.setattr(os, "kill", end)
        assert main(["stop", "mine", "--runs-dir", runs_dir]) == 0
    assert sent == [(os.getpid(), signal.SIGTERM)]
    lines = capsys.readouterr().out.splitlines()
    assert "mine" in lines[0] and lines[-1].endswith(resume_command("mine", runs_dir))


def test_a_study_that_does_not_run_is_one_line_and_no_way_to_go_on(tmp_path, capsys):
    assert main(["stop", "mine", "--runs-dir", str(tmp_path)]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("tuner stop: ") and shown.err.count("\n") == 1


def test_on_a_cluster_its_runs_lie_where_the_job_says(capsys, monkeypatch):
    asked = []

    def stop_job(name, address, tell):
        asked.append((name, address))
        tell("asked")
        return "/shared/runs"

    monkeypatch.setattr(stop, "stop_job", stop_job)
    url = "http://127.0.0.1:8265"
    assert main(["stop", "mine", "--address", url, "--runs-dir", "elsewhere"]) == 0
    assert asked == [("mine", url)]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "asked" and lines[-1].endswith(resume_command("mine", "/shared/runs", url))


def test_nothing_is_waited_for_unless_asked():
    args = build_parser().parse_args(["stop", "mine"])
    assert (args.runs_dir, args.address, args.wait) == (StudyConfig.runs_dir, None, 0.0)
    assert build_parser().parse_args(["stop", "mine", "--wait", "60"]).wait == 60.0
