import csv
import dataclasses
import shutil
import subprocess
import sys

import pytest

from tests.support import mlflow_studies as made
from tests.support.judged_study import BEST, OTHER, write_judged_study
from tests.tuner.report.test_page import Page
from tinytl.errors import ConfigError
from tuner.__main__ import main
from tuner.record.reading import open_study
from tuner.report import page
from tuner.report.picture_sections import picture_sections


@pytest.fixture(autouse=True)
def study(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return write_judged_study(tmp_path)


def test_the_page_has_the_best_trial_s_mistakes_and_the_data(tmp_path, capsys):
    assert main(["report", made.NAME, "--runs-dir", str(tmp_path)]) == 0
    shown = Page(tmp_path / made.NAME / "report.html")
    for words in (
        f"{BEST} : accuracy 0.875",
        "Surest and wrong a (0.814) , not b (0.186) val/b/1.png",
        "Confidence misses accuracy by 0.",
        "val, b : it looks like a, 4.4 times as likely as b",
        f"--runs-dir {tmp_path} --trial TRIAL",
        "report_data.csv beside this page",
    ):
        assert words in shown.text
    assert set(shown.loads) == {("img", "src")}
    with (tmp_path / made.NAME / "report_data.csv").open(newline="") as file:
        assert [row["file"] for row in csv.DictReader(file)] == ["val/b/1.png"]


def test_page_and_table_go_to_the_bucket_of_the_study(tmp_path, monkeypatch):
    sent = []
    monkeypatch.setattr(page, "send", sent.append)
    page.write_report(made.NAME, str(tmp_path))
    folder = tmp_path / made.NAME
    assert sent == [folder / "report.html", folder / "report_data.csv"]


def test_another_trial_s_on_request(tmp_path, capsys):
    where = ["--runs-dir", str(tmp_path), "--out", str(tmp_path / "other.html")]
    assert main(["report", made.NAME, *where, "--trial", OTHER]) == 0
    assert f"{OTHER} : accuracy 0.875" in Page(tmp_path / "other.html").text
    assert (tmp_path / "other_data.csv").is_file()
    capsys.readouterr()
    assert main(["report", made.NAME, *where, "--trial", "none"]) == 2
    assert "no trial none in study mine" in capsys.readouterr().err


def test_pictures_need_neither_torch_nor_ray(tmp_path):
    code = (
        "import sys; from tuner.__main__ import main\n"
        f"assert main(['report', {made.NAME!r}, '--runs-dir', {str(tmp_path)!r}]) == 0\n"
        "sys.exit(bool({'torch', 'ray', 'mlflow'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "data:image/jpeg" in (tmp_path / made.NAME / "report.html").read_text()


def test_without_a_trial_within_the_budget_it_is_the_most_accurate(tmp_path):
    reading = open_study(made.NAME, str(tmp_path)).under(1.0)
    assert reading.best is None
    assert picture_sections(reading, None, "")["mistakes"]["trial"] == BEST
    with pytest.raises(ConfigError, match="no trial"):
        picture_sections(reading, "other", "")


def test_without_a_complete_trial_there_is_nothing_yet(tmp_path):
    none = dataclasses.replace(open_study(made.NAME, str(tmp_path)), trials=())
    found = picture_sections(none, None, "")
    assert found["mistakes"] == {"found": None, "notes": ["Shown once a trial is complete."]}
    assert "no folder of a complete trial holds a config.yaml" in found["data"]["notes"][0]


def test_data_that_is_gone_costs_the_pictures_only(tmp_path):
    shutil.rmtree(tmp_path / "pictures")
    found = picture_sections(open_study(made.NAME, str(tmp_path)), None, "")
    assert "no such folder" in found["mistakes"]["notes"][0] and found["mistakes"]["classes"]
    assert "no such folder" in found["data"]["notes"][0]
