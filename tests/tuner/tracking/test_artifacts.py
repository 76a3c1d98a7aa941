import json
import shutil

import pytest
from mlflow.tracking import MlflowClient

from tests.support import mlflow_studies as made
from tests.support.judged_study import BEST, judgements_of_one_error, write_judged_study
from tinytl.runs.directory import RunDirectory
from tinytl.runs.judgements_file import save_judgements
from tuner.record.reading import open_study
from tuner.tracking.artifacts import TAG, sync_study_artifacts, sync_trial_artifacts
from tuner.tracking.client import open_mlflow
from tuner.tracking.runs import StudyRuns, study_labels
from tuner.tracking.summary import StudySummary


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    return open_mlflow(f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}")


@pytest.fixture
def run(client: MlflowClient, tmp_path):
    experiment = client.create_experiment(tmp_path.name, artifact_location=(tmp_path / "artifacts").as_uri())
    run_id = client.create_run(experiment).info.run_id
    return lambda: client.get_run(run_id)


def test_a_trial_s_files_are_written_once_and_again_if_they_change_or_are_lost(client, run, tmp_path):
    folder = tmp_path / "s-000"
    folder.mkdir()
    assert not sync_trial_artifacts(client, run(), folder), "a trial without files has no artifacts"
    for name in ("config.yaml", "last.pt", "metrics.jsonl"):
        (folder / name).write_text(name)
    assert sync_trial_artifacts(client, run(), folder)
    assert set(made.artifacts(client, run().info.run_id)) == {"config.yaml", "last.pt"}
    assert not sync_trial_artifacts(client, run(), folder)
    (folder / "last.pt").write_text("another epoch")
    assert sync_trial_artifacts(client, run(), folder) and not sync_trial_artifacts(client, run(), folder)
    shutil.rmtree(tmp_path / "artifacts")
    assert sync_trial_artifacts(client, run(), folder)


def test_a_study_s_files_are_made_again_only_from_other_results(client, tmp_path):
    prepared = made.prepared_study(tmp_path, experiment="artifacts")
    made.end(study := made.new_study(prepared), made.start(study, 0), 0, failure="the loss is nan")
    reading = open_study(made.NAME, str(tmp_path))
    labels = study_labels(reading, f"sqlite:///{tmp_path}/mlflow.db")
    runs = StudyRuns(client, labels)

    def written(reading):
        runs.parent = client.get_run(runs.parent.info.run_id)
        return sync_study_artifacts(runs, StudySummary(study=reading, labels=labels), reading.folder)

    assert written(reading) and not written(reading)
    files = made.artifacts(client, runs.parent.info.run_id)
    assert set(files) == {"commands.txt", "trials.csv", "trials.json"}, "no picture without a complete trial"
    (reading.folder / "separate_lr.yaml").write_text("parameters: {}")
    assert written(reading) and not written(reading)
    assert TAG in client.get_run(runs.parent.info.run_id).data.tags


def test_what_the_best_trial_gets_wrong_is_among_them_and_made_again_for_another(client, tmp_path):
    write_judged_study(tmp_path)
    reading = open_study(made.NAME, str(tmp_path))
    labels = study_labels(reading, f"sqlite:///{tmp_path}/mlflow.db")
    runs = StudyRuns(client, labels)

    def written():
        runs.parent = client.get_run(runs.parent.info.run_id)
        return sync_study_artifacts(runs, StudySummary(study=reading, labels=labels), reading.folder)

    assert written() and not written()
    run_id = runs.parent.info.run_id
    names = {"per_class.json", "confusion.png", "reliability.png", "mistakes.png", "uncertain.png"}
    inside = {path for path in made.artifacts(client, run_id) if path.startswith("mistakes/")}
    assert inside == {f"mistakes/{name}" for name in names}
    shown = json.loads(client.get_run(run_id).data.tags["mlflow.loggedArtifacts"])
    assert [table["path"] for table in shown] == ["trials.json", "mistakes/per_class.json"]
    judged = judgements_of_one_error([1] * 4 + [0] * 4)
    save_judgements(judged, RunDirectory(reading.folder / BEST).val_judgements)
    assert written() and not written()
