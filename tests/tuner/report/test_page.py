import json
import re
import shutil
import subprocess
import sys
import webbrowser
from html.parser import HTMLParser

import pytest
from optuna.trial import TrialState

from tests.support import mlflow_studies as made
from tests.support.synthetic_study import write_study
from tuner.__main__ import main
from tuner.record import schema
from tuner.record.claim import folder_claimed
from tuner.report.page import write_report


class Page(HTMLParser):
    """What a reader sees, without scripts and styles; and what a page could load."""

    def __init__(self, path):
        super().__init__()
        self.words, self.loads, self.figures, self._inside = [], [], [], None
        self.feed(path.read_text())
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self._inside = (tag, dict(attrs))
        self.loads += [
            (tag, k) for k, v in attrs if k in ("src", "srcset", "data") or (tag, k) == ("link", "href")
        ]

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        tag, attrs = self._inside or ("", {})
        if tag == "script" and attrs.get("type") == "application/json":
            self.figures.append(json.loads(data))
        elif tag not in ("script", "style"):
            self.words.append(data)


@pytest.fixture
def every_kind(tmp_path):
    prepared = made.prepared_study(tmp_path)
    return made.every_kind(prepared), prepared.folder


def test_every_kind_of_trial_is_in_it(every_kind, tmp_path):
    path = write_report(made.NAME, str(tmp_path))
    page = Page(path)
    assert path == tmp_path / "mine" / "report.html" and page.loads == []
    assert "Best 0.430 validation accuracy" in page.text
    assert "5 of 6 trials ended. Resume it with: python launch.py --name mine --resume" in page.text
    for words in (
        "1 failed: the loss is nan at step 7",
        "stopped at epoch 1",
        "out of memory",
        "interrupted",
    ):
        assert words in page.text
    assert "No metrics in the folders" not in page.text
    assert "Shown once 4 trials are complete; 3 are." in page.text
    assert f"python -m tuner report mine --runs-dir {tmp_path}" in page.text
    assert list(page.figures[0]["data"][1]["customdata"]) == [made.trial_name(0), made.trial_name(4)]


def test_it_says_what_is_missing(every_kind, tmp_path):
    _, folder = every_kind
    shutil.rmtree(folder / made.trial_name(0))
    (folder / made.trial_name(7) / "metrics.jsonl").write_text('{"epoch": 1}\n{"epo')
    (folder / "study.json").unlink()
    page = Page(write_report(made.NAME, str(tmp_path)))
    assert f"No metrics in the folders of {made.trial_name(0)}: they have no curves" in page.text
    assert "study.json: budget and settings are not known." in page.text
    assert "Its folder holds no config.yaml." in page.text


def test_a_large_study_has_every_section(tmp_path):
    write_study(tmp_path, "many", 24, 6)
    page = Page(write_report("many", str(tmp_path), out=str(tmp_path / "many.html")))
    for words in (
        "Accuracy depends on",
        "Parameter by parameter",
        "After 2 epochs",
        "At the end",
        "within 10%",
    ):
        assert words in page.text
    assert "Still running" not in page.text and "Unfinished" not in page.text
    assert "With one worker the same seed" in page.text


def test_a_judged_study_has_baselines_errors_classes_and_tables_to_take_away(tmp_path):
    write_study(tmp_path, "judged", 14, 3, judged=True)
    path = write_report("judged", str(tmp_path), out=str(tmp_path / "judged.html"))
    page = Page(path)
    for words in (
        "Against the baselines",
        "seconds per epoch",
        "Parameters together",
        "Validation images 1,000",
        "The 200 classes and their images",
        "class 199 5 5 3",
        "Trials, summed",
        f"python -m tuner compare judged OTHER --runs-dir {tmp_path} --out comparison",
    ):
        assert words in page.text, words
    assert re.search(r"user_report joint-000 0\.\d+ ± 0\.\d+ .* \d\.\d ± \d\.\d points", page.text)
    text = path.read_text()
    for table in ("front", "baselines", "trials", "classes"):
        assert f'download="judged-{table}.csv" href="data:text/csv;' in text
    assert "class 199" in text.partition('<details id="classes">')[2], "200 classes are folded away"


