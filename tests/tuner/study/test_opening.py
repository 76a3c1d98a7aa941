import datetime
import json

import optuna
import pytest
import torch

from tests.support import mlflow_studies as made
from tinytl.networks.backbones import BACKBONES
from tuner.config import StudyConfig
from tuner.record import schema
from tuner.record.storage import open_storage
from tuner.record.writer import StudyRecords
from tuner.study.opening import _name_metrics, _write_study, _write_study_file
from tuner.study.prepare import prepare


def test_the_study_file_names_weights_so_that_any_folder_can_resume_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(BACKBONES["mobilenet_v2"].build(2).state_dict(), tmp_path / "w.pt")
    for weights, kept in (
        ("w.pt", str(tmp_path / "w.pt")),
        ((tmp_path / "w.pt").as_uri(), (tmp_path / "w.pt").as_uri()),
        ("none", "none"),
    ):
        config = StudyConfig(
            space="separate_lr", backbone="mobilenet_v2", weights=weights, runs_dir="runs", name="s"
        )
        prepared = prepare(config, datetime.datetime(2020, 1, 1))
        main = prepared.weights["mobilenet_v2"].backbone
        assert (main is None) == (weights == "none")
        _write_study_file(prepared)
        (study_file,) = (tmp_path / "runs" / "s").glob("study.json")
        saved = json.loads(study_file.read_text())
        assert (saved["weights"], saved["lite_weights"]) == (kept, None)
        for path in (tmp_path / "runs" / "s").iterdir():
            path.unlink()
        (tmp_path / "runs" / "s").rmdir()


def test_a_study_has_an_id_of_its_own_that_a_resume_keeps(tmp_path):
    def records_of(name: str) -> StudyRecords:
        store = optuna.storages.InMemoryStorage()
        optuna.create_study(study_name=name, storage=store, directions=["maximize", "minimize"])
        return StudyRecords(store, name)

    prepared = made.prepared_study(tmp_path)
    one, other, older = records_of("one"), records_of("other"), records_of("older")
    older.set_study_attribute(schema.SESSIONS, [])
    for records in (one, other, older):
        _write_study(prepared, records)
    given = one.study_attributes()[schema.STUDY_ID]
    assert len(given) == 32 and other.study_attributes()[schema.STUDY_ID] != given
    assert schema.STUDY_ID not in older.study_attributes(), "its runs are known by its name"
    _write_study(prepared, one)
    assert one.study_attributes()[schema.STUDY_ID] == given


@pytest.mark.parametrize("directions", [["maximize", "minimize"], ["maximize"]])
def test_optunas_dashboard_has_names_for_what_is_optimised_also_of_a_study_that_began_without(
    directions, tmp_path
):
    store = open_storage(None, str(tmp_path))
    older = optuna.create_study(study_name="s", storage=store, directions=directions)
    older.tell(older.ask(), [0.5, 20.0][: len(directions)])
    for _ in range(2):  # the second time nothing has to be written
        written = (tmp_path / "optuna.journal").read_bytes()
        _name_metrics(optuna.load_study(study_name="s", storage=store), "accuracy_top1")
    assert (tmp_path / "optuna.journal").read_bytes() == written
    study = optuna.load_study(study_name="s", storage=open_storage(None, str(tmp_path)))
    assert study.metric_names == ["accuracy_top1", "peak_memory_mib"][: len(directions)]
    assert study.trials[0].values == [0.5, 20.0][: len(directions)]
