"""A finished model in MLflow, for real: logged, registered, loaded on pictures, and served over HTTP."""

import base64
import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import mlflow
import pytest
from mlflow.tracking import MlflowClient

from tests.support.studies import (
    CLASSES,
    command,
    ended,
    free_port,
    mlflow_runs,
    run,
    started,
    wait_for,
    write_pictures,
)
from tuner.tracking.model_run import KIND, MODEL_ID

pytestmark = pytest.mark.slow


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5) as page:
            return page.status == 200
    except OSError:
        return False


def test_a_registered_model_is_loaded_and_served_on_pictures(tmp_path):
    pictures, runs = write_pictures(tmp_path / "pictures"), tmp_path / "runs"
    study = "--space update_method --name s --trials 1 --epochs 1 --workers 1 --sampler random".split()
    run(command(pictures, runs, *study))
    finish = [sys.executable, "-m", "tuner", "finish", "s", "--runs-dir", str(runs), "--register", "colors"]
    shown = run([*finish, "--epochs", "1"])
    assert "registered: models:/colors/1" in shown
    again = run(finish)
    assert "registered: models:/colors/1" in again

    (logged,) = mlflow_runs("s", runs, KIND)
    (parent,) = mlflow_runs("s", runs, "study")
    about = json.loads((runs / "s" / "model" / "model.json").read_text())
    assert logged.data.tags["mlflow.parentRunId"] == parent.info.run_id and logged.info.status == "FINISHED"
    assert logged.data.metrics["test_accuracy_top1"] == about["test_accuracy_top1"]

    uri = f"sqlite:///{runs}/mlflow.db"
    version = MlflowClient(uri).get_model_version("colors", "1")
    assert version.source == f"models:/{logged.data.tags[MODEL_ID]}"
    picture = pictures / "test" / "green" / "0.png"
    predict = [sys.executable, "-m", "tinytl", "predict", str(runs / "s" / "model"), str(picture)]
    (expected,) = json.loads(run([*predict, "--top", "3", "--json"]))

    # In a process of its own: loading puts the model's copy of tinytl before all others.
    code = (
        "import json, sys, mlflow\n"
        "model = mlflow.pyfunc.load_model('models:/colors/1')\n"
        "path = sys.argv[1]\n"
        "rows = model.predict({'picture': [path, open(path, 'rb').read()]})\n"
        "import tinytl\n"
        "print(json.dumps([rows.to_dict('records'), tinytl.__file__]))\n"
    )
    env = os.environ | {"MLFLOW_TRACKING_URI": uri}
    done = subprocess.run(
        [sys.executable, "-c", code, str(picture)], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    rows, file = json.loads(done.stdout.splitlines()[-1])
    assert not file.startswith(str(mlflow.__path__[0])) and "/code/" in file
    for row in rows:
        assert row["class"] == expected["label"]
        assert row["probabilities"] == pytest.approx(expected["probabilities"])

    port = free_port()
    serve = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/colors/1"]
    serve += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # MLflow starts uvicorn by name
    log = tmp_path / "serve.log"
    with started(serve, log, env={"MLFLOW_TRACKING_URI": uri, "PATH": path}) as server:
        wait_for(lambda: answers(port) or server.poll() is not None, "the server")
        assert server.poll() is None, log.read_text()
        encoded = base64.b64encode(picture.read_bytes()).decode()
        body = {"dataframe_split": {"columns": ["picture"], "data": [[encoded]]}}
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            (served,) = json.loads(answer.read())["predictions"]
    assert served["class"] == expected["label"] and served["class"] in CLASSES
    assert served["probabilities"] == pytest.approx(expected["probabilities"])


def test_a_registered_model_outlives_its_study_and_one_that_is_logged_alone_does_not(tmp_path):
    pictures, runs = write_pictures(tmp_path / "pictures"), tmp_path / "runs"
    study = "--space update_method --trials 1 --epochs 1 --workers 1 --sampler random --name".split()
    tuner = [sys.executable, "-m", "tuner"]
    where = ["--runs-dir", str(runs)]
    for name, flags in (("kept", ["--register", "colors"]), ("gone", [])):
        run(command(pictures, runs, *study, name))
        run([*tuner, "finish", name, *where, "--epochs", "1", *flags])
    client = MlflowClient(f"sqlite:///{runs}/mlflow.db")
    (kept,), (gone,) = mlflow_runs("kept", runs, KIND), mlflow_runs("gone", runs, KIND)

    out = run([*tuner, "delete", "gone", *where, "--yes"])
    assert "3 runs and 1 logged model in MLflow" in out and "stays" not in out
    logged = client.search_logged_models([gone.info.experiment_id])
    assert [model.model_id for model in logged] == [kept.data.tags[MODEL_ID]]

    out = run([*tuner, "delete", "kept", *where, "--yes"])
    assert "2 runs in MLflow" in out and "stays: models:/colors/1 in MLflow's registry" in out
    assert client.get_run(kept.info.run_id).info.lifecycle_stage == "active"
    code = "import mlflow; mlflow.pyfunc.load_model('models:/colors/1')"
    env = {"MLFLOW_TRACKING_URI": f"sqlite:///{runs}/mlflow.db"}
    run([sys.executable, "-c", code], env=env)


def test_a_finish_that_is_killed_at_any_moment_continues_and_its_folder_is_whole_or_missing(tmp_path):
    pictures, runs = write_pictures(tmp_path / "pictures"), tmp_path / "runs"
    study = "--space update_method --name s --trials 1 --epochs 1 --workers 1 --sampler random".split()
    run(command(pictures, runs, *study))
    finish = [sys.executable, "-m", "tuner", "finish", "s", "--runs-dir", str(runs), "--epochs", "8"]
    model = runs / "s" / "model"
    seen = (
        lambda: list((runs / "s" / "finish").glob("*/metrics.jsonl")),
        lambda: list((runs / "s" / "finish").glob("*/result.json")),
        lambda: list((runs / "s").glob(".model.*.tmp")) or model.exists(),
    )
    for number, reached in enumerate(seen):
        with started(finish, tmp_path / f"log-{number}") as process:
            wait_for(lambda reached=reached, p=process: reached() or p.poll() is not None, "that moment")
            process.kill()
            process.wait()
        assert not model.exists() or (model / "model.json").is_file()
    done = ended(finish)
    assert done.returncode in (0, 2), done.stdout + done.stderr  # 2: nothing was left to do
    assert (model / "model.json").is_file() and (model / "weights.safetensors").is_file()
    assert len(mlflow_runs("s", runs, KIND)) == 1
