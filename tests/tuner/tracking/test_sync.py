import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.entities import RunStatus
from mlflow.tracking import MlflowClient

from tests.support import mlflow_studies as made
from tests.support.places import ROOT
from tinytl.config.flat import flat_from_config
from tinytl.config.train_config import TrainConfig
from tinytl.errors import ConfigError
from tuner.__main__ import main
from tuner.record.schema import INTERRUPTED, STATES
from tuner.tracking.children import STATUS
from tuner.tracking.client import open_mlflow
from tuner.tracking.sync import SyncCounts, sync


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory):
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    open_mlflow(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="module")
def synced(empty_database, tmp_path_factory):
    """Every kind of trial, brought into an empty database after the driver is gone."""
    runs_dir = tmp_path_factory.mktemp("runs")
    shutil.copy(empty_database, runs_dir / "mlflow.db")
    prepared = made.prepared_study(runs_dir)
    made.every_kind(prepared)
    counts = sync(made.NAME, str(runs_dir), None, None, driver_is_gone=True)
    return runs_dir, counts, MlflowClient(f"sqlite:///{runs_dir / 'mlflow.db'}")


@pytest.fixture
def copy(synced, tmp_path):
    """The same study in a folder of its own, to change."""
    shutil.copytree(synced[0], tmp_path / "runs")
    return tmp_path / "runs"


def test_each_trial_has_one_run_in_its_state(synced):
    _, counts, client = synced
    assert counts == SyncCounts(written=8, in_line=0)
    said = made.view(client)
    states = {
        name: (run["status"], run["tags"].get("state"), run["tags"].get("on_front"))
        for name, run in said.items()
    }
    assert states == {
        made.NAME: ("KILLED", None, None),
        made.trial_name(0): ("FINISHED", "complete", "true"),
        made.trial_name(1): ("FINISHED", "pruned", "false"),
        made.trial_name(2): ("FAILED", "failed", "false"),
        made.trial_name(4): ("FINISHED", "complete", "true"),
        made.trial_name(5): ("KILLED", "interrupted", "false"),
        made.trial_name(6): ("KILLED", "interrupted", "false"),
        made.trial_name(7): ("FINISHED", "complete", "false"),
    }
    assert said[made.trial_name(2)]["tags"]["failure"] == "the loss is nan at step 7"


def test_each_state_of_a_trial_that_has_a_run_has_a_status_of_mlflows():
    assert STATUS.keys() == {*STATES, INTERRUPTED} - {"infeasible"}
    assert all(RunStatus.from_string(status) for status in STATUS.values())


def test_metrics_stand_at_their_epochs_and_times(synced):
    child = made.view(synced[2])[made.trial_name(4)]
    rows = [made.row(4, epoch) for epoch in range(1, made.EPOCHS + 1)]
    times = [(r["epoch"], r["accuracy_top1"], r["timestamp_ms"]) for r in rows]
    assert child["metrics"]["accuracy_top1"] == times
    own = {name for name in child["metrics"] if not name.startswith("searched/")}
    assert own == set(rows[0]) - {"timestamp_ms", "measured_peak_mib", "device_name"}
    assert child["experiment"] == "digits"
    assert child["params"]["input_mean"] == "[0.5, 0.5, 0.5]"
    assert set(child["params"]) == set(flat_from_config(made.planned_config(4)))


def test_the_parent_says_what_made_the_study(synced):
    _, _, client = synced
    parent = made.view(client)[made.NAME]
    assert parent["params"] == {
        "dataset": "digits",
        "space": "separate_lr",
        "backbone": "efficientnet_lite0",
        "weights": "imagenet",
        "epochs": str(TrainConfig().epochs),
        "objectives": "accuracy and memory",
    }
    assert parent["tags"]["command"].startswith("python ")
    assert parent["tags"]["trials"] == "6"


def test_a_second_sync_writes_nothing(copy):
    before = made.all_rows(copy / "mlflow.db")
    assert sync(made.NAME, str(copy), None, None, driver_is_gone=True) == SyncCounts(0, 8)
    assert made.all_rows(copy / "mlflow.db") == before


def test_a_database_that_was_deleted_is_rebuilt(copy, synced, empty_database):
    (copy / "mlflow.db").unlink()
    shutil.copy(empty_database, copy / "mlflow.db")
    assert sync(made.NAME, str(copy), None, None, driver_is_gone=True) == SyncCounts(8, 0)
    assert made.view(MlflowClient(f"sqlite:///{copy / 'mlflow.db'}")) == made.view(synced[2])


