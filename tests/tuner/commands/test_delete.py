import io
import json
import shutil
import sys
import uuid

import pytest
from mlflow.tracking import MlflowClient

from tests.support.studies import free_port
from tests.support.synthetic_study import write_study
from tuner.__main__ import main
from tuner.bucket.copies import READ, copy_at
from tuner.bucket.database import send_mlflow
from tuner.bucket.store import Bucket, BucketError, open_bucket
from tuner.record import schema
from tuner.record.claim import finish_claimed, folder_claimed
from tuner.record.storage import open_storage, study_names
from tuner.tracking.client import open_mlflow


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two studies, each with its runs in MLflow, whose database takes seconds to make."""
    folder = tmp_path_factory.mktemp("made")
    client = open_mlflow(f"sqlite:///{folder}/mlflow.db")
    experiment = client.create_experiment("synthetic")
    for name in ("mine", "other"):
        study = write_study(folder, name, 2, 3)
        study.set_user_attr(schema.STUDY_ID, f"id of {name}")
        for kind in ("study", "trial", "trial"):
            client.create_run(
                experiment, tags={"study": name, "kind": kind, schema.STUDY_ID: f"id of {name}"}
            )
    return folder


@pytest.fixture
def runs_dir(made, tmp_path):
    return shutil.copytree(made, tmp_path / "my runs")


def runs_of(runs_dir, name):
    client = MlflowClient(f"sqlite:///{runs_dir}/mlflow.db")
    experiments = [e.experiment_id for e in client.search_experiments()]
    return len(client.search_runs(experiments, f"tags.study = '{name}'"))


def records(runs_dir):
    return sorted(study_names(open_storage(None, str(runs_dir))))


def delete(runs_dir, *flags, name="mine"):
    return main(["delete", name, "--runs-dir", str(runs_dir), *flags])


def test_record_folder_and_runs_go_and_another_study_stays(runs_dir, capsys):
    assert delete(runs_dir, "--yes") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"removed: 3 runs in MLflow at sqlite:///{runs_dir}/mlflow.db"
    assert lines[1] == f"removed: the record of 2 trials in {runs_dir}/optuna.journal"
    assert lines[2].startswith(f"removed: the folder {runs_dir}/mine (") and len(lines) == 3
    assert not (runs_dir / "mine").exists() and (runs_dir / "other" / "study.json").exists()
    assert records(runs_dir) == ["other"]
    assert (runs_of(runs_dir, "mine"), runs_of(runs_dir, "other")) == (0, 3)
    assert delete(runs_dir, "--yes") == 2
    assert "no study mine under" in capsys.readouterr().err


def test_a_logged_model_goes_and_a_registered_one_stays_with_its_run(runs_dir, capsys, monkeypatch):
    client = MlflowClient(f"sqlite:///{runs_dir}/mlflow.db")
    experiment = client.get_experiment_by_name("synthetic").experiment_id
    tags = {"study": "mine", "kind": "model", schema.STUDY_ID: "id of mine"}
    kept, gone = (client.create_run(experiment, tags=tags).info.run_id for _ in range(2))
    models = [client.create_logged_model(experiment, "model", run_id).model_id for run_id in (kept, gone)]
    client.create_registered_model("colors")
    client.create_model_version("colors", f"runs:/{kept}/model", kept)

    stays = "stays: models:/colors/1 in MLflow's registry, with its run and files: remove it there if nobody"
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    assert delete(runs_dir) == 0
    asked = capsys.readouterr().out
    assert "4 runs and 1 logged model in MLflow" in asked
    assert stays in asked and asked.index(stays) < asked.index("Nothing was removed")
    assert delete(runs_dir, "--yes") == 0
    assert stays in capsys.readouterr().out
    assert [model.model_id for model in client.search_logged_models([experiment])] == models[:1]
    assert client.get_run(kept).info.lifecycle_stage == "active" and runs_of(runs_dir, "mine") == 1


def test_a_study_that_is_being_finished_is_left_alone(runs_dir, capsys):
    with finish_claimed(runs_dir / "mine", "mine"):
        assert delete(runs_dir, "--yes") == 2
    assert "study mine is being finished by process" in capsys.readouterr().err
    assert runs_of(runs_dir, "mine") == 3 and records(runs_dir) == ["mine", "other"]


@pytest.fixture
def bucket(made, tmp_path, monkeypatch) -> Bucket:
    """A bucket in this process's memory with the study, whose journal is its own there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bucket = open_bucket(f"memory://{uuid.uuid4().hex}/runs")
    for key in ("mine/study.json", "mine/joint-000/config.yaml", "mlflow.db"):
        bucket.write(key, (made / key).read_bytes())
    bucket.write("mine/optuna.journal", (made / "optuna.journal").read_bytes())
    return bucket


class Terminal(io.StringIO):
    """A user who answers; `meanwhile` happens before the answer."""

    def __init__(self, answer, meanwhile=lambda: None):
        super().__init__(answer)
        self.meanwhile = meanwhile

    def isatty(self):
        return True

    def readline(self, *args):
        self.meanwhile()
        return super().readline(*args)


def runs_in(bucket, name, tmp_path):
    brought = tmp_path / uuid.uuid4().hex
    brought.mkdir()
    (brought / "mlflow.db").write_bytes(bucket.read("mlflow.db"))
    return runs_of(brought, name)


def add_a_run_elsewhere(bucket, tmp_path):
    """Another study on another machine ends, and sends MLflow's database."""
    elsewhere = tmp_path / "elsewhere.db"
    elsewhere.write_bytes(bucket.read("mlflow.db"))
    client = MlflowClient(f"sqlite:///{elsewhere}")
    experiment = client.get_experiment_by_name("synthetic").experiment_id
    client.create_run(experiment, tags={"study": "other", "kind": "trial"})
    bucket.write("mlflow.db", elsewhere.read_bytes())


