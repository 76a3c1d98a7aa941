import subprocess
import sys

import pytest

import tuner
from tests.support import mlflow_studies as made
from tests.support.notebook import in_a_cell
from tests.support.places import ROOT
from tests.support.synthetic_study import write_study
from tinytl.errors import ConfigError
from tuner.record.claim import folder_claimed


def test_it_has_its_tables_its_best_and_its_curves(many):
    assert (many.name, many.state) == ("many", "finished")
    assert len(many.trials) == 20
    assert list(many.front["trial"]) == [trial.name for trial in many.reading.front]
    pair = many.best(under_mib=60)
    within = many.trials[(many.trials["peak_memory_mib"] <= 60) & (many.trials["state"] == "complete")]
    assert pair.accuracy_top1 == within["accuracy_top1"].max()
    for same in (pair, pair.trial, many.reading.trial(pair.trial)):
        assert list(many.curve(same)) == list(many.curve(pair))
    assert repr(many).startswith("<Study many: ") and repr(many).endswith(", finished>")
    assert many._repr_html_().startswith("<div>")


def test_a_mistake_is_a_value_error_of_one_line(many):
    with pytest.raises(ValueError, match=r"no trial joint-0000 in study many: did you mean joint-000"):
        many.curve("joint-0000")
    with pytest.raises(tuner.ConfigError, match="no complete trial of many needs 1 MiB or less"):
        many.best(under_mib=1)
    with pytest.raises(tuner.ConfigError, match="under_mib='x': give a number of MiB"):
        many.best(under_mib="x")
    with pytest.raises(ValueError, match="no study nothing under"):
        tuner.open_study("nothing", many.folder.parent)


def test_tables_are_the_users_own(many):
    table = many.trials
    table.loc[0, "accuracy_top1"] = 7.0
    assert (many.trials["accuracy_top1"].fillna(0) <= 1).all()


def test_it_is_of_one_moment_until_it_is_refreshed(tmp_path):
    prepared = made.prepared_study(tmp_path)
    stored = made.new_study(prepared)
    study = tuner.open_study(made.NAME, str(tmp_path))
    made.end(stored, made.start(stored, 0), 0)
    with folder_claimed(prepared.folder, made.NAME):
        assert len(study.trials) == 0 and study.state == "unfinished"
        assert len(study.refresh().trials) == 1 and study.refresh().state == "running"


def test_its_report_is_written_where_it_is_asked_for_and_shown_in_a_notebook(tmp_path):
    write_study(tmp_path, "many", 4, 3)
    study = tuner.open_study("many", tmp_path)
    assert study.report() == study.folder / "report.html"
    with in_a_cell() as cell:
        path = study.report(tmp_path / "own.html")
    assert path == tmp_path / "own.html" and "many" in path.read_text()
    with pytest.raises(ConfigError, match="no trial other"):
        study.report(trial="other")
    assert "own.html" in cell.shown[0]["text/html"]


def test_the_face_is_light_and_names_what_it_has():
    code = (
        "import sys, tuner\n"
        "assert {'open_study', 'Study', 'ConfigError'} <= set(dir(tuner))\n"
        "assert not {'optuna', 'ray', 'mlflow', 'torch', 'yaml', 'pandas'} & sys.modules.keys()\n"
        "tuner.open_study\n"
        "assert not {'ray', 'mlflow', 'torch', 'pandas', 'matplotlib'} & sys.modules.keys()"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (run.returncode, run.stderr) == (0, "")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tuner.nothing
    assert all(getattr(tuner, name) is not None for name in tuner.__all__)
