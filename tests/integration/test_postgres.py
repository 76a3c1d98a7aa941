"""Studies whose record lies in a real PostgreSQL: two at once, through a restart, with one driver each."""

import re
import shutil
import time

import optuna
import pytest
from optuna.trial import TrialState

from tests.support.postgres import PASSWORD, USER, postgres
from tests.support.studies import (
    TIMEOUT_S,
    command,
    epochs_saved,
    refusal,
    resume,
    run,
    started,
    wait_for,
    write_pictures,
)
from tinytl.errors import ConfigError
from tuner.record.storage import load_study, open_storage

STUDY = ["--space", "update_method", "--workers", "1"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with postgres(tmp_path_factory.mktemp("postgres")) as server:
        # Two that make Optuna's tables at once are in each other's way.
        open_storage(server.url(), "").engine.dispose()
        yield server


def names_of(name, runs_dir, server):
    """Returns the trials that are complete, and sees that none is anything else."""
    study = load_study(name, str(runs_dir), server.url())
    trials = study.trials
    study._storage._backend.engine.dispose()
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    return sorted(trial.user_attrs["name"] for trial in trials)


def text_files(folder):
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix in ("", ".json", ".yaml", ".txt", ".jsonl", ".html", ".lock"):
            yield path, path.read_text(errors="replace")


def test_a_record_is_written_and_read_again(server, tmp_path):
    storage = open_storage(server.url(), str(tmp_path))
    study = optuna.create_study(study_name="quick", storage=storage, directions=["maximize", "minimize"])
    study.add_trial(optuna.create_trial(values=[0.5, 10.0], user_attrs={"name": "quick-000"}))
    storage.engine.dispose()
    assert names_of("quick", tmp_path, server) == ["quick-000"]
    refused = server.url(password="wrong")
    with pytest.raises(ConfigError, match=f'password authentication failed for user "{USER}"') as error:
        open_storage(refused, str(tmp_path))
    assert "wrong" not in str(error.value)


@pytest.mark.slow
def test_two_studies_at_once_and_no_password_is_written_anywhere(pictures, server, tmp_path):
    server.create("mlflow")
    runs_dir = tmp_path / "runs"
    flags = [*STUDY, "--storage", server.url(), "--trials", "2", "--epochs", "2"]
    argvs = {name: command(pictures, runs_dir, *flags, "--name", name) for name in ("one", "two")}
    argvs["one"] += ["--tracking-uri", server.url("mlflow")]
    with (
        started(argvs["one"], tmp_path / "log.one") as one,
        started(argvs["two"], tmp_path / "log.two") as two,
    ):
        for driver in (one, two):
            driver.wait(TIMEOUT_S)
    logs = [(tmp_path / f"log.{name}").read_text() for name in argvs]
    assert (one.returncode, two.returncode) == (0, 0), logs
    for name in argvs:
        assert names_of(name, runs_dir, server) == ["update_method-000", "update_method-001"]
    secret = re.compile(f"{re.escape(PASSWORD)}|{re.escape(server.url().partition('@')[0])}")
    assert not [log for log in logs if secret.search(log)]
    assert not [path for path, text in text_files(runs_dir) if secret.search(text)]

    # What study.json names has no password; PostgreSQL's client takes it from the environment.
    out = run(resume("one", runs_dir, "--trials", "3"), env={"PGPASSWORD": PASSWORD})
    assert "3 complete (of 3 requested)" in out
    line = refusal(resume("one", runs_dir, "--trials", "4"))
    assert "give the password in --storage, in PGPASSWORD or in ~/.pgpass" in line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("database", "password", "said"),
    [
        (
            "study",
            "wrong",
            f'password authentication failed for user "{USER}": give the password in --storage',
        ),
        ("nowhere", PASSWORD, 'database "nowhere" does not exist'),
    ],
)
def test_what_the_database_refuses_is_one_line_without_the_password(
    pictures, server, tmp_path, database, password, said
):
    url = server.url(database, password)
    line = refusal(command(pictures, tmp_path / "runs", "--storage", url))
    assert said in line
    assert f"--storage postgresql://{USER}@127.0.0.1:{server.port}/{database}: cannot be opened (" in line
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_database_that_may_not_be_written_is_one_line(pictures, server, tmp_path):
    for statement in (
        "CREATE ROLE reader LOGIN PASSWORD 'r'",
        "GRANT USAGE ON SCHEMA public TO reader",
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader",
    ):
        server.execute(statement)
    url = f"postgresql://reader:r@127.0.0.1:{server.port}/study"
    flags = ["--storage", url, "--tracking-uri", "none"]
    line = refusal(command(pictures, tmp_path / "runs", *flags))
    assert line == (
        f"launch.py: --storage postgresql://reader@127.0.0.1:{server.port}/study: cannot be written "
        "(permission denied for table studies): allow writing there\n"
    )
    assert not list((tmp_path / "runs").glob("*/*"))


@pytest.mark.slow
def test_a_server_that_is_away_for_seconds_costs_no_trial(pictures, server, tmp_path):
    runs_dir = tmp_path / "runs"
    argv = command(pictures, runs_dir, *STUDY, "--storage", server.url(), "--name", "away")
    with started([*argv, "--trials", "2", "--epochs", "8"], tmp_path / "log") as driver:
        wait_for(lambda: epochs_saved(runs_dir / "away") >= 2, "epochs")
        server.stop()
        before = epochs_saved(runs_dir / "away")
        time.sleep(6)
        server.start()
        driver.wait(TIMEOUT_S)
    log = (tmp_path / "log").read_text()
    assert driver.returncode == 0 and "Traceback" not in log, log
    assert epochs_saved(runs_dir / "away") == 16 > before
    assert names_of("away", runs_dir, server) == [f"update_method-{index:03d}" for index in range(2)]


@pytest.mark.slow
def test_a_driver_of_another_folder_is_refused_while_one_lives(pictures, server, tmp_path):
    flags = [*STUDY, "--storage", server.url(), "--name", "mine", "--trials", "2", "--epochs", "1000"]
    with started(command(pictures, tmp_path / "a", *flags), tmp_path / "log") as driver:
        wait_for(lambda: epochs_saved(tmp_path / "a" / "mine") >= 1, "an epoch")
        shutil.copytree(tmp_path / "a" / "mine", tmp_path / "b" / "mine")
        line = refusal(resume("mine", tmp_path / "b", "--storage", server.url()))
        assert f"study mine is being run by process {driver.pid} on " in line