def test_in_a_bucket_the_runs_are_gone_too_though_another_study_ended_while_it_was_asked(
    bucket, tmp_path, capsys, monkeypatch
):
    runs_dir = copy_at(bucket.address, READ).root
    answer = Terminal("y\n", lambda: add_a_run_elsewhere(bucket, tmp_path))
    monkeypatch.setattr(sys, "stdin", answer)
    assert delete(runs_dir) == 0
    assert capsys.readouterr().out.count("removed: ") == 3
    assert list(bucket.versions("mine")) == [] and not (runs_dir / "mine").exists()
    assert (runs_in(bucket, "mine", tmp_path), runs_in(bucket, "other", tmp_path)) == (0, 4)


def test_in_a_bucket_a_study_stays_until_its_runs_are_gone(bucket, tmp_path, capsys, monkeypatch):
    from tuner.study import delete as module

    runs_dir = copy_at(bucket.address, READ).root

    def late(runs_dir):
        add_a_run_elsewhere(bucket, tmp_path)
        send_mlflow(runs_dir)

    before = set(bucket.versions("mine"))
    with monkeypatch.context() as patched:
        patched.setattr(module, "send_mlflow", late)
        assert delete(runs_dir, "--yes") == 2
    err = capsys.readouterr().err
    assert f"{bucket.address}/mlflow.db was written by another process meanwhile: do this again" in err
    assert err.count("\n") == 1 and before <= set(bucket.versions("mine"))
    assert delete(runs_dir, "--yes") == 0
    assert list(bucket.versions("mine")) == []
    assert (runs_in(bucket, "mine", tmp_path), runs_in(bucket, "other", tmp_path)) == (0, 4)


def test_in_a_bucket_runs_whose_end_was_not_sent_are_sent_by_the_next_call(
    bucket, tmp_path, capsys, monkeypatch
):
    runs_dir = copy_at(bucket.address, READ).root
    write = Bucket.write

    def refuse(self, key, content):
        if key == "mlflow.db":
            raise BucketError("the bucket does not answer", away=True)
        write(self, key, content)

    with monkeypatch.context() as patched:
        patched.setattr(Bucket, "write", refuse)
        assert delete(runs_dir, "--yes") == 2
    assert "the bucket does not answer: bring the bucket back" in capsys.readouterr().err
    assert bucket.read("mine/study.json") is not None
    assert delete(runs_dir, "--yes") == 0
    assert list(bucket.versions("mine")) == [] and runs_in(bucket, "mine", tmp_path) == 0


def test_nobody_to_ask_is_a_mistake_and_no_is_no(runs_dir, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert delete(runs_dir) == 2
    assert "add --yes" in capsys.readouterr().err

    for answer, gone in (("\n", False), ("n\n", False), ("y\n", True)):
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        assert delete(runs_dir) == 0
        out = capsys.readouterr().out
        assert "To be removed of study mine:\n  3 runs in MLflow" in out
        assert (runs_dir / "mine").exists() is not gone and (records(runs_dir) == ["other"]) is gone


def test_a_study_that_runs_is_left_alone(runs_dir, capsys):
    with folder_claimed(runs_dir / "mine", "mine"):
        assert delete(runs_dir, "--yes") == 2
    assert "study mine is being run by process" in capsys.readouterr().err
    assert records(runs_dir) == ["mine", "other"] and runs_of(runs_dir, "mine") == 3


def test_an_mlflow_that_is_away_leaves_all_as_it_is_and_none_goes_without_it(runs_dir, capsys):
    file = runs_dir / "mine" / "study.json"
    saved = json.loads(file.read_text()) | {"tracking_uri": f"http://127.0.0.1:{free_port()}"}
    file.write_text(json.dumps(saved))
    assert delete(runs_dir, "--yes") == 2
    err = capsys.readouterr().err
    assert "MLflow does not answer" in err and "--tracking-uri none leaves its runs there" in err
    assert err.count("\n") == 1 and records(runs_dir) == ["mine", "other"]
    assert delete(runs_dir, "--yes", "--tracking-uri", "none") == 0
    assert records(runs_dir) == ["other"] and not (runs_dir / "mine").exists()


@pytest.mark.parametrize("left", ["runs and folder", "folder"])
def test_a_call_that_was_cut_off_is_finished_by_the_next(left, runs_dir, capsys, monkeypatch):
    from tuner.study import delete as module

    def cut_off(*args, **named):
        raise KeyboardInterrupt

    target, name = (module.optuna, "delete_study") if left == "runs and folder" else (module, "_remove")
    with monkeypatch.context() as patched:
        patched.setattr(target, name, cut_off)
        assert delete(runs_dir, "--yes") == 130
    assert runs_of(runs_dir, "mine") == 0 and (runs_dir / "mine" / "study.json").exists()
    capsys.readouterr()
    assert delete(runs_dir, "--yes") == 0
    assert "in MLflow" not in capsys.readouterr().out
    assert records(runs_dir) == ["other"] and not (runs_dir / "mine").exists()


def test_what_is_no_study_is_not_removed(runs_dir, capsys):
    (runs_dir / "pictures").mkdir()
    assert delete(runs_dir, "--yes", name="pictures") == 2
    assert delete(runs_dir, "--yes", name="mlartifacts") == 2
    assert (runs_dir / "pictures").is_dir()
    assert capsys.readouterr().err.count("\n") == 2