def test_what_is_missing_is_written_and_nothing_else(copy, synced):
    client = MlflowClient(f"sqlite:///{copy / 'mlflow.db'}")
    runs = {run.info.run_name: run for run in client.search_runs(["1"])}
    client.delete_run(runs[made.trial_name(0)].info.run_id)
    client.set_tag(runs[made.trial_name(7)].info.run_id, "on_front", "true")
    client.update_run(runs[made.trial_name(1)].info.run_id, status="RUNNING")
    made.write_folder(made.prepared_study(copy), 5, 3)  # an epoch that was not recorded
    doubled = client.create_run("1", tags=runs[made.trial_name(2)].data.tags)
    assert sync(made.NAME, str(copy), None, None, driver_is_gone=True) == SyncCounts(
        6, 2
    )  # the note names runs
    said, expected = made.view(client), made.view(synced[2])
    more = said[made.trial_name(5)].pop("metrics")
    assert [step for step, _, _ in more["loss"]] == [1, 2, 3]
    expected[made.trial_name(5)].pop("metrics")
    assert said == expected
    assert client.get_run(doubled.info.run_id).info.lifecycle_stage == "deleted"


def test_running_trials_are_left_to_a_driver_that_may_be_there(empty_database, tmp_path):
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    made.every_kind(made.prepared_study(tmp_path))
    assert sync(made.NAME, str(tmp_path), None, None, driver_is_gone=False) == SyncCounts(7, 0)
    said = made.view(MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}"))
    assert made.trial_name(6) not in said
    assert said[made.NAME]["status"] == "RUNNING"


def test_a_line_that_a_kill_cut_off_and_a_lost_folder_do_no_harm(empty_database, tmp_path):
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    prepared = made.prepared_study(tmp_path)
    study = made.every_kind(prepared)
    with (prepared.folder / made.trial_name(5) / "metrics.jsonl").open("a") as lines:
        lines.write('{"epoch": 3, "loss"')
    shutil.rmtree(prepared.folder / made.trial_name(1))
    for _ in range(2):
        sync(made.NAME, str(tmp_path), None, None, driver_is_gone=True)
    said = made.view(MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}"))
    assert [step for step, _, _ in said[made.trial_name(5)]["metrics"]["loss"]] == [1, 2]
    assert said[made.trial_name(1)]["params"] == {"base_lr": str(study.trials[1].params["base_lr"])}
    assert set(said[made.trial_name(1)]["metrics"]) == {"searched/base_lr"}


