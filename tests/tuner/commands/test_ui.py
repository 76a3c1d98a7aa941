import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import webbrowser
from pathlib import Path

import pytest

from tests.support.studies import ROOT, free_port, processes_under, started, wait_for
from tuner import __main__
from tuner.commands.ui import MOST_PAGES, _show_pages
from tuner.tracking.client import open_mlflow


@pytest.fixture
def runs_dir(tmp_path):
    """A folder that looks as if studies lay there."""
    (tmp_path / "mlflow.db").touch()
    return tmp_path


def test_a_port_in_use_is_one_line_that_names_the_flag(runs_dir, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert __main__.main(["ui", "--runs-dir", str(runs_dir), "--port", str(port)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"tuner ui: --port {port}: nothing can listen") and err.count("\n") == 1


def test_a_folder_without_studies_is_told(tmp_path, capsys):
    assert __main__.main(["ui", "--runs-dir", str(tmp_path)]) == 2
    assert "no studies under" in capsys.readouterr().err


def error_of(capsys, *argv) -> str:
    assert __main__.main(["ui", *argv]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    return err


def test_studies_without_a_database_are_told_how_to_get_one(tmp_path, capsys):
    (tmp_path / "optuna.journal").touch()
    assert error_of(capsys, "--runs-dir", str(tmp_path)) == (
        f"tuner ui: no MLflow database under {tmp_path}: `python -m tuner sync NAME --runs-dir {tmp_path} "
        f"--tracking-uri sqlite:///{tmp_path}/mlflow.db` makes one, or give --tracking-uri\n"
    )


def test_a_tracking_uri_that_cannot_be_served_is_one_line(tmp_path, capsys):
    err = error_of(capsys, "--tracking-uri", "http://ann:pw@h:5000")
    assert "it is already a server: open http://h:5000 in a browser" in err and "pw" not in err
    missing = tmp_path / "no.db"
    assert f"there is no file {missing}" in error_of(capsys, "--tracking-uri", f"sqlite:///{missing}")
    err = error_of(capsys, "--tracking-uri", "postgresql://ann:pw@127.0.0.1:9/d")
    assert "MLflow does not answer" in err and "pw" not in err
    assert "--tracking-uri nonsense" in error_of(capsys, "--tracking-uri", "nonsense")
    assert not list(tmp_path.iterdir())


def test_a_study_that_mlflow_does_not_have_is_one_line(tmp_path, capsys):
    open_mlflow(f"sqlite:///{tmp_path}/mlflow.db")
    err = error_of(capsys, "mine", "--runs-dir", str(tmp_path))
    assert err == (
        f"tuner ui: MLflow has no study mine: `python -m tuner sync mine --runs-dir {tmp_path}` adds it\n"
    )


def test_addresses_of_the_newest_studies_are_printed_and_the_first_is_opened(capsys, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    pages = [(f"s{index}", f"#/{index}") for index in range(MOST_PAGES + 2)]
    _show_pages("http://h:1", pages, True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "s0: http://h:1/#/0" and lines[-1] == "and 2 more: name one"
    assert len(lines) == MOST_PAGES + 1 and opened == ["http://h:1/#/0"]
    monkeypatch.setattr(webbrowser, "open", lambda address: False)
    _show_pages("http://h:1", [], True)
    assert "No browser could be opened" in capsys.readouterr().err


@pytest.mark.slow
def test_it_serves_another_database(tmp_path):
    log, port, uri = tmp_path / "log", free_port(), f"sqlite:///{tmp_path}/other.db"
    open_mlflow(uri).create_experiment("of the other")
    argv = [sys.executable, "-m", "tuner", "ui", "--tracking-uri", uri, "--port", str(port)]
    with started(argv, log) as ui:
        wait_for(lambda: "Ctrl-C ends it" in log.read_text() or ui.poll() is not None, "the server")
        found = open_mlflow(f"http://127.0.0.1:{port}").search_experiments()
        assert "of the other" in [experiment.name for experiment in found]
        ui.send_signal(signal.SIGINT)
        assert ui.wait(30) == 130
    assert log.read_text().startswith(f"MLflow on {uri} is starting ...")


def status(port: int, host: str) -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"Host": host})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.slow
def test_it_serves_until_ctrl_c_and_leaves_no_process(tmp_path):
    runs_dir, log, port = tmp_path / "runs", tmp_path / "log", free_port()
    runs_dir.mkdir()
    open_mlflow(f"sqlite:///{runs_dir}/mlflow.db")
    argv = [sys.executable, "-m", "tuner", "ui", "--runs-dir", str(runs_dir), "--port", str(port)]
    with started(argv, log) as ui:
        wait_for(lambda: "Ctrl-C ends it" in log.read_text() or ui.poll() is not None, "the server")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
            assert answer.status == 200
        assert status(port, "10.evil.example") == 403 and status(port, f"localhost:{port}") == 200
        below = processes_under(ui.pid)
        assert below
        ui.send_signal(signal.SIGINT)
        assert ui.wait(30) == 130
    assert not [pid for pid in below if Path(f"/proc/{pid}").exists()]
    assert log.read_text().splitlines() == [
        f"MLflow on {runs_dir} is starting ...",
        f"http://127.0.0.1:{port} (Ctrl-C ends it)",
        "tuner ui: interrupted",
    ]


def test_a_server_that_does_not_come_up_says_why(tmp_path):
    (tmp_path / "mlflow.db").write_text("no database")
    argv = [sys.executable, "-m", "tuner", "ui", "--runs-dir", str(tmp_path), "--port", str(free_port())]
    done = subprocess.run(
        argv, cwd=ROOT, capture_output=True, text=True, timeout=120, env=os.environ | {"NO_COLOR": "1"}
    )
    assert done.returncode == 1
    assert done.stderr.startswith("tuner ui: MLflow's server ended with exit code 1: ")
    assert "not a database" in done.stderr and done.stderr.count("\n") == 1