def test_text_of_users_is_escaped(every_kind, tmp_path):
    study, folder = every_kind
    study.set_user_attr("dataset", "<script>alert(1)</script>")
    settings = json.loads((folder / "study.json").read_text())
    settings |= {"data_dir": "</dd><img src=x>", "exclude": "</dd><img src=drop.csv>"}
    (folder / "study.json").write_text(json.dumps(settings))
    session = study.user_attrs[schema.SESSIONS][0]
    command = "python launch.py --storage postgresql://a:secret@db/x"
    study.set_user_attr(schema.SESSIONS, [session | {"command": command}])
    trial = study.ask()
    trial.suggest_categorical("norm", ["</script><img src=x>"])
    for key, value in {"name": "a-<b>", "peak_memory_mib": 5.0, "epoch_time_s": 1.0}.items():
        trial.set_user_attr(key, value)
    study.tell(trial, [0.9, 5.0])
    path = write_report(made.NAME, str(tmp_path))
    page = Page(path)
    assert page.loads == [] and len(re.findall("<script>", path.read_text())) == 2
    assert "<script>alert(1)</script>" in page.text and "postgresql://a@db/x" in page.text
    assert "</dd><img src=drop.csv>" in page.text
    assert "secret" not in path.read_text().rpartition("</figure>")[2].partition("<script>")[0]


def test_a_study_that_runs_is_marked(every_kind, tmp_path):
    with folder_claimed(every_kind[1], made.NAME):
        page = Page(write_report(made.NAME, str(tmp_path)))
    assert "Still running: 5 of 6 trials ended." in page.text


def test_an_mlflow_server_that_is_away_costs_the_links_only(every_kind, tmp_path):
    _, folder = every_kind
    (folder / "study.json").write_text(json.dumps({"tracking_uri": "http://ann:pw@127.0.0.1:9"}))
    path = write_report(made.NAME, str(tmp_path))
    text = Page(path).text
    assert "No links to MLflow: --tracking-uri http://127.0.0.1:9" in text
    assert "MLflow at http://127.0.0.1:9 did not answer" in text and "Names lead to" not in text
    assert "ann:pw" not in path.read_text()


def test_a_study_without_mlflow_is_told_how_to_bring_it(every_kind, tmp_path):
    _, folder = every_kind
    (folder / "study.json").write_text(json.dumps({"tracking_uri": "none"}))
    text = Page(write_report(made.NAME, str(tmp_path))).text
    assert f"python -m tuner sync mine --runs-dir {tmp_path} --tracking-uri URI adds it." in text
    assert "tuner ui" not in text


def error_of(capsys, *argv) -> str:
    assert main(["report", *argv]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    return err


def test_mistakes_are_one_line_and_write_nothing(every_kind, tmp_path, capsys):
    _, folder = every_kind
    where = ("--runs-dir", str(tmp_path))
    assert "no study other" in error_of(capsys, "other", *where)
    assert "is a folder: name a file" in error_of(capsys, made.NAME, *where, "--out", str(tmp_path))
    assert "there is no folder" in error_of(
        capsys, made.NAME, *where, "--out", str(tmp_path / "no" / "r.html")
    )
    assert "cannot be written" in error_of(capsys, made.NAME, *where, "--out", "/proc/r.html")
    (folder / "test_accuracy.json").write_text("{")
    assert "test_accuracy.json is damaged" in error_of(capsys, made.NAME, *where)
    (folder / "study.json").write_text("{")
    assert "study.json is damaged" in error_of(capsys, made.NAME, *where)
    assert not (folder / "report.html").exists()


def test_without_a_complete_trial_there_is_no_report(tmp_path, capsys):
    prepared = made.prepared_study(tmp_path)
    study = made.new_study(prepared)
    where = (made.NAME, "--runs-dir", str(tmp_path))
    assert "no complete trial to report on (none began): " in error_of(capsys, *where)
    made.end(study, made.start(study, 0), 0, failure="the loss is nan\nmore")
    study.tell(made.start(study, 1), state=TrialState.PRUNED)
    err = error_of(capsys, *where)
    assert "(1 failed, 1 pruned; the last failure: the loss is nan): resume it with `python launch.py" in err
    assert list(prepared.folder.iterdir()) == [prepared.folder / "study.json"]


def test_open_never_fails_the_command(every_kind, tmp_path, capsys, monkeypatch):
    asked = []

    def no_browser(url):
        asked.append(url)
        raise webbrowser.Error("no display")

    monkeypatch.setattr(webbrowser, "open", no_browser)
    out = tmp_path / "my report.html"
    assert main(["report", made.NAME, "--runs-dir", str(tmp_path), "--out", str(out), "--open"]) == 0
    assert asked == [out.as_uri()] and asked[0].endswith("my%20report.html")
    captured = capsys.readouterr()
    assert f"Report: {out} (" in captured.out and "No browser could be opened" in captured.err


def test_it_needs_neither_torch_nor_ray(every_kind, tmp_path):
    code = (
        "import sys; from tuner.__main__ import main\n"
        f"assert main(['report', 'mine', '--runs-dir', {str(tmp_path)!r}]) == 0\n"
        "sys.exit('torch' in sys.modules or 'ray' in sys.modules or 'mlflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