def test_the_command_says_what_it_did_and_imports_neither_torch_nor_ray(copy):
    script = (
        "import sys; from tuner.__main__ import main; code = main(sys.argv[1:]);"
        "assert not {'torch', 'ray'} & set(sys.modules); sys.exit(code)"
    )
    argv = [sys.executable, "-c", script, "sync", made.NAME, "--runs-dir", str(copy)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0 runs written, 8 in line\n", "")


def test_what_was_judged_after_the_search_stands_beside_the_accuracy(copy):
    folder, names = copy / made.NAME, (made.trial_name(0), made.trial_name(4))
    (folder / "test_accuracy.json").write_text(json.dumps({names[0]: 0.25}))
    (folder / "confirm.json").write_text(json.dumps({names[1]: {"1": {"accuracy_top1": 0.33}}}))
    assert sync(made.NAME, str(copy), None, None, driver_is_gone=True) == SyncCounts(3, 5)
    said = made.view(MlflowClient(f"sqlite:///{copy / 'mlflow.db'}"))
    assert said[names[0]]["metrics"]["test_accuracy_top1"][0][:2] == (0, 0.25)
    own = said[names[1]]["metrics"]["accuracy_top1"][-1][1]
    ((seeds, mean, _),) = said[names[1]]["metrics"]["confirmed_accuracy_top1"]
    assert (seeds, mean) == (2, pytest.approx((own + 0.33) / 2))
    assert "0.250" in said[made.NAME]["tags"]["mlflow.note.content"]
    assert sync(made.NAME, str(copy), None, None, driver_is_gone=True) == SyncCounts(0, 8)


def test_files_that_were_lost_are_written_again_and_no_others(copy, synced):
    client = MlflowClient(f"sqlite:///{copy / 'mlflow.db'}")
    expected = made.view(synced[2])
    (run,) = client.search_runs(["1"], f"tags.trial = '{made.trial_name(4)}'")
    kept, lost = (Path(run.info.artifact_uri.removeprefix("file://"), n) for n in ("config.yaml", "last.pt"))
    lost.unlink()
    before = kept.stat().st_mtime_ns
    assert sync(made.NAME, str(copy), None, None, driver_is_gone=True) == SyncCounts(1, 7)
    assert kept.stat().st_mtime_ns == before
    assert made.view(client) == expected


def test_searched_numbers_are_metrics_too_for_mlflow_sorts_parameters_as_text(synced):
    child = made.view(synced[2])[made.trial_name(4)]
    ((_, value, _),) = child["metrics"]["searched/base_lr"]
    assert value == float(child["params"]["base_lr"])


def test_the_trial_of_each_session_names_its_code_and_images(empty_database, tmp_path, monkeypatch):
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    prepared = made.prepared_study(tmp_path)
    monkeypatch.setenv("TINYTL_COMMIT", "first")
    study = made.new_study(prepared)
    for index, commit in ((0, None), (1, "second")):
        if commit:
            monkeypatch.setenv("TINYTL_COMMIT", commit)
            made.begin(prepared, study)
        made.write_folder(prepared, index, made.EPOCHS)
        made.end(study, made.start(study, index), index)
    sync(made.NAME, str(tmp_path), None, None, driver_is_gone=True)
    said = made.view(MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}"))
    first, second, parent = (said[name] for name in (made.trial_name(0), made.trial_name(1), made.NAME))
    assert [run["tags"]["commit"] for run in (first, second, parent)] == ["first", "second", "second"]
    assert first["tags"]["device.name"] == "a processor" and "version.torch" in first["tags"]
    (((data, purpose)),) = first["inputs"]
    assert (data["name"], data["digest"], purpose) == ("digits", "0123456789abcdef", ["training"])
    assert json.loads(data["profile"]) == {"classes": 2, "train": 8, "val": 4}


def test_the_command_that_began_the_study_made_it(empty_database, tmp_path, monkeypatch):
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    prepared = made.prepared_study(tmp_path)
    monkeypatch.setattr(sys, "argv", ["launch.py", "--seed", "3"])
    study = made.new_study(prepared)
    for extra in ([], ["--trials", "9"], []):
        monkeypatch.setattr(sys, "argv", ["launch.py", "--resume", *extra])
        made.begin(prepared, study)
    sync(made.NAME, str(tmp_path), None, None, driver_is_gone=True)
    tags = made.view(MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}"))[made.NAME]["tags"]
    assert tags["command"] == "python launch.py --seed 3"
    assert tags["then"] == "python launch.py --resume\npython launch.py --resume --trials 9"
    assert "python launch.py --seed 3\nthen: python launch.py --resume\nthen: " in tags["mlflow.note.content"]


def test_charts_load_the_front_first(synced):
    client = synced[2]
    tags = client.get_experiment("1").tags
    table, charts = (json.loads(tags[f"mlflow.sharedViewState.{made.NAME}{end}"]) for end in ("", "/charts"))
    assert table["orderByKey"] == "metrics.`accuracy_top1`"
    order_by = f"{charts['orderByKey']} {'ASC' if charts['orderByAsc'] else 'DESC'}"
    first, second, third, *_ = client.search_runs(["1"], charts["searchFilter"], order_by=[order_by])
    assert [run.data.tags["on_front"] for run in (first, second, third)] == ["true", "true", "false"]


def test_a_study_begun_without_mlflow_is_brought_where_asked(empty_database, tmp_path, capsys):
    prepared = made.prepared_study(tmp_path, tracking_uri="none", experiment="birds of 2026")
    made.every_kind(prepared)
    assert main(["sync", made.NAME, "--runs-dir", str(tmp_path)]) == 2
    assert "--tracking-uri http://127.0.0.1:5000" in capsys.readouterr().err
    shutil.copy(empty_database, tmp_path / "elsewhere.db")
    uri = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    assert main(["sync", made.NAME, "--runs-dir", str(tmp_path), "--tracking-uri", uri]) == 0
    assert {run["experiment"] for run in made.view(MlflowClient(uri)).values()} == {"birds of 2026"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["other"], "no study other under"),
        ([made.NAME, "--tracking-uri", "http://127.0.0.1:9"], "MLflow does not answer (Connection refused)"),
        ([made.NAME, "--tracking-uri", "sqlite:////proc/none/mlflow.db"], "MLflow does not answer"),
        ([made.NAME, "--tracking-uri", "postgresql://127.0.0.1:9/none"], "MLflow does not answer"),
        ([made.NAME, "--tracking-uri", "foo://bar"], "MLflow does not answer"),
    ],
)
def test_mistakes_are_one_line(copy, capsys, flags, message):
    assert main(["sync", *flags, "--runs-dir", str(copy)]) == 2
    line = capsys.readouterr().err
    assert message in line
    assert line.count("\n") == 1


def test_a_study_that_another_program_made_is_one_line(tmp_path):
    import optuna

    from tuner.record.storage import open_storage

    optuna.create_study(study_name="theirs", storage=open_storage(None, str(tmp_path)))
    with pytest.raises(ConfigError, match="study theirs names no dataset"):
        sync("theirs", str(tmp_path), None, None, driver_is_gone=False)


def test_a_reader_that_leaves_is_no_error(copy):
    command = f"{sys.executable} -m tuner status {made.NAME} --runs-dir {copy} --json | head -1"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("{\n", "")
