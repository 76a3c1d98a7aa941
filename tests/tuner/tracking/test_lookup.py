import dataclasses

import pytest
from mlflow.tracking import MlflowClient

from tests.support import mlflow_studies as made
from tinytl.errors import ConfigError
from tuner.record import schema
from tuner.study.run import _open_tracking
from tuner.tracking.client import open_mlflow
from tuner.tracking.lookup import find_runs, refuse_taken_name
from tuner.tracking.sync import SyncCounts, sync


@pytest.fixture
def two(tmp_path):
    """Two studies of one name in folders of their own, and one database; the first is in it."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    open_mlflow(uri)
    first, second = (made.prepared_study(tmp_path / name, tracking_uri=uri) for name in "ab")
    made.every_kind(first)
    made.every_kind(second)
    sync(made.NAME, first.config.runs_dir, None, None, driver_is_gone=True)
    return first, second, MlflowClient(uri)


def test_a_study_of_a_name_that_another_has_does_not_begin(two):
    _, second, _ = two
    with pytest.raises(ConfigError) as told:
        _open_tracking(second)
    assert str(told.value) == (
        f"--name {made.NAME}: MLflow's experiment digits has a study of that name: "
        "change --name or --experiment"
    )


def test_another_name_another_experiment_and_a_study_that_goes_on_are_free(two):
    _, second, client = two
    refuse_taken_name(client, "digits", "another")
    refuse_taken_name(client, "birds", made.NAME)
    resumed = dataclasses.replace(second, config=dataclasses.replace(second.config, resume=True))
    assert _open_tracking(resumed) is not None


def test_sync_does_not_mix_two_studies_of_one_name(two):
    first, second, client = two
    before = made.all_rows(first.folder.parents[1] / "mlflow.db")
    with pytest.raises(ConfigError, match="has another study of that name: delete its runs there") as told:
        sync(made.NAME, second.config.runs_dir, None, None, driver_is_gone=True)
    assert "\n" not in str(told.value)
    assert made.all_rows(first.folder.parents[1] / "mlflow.db") == before
    for run in client.search_runs(["1"]):
        client.delete_run(run.info.run_id)
    assert sync(made.NAME, second.config.runs_dir, None, None, driver_is_gone=True) == SyncCounts(8, 0)


def test_each_run_has_its_studys_id_and_a_study_without_one_has_its_own_runs(two):
    _, _, client = two
    runs = client.search_runs(["1"])
    (study_id,) = {run.data.tags[schema.STUDY_ID] for run in runs}
    assert len(find_runs(client, "1", made.NAME, study_id, "trial")) == 7
    assert find_runs(client, "1", made.NAME, None, "trial") == []
    assert find_runs(client, "1", made.NAME, "another", "trial") == []
    for run in runs:  # as an older version made them
        client.delete_tag(run.info.run_id, schema.STUDY_ID)
    assert len(find_runs(client, "1", made.NAME, None, "trial")) == 7


def test_a_study_of_an_older_version_finds_its_runs_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(made, "STUDY_ID", "something_else")
    open_mlflow(f"sqlite:///{tmp_path / 'mlflow.db'}")
    made.every_kind(made.prepared_study(tmp_path))
    for counts in (SyncCounts(8, 0), SyncCounts(0, 8)):
        assert sync(made.NAME, str(tmp_path), None, None, driver_is_gone=True) == counts
