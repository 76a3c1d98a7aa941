import shutil
import sqlite3
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from tests.support import mlflow_studies as made
from tests.support.mlflow_server import Server
from tinytl.errors import ConfigError
from tuner.tracking.client import _no_answer, answering, artifacts_beside, open_mlflow
from tuner.tracking.sync import SyncCounts, sync


@pytest.mark.parametrize(
    ("uri", "folder"),
    [
        ("http://127.0.0.1:5000", None),
        ("sqlite:////data/mlflow.db", "file:///data/mlartifacts"),
        ("postgresql://db/mlflow", "file:///runs/mlartifacts"),
    ],
)
def test_where_the_artifacts_of_a_database_lie(tmp_path, uri, folder):
    assert artifacts_beside(uri, Path("/runs")) == folder


@pytest.mark.parametrize("what", ["a place where nothing can be made", "no database"])
def test_a_database_that_cannot_be_had_is_told_at_once(tmp_path, what):
    path = Path("/proc/mlflow.db")
    if what == "no database":
        path = tmp_path / "notes.txt"
        path.write_text("of another kind" * 100)
    with pytest.raises(ConfigError, match=f"--tracking-uri sqlite:///{path}: MLflow does not answer"):
        open_mlflow(f"sqlite:///{path}")


def test_a_database_of_another_version_names_the_way_on(tmp_path):
    open_mlflow(f"sqlite:///{tmp_path / 'mlflow.db'}")
    shutil.copyfile(
        tmp_path / "mlflow.db", tmp_path / "old.db"
    )  # MLflow remembers the databases it has opened
    with sqlite3.connect(tmp_path / "old.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    with pytest.raises(
        ConfigError, match="out-of-date database schema: copy the database, then run `mlflow db upgrade`"
    ):
        open_mlflow(f"sqlite:///{tmp_path / 'old.db'}")


def test_a_refusal_is_not_called_silence(tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = open_mlflow(uri)
    run_id = client.create_run("0").info.run_id
    client.log_param(run_id, "device", "cpu")
    with pytest.raises(ConfigError, match=r"MLflow refuses \(Changing param values") as told, answering(uri):
        client.log_param(run_id, "device", "cuda " * 100)
    assert "\n" not in str(told.value) and len(str(told.value).partition("MLflow")[2]) < 150


def test_a_file_of_the_study_that_cannot_be_read_is_not_mlflows_matter(tmp_path):
    open_mlflow(f"sqlite:///{tmp_path / 'mlflow.db'}")
    prepared = made.prepared_study(tmp_path)
    made.every_kind(prepared)
    unreadable = prepared.folder / "my.yaml"
    unreadable.mkdir()
    with pytest.raises(ConfigError) as told:
        sync(made.NAME, str(tmp_path), None, None, driver_is_gone=True)
    assert str(told.value) == f"{unreadable} cannot be read (Is a directory)"


@pytest.mark.slow
def test_a_server_with_a_password_takes_a_study_and_refuses_strangers_in_one_line(tmp_path, monkeypatch):
    open_mlflow(f"sqlite:///{tmp_path / 'empty.db'}")
    shutil.copy(tmp_path / "empty.db", tmp_path / "mlflow.db")
    config = tmp_path / "auth.ini"
    config.write_text(
        "[mlflow]\ndefault_permission = READ\nadmin_username = admin\n"
        f"database_uri = sqlite:///{tmp_path / 'auth.db'}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    secrets = {"MLFLOW_AUTH_CONFIG_PATH": str(config), "MLFLOW_AUTH_ADMIN_PASSWORD": "correct horse battery"}
    secrets["MLFLOW_FLASK_SERVER_SECRET_KEY"] = "of the test"
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "120")  # a password is slow to check by design
    server = Server(tmp_path / "mlflow.db", "--app-name", "basic-auth", env=secrets)
    try:
        prepared = made.prepared_study(tmp_path / "runs", tracking_uri=server.uri)
        made.every_kind(prepared)
        for user, password in ((None, None), ("admin", "wrong")):
            for key, value in (("USERNAME", user), ("PASSWORD", password)):
                name = f"MLFLOW_TRACKING_{key}"
                monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
            with pytest.raises(
                ConfigError, match="user or password is wrong: set MLFLOW_TRACKING_USERNAME"
            ) as e:
                sync(made.NAME, str(tmp_path / "runs"), None, None, driver_is_gone=True)
            assert "\n" not in str(e.value) and "wrong:" in str(e.value)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "correct horse battery")
        for counts in (SyncCounts(8, 0), SyncCounts(0, 8)):
            assert sync(made.NAME, str(tmp_path / "runs"), None, None, driver_is_gone=True) == counts
        said = made.view(open_mlflow(server.uri))
        assert {"last.pt", "config.yaml"} == set(said[made.trial_name(0)]["artifacts"])
    finally:
        server.kill()


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("API request to endpoint /api failed with error code 401 != 200. Response body: ''", True),
        ("API request to endpoint /api failed with error code 500 != 200. Response body: 'code 401'", False),
        ("Run with id=5f401e2 not found", False),  # an id may hold the number
    ],
)
def test_a_wrong_password_is_told_by_its_code_alone(answer, told):
    assert ("password is wrong" in str(_no_answer("http://127.0.0.1:5000", MlflowException(answer)))) is told
