import subprocess
import sys

from tests.support.mlflow_studies import NAME, prepared_study
from tests.support.places import ROOT


def test_its_folder_stays_the_same_from_whatever_folder_it_is_asked(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    for runs_dir in ("real", "link", "./real/../link", str(tmp_path / "real")):
        assert prepared_study(runs_dir).folder == (tmp_path / "real" / NAME).resolve()
    assert not (tmp_path / "real" / NAME).exists(), "it is named, not made"


def test_a_study_without_starting_points_and_notes_has_none(tmp_path):
    prepared = prepared_study(tmp_path)
    assert prepared.starting_points == () and prepared.notes == ()


def test_it_needs_neither_torch_nor_ray():
    code = "import sys, tuner.prepared; print(sorted({'torch', 'ray'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr
