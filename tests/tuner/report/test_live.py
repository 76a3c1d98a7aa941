import contextlib
import shutil
import threading
import time
import urllib.request
from dataclasses import replace

import pytest

from tests.support import mlflow_studies as made
from tinytl.errors import ConfigError
from tuner.__main__ import main
from tuner.record import schema
from tuner.record.claim import folder_claimed
from tuner.record.reading import open_study
from tuner.report import live
from tuner.report.live import serve_live, version_of

EVERY_S = 0.05


class Driver:
    """A study that runs, and one who follows it in another thread."""

    def __init__(self, tmp_path):
        self.runs_dir, self.prepared = str(tmp_path), made.prepared_study(tmp_path, tracking_uri="none")
        self.study = made.new_study(self.prepared)
        self.lines, self.error, self.url = [], None, None
        self._there, self._claim = threading.Event(), contextlib.ExitStack()
        self._claim.enter_context(folder_claimed(self.prepared.folder, made.NAME))

    def follow(self):
        def run():
            try:
                serve_live(made.NAME, self.runs_dir, None, self.lines.append, self._open, every_s=EVERY_S)
            except ConfigError as error:
                self.error = str(error)
            finally:
                self._there.set()

        self.thread = threading.Thread(target=run)
        self.thread.start()
        assert self._there.wait(60) and self.url is not None, self.error

    def _open(self, url):
        self.url = url
        self._there.set()

    def page(self, wanted: str) -> str:
        """The page once it holds `wanted`."""
        for _ in range(600):
            with urllib.request.urlopen(self.url, timeout=30) as answer:
                text = answer.read().decode()
            if wanted in text:
                return text
            time.sleep(0.1)
        raise AssertionError(f"{wanted} never came")

    def end(self):
        self._claim.close()

    def join(self):
        self.thread.join(60)
        assert not self.thread.is_alive()


@pytest.fixture
def driver(tmp_path, monkeypatch):
    monkeypatch.setattr(live, "SHARE", 1.0)  # nothing else runs here that needs the processor
    monkeypatch.setattr(live, "LAST_CALL_S", 4 * EVERY_S)
    driver = Driver(tmp_path)
    yield driver
    driver.end()


def test_a_study_is_followed_from_before_its_first_trial_to_its_end(driver):
    driver.follow()
    first = driver.page("No trial is complete yet.")
    assert "connect-src &#39;self&#39;" in first and "data-ended" not in first.partition("<script>")[0]
    trial = made.start(driver.study, 0)
    made.write_folder(driver.prepared, 0, 1)
    assert "Training now" in driver.page("separate_lr-000")
    made.write_folder(driver.prepared, 0, made.EPOCHS)
    made.end(driver.study, trial, 0)
    driver.page("Still running: 1 of 6 trials ended. This page follows it.")
    driver.end()
    driver.join()
    assert driver.lines == [
        f"{driver.url} (Ctrl-C ends it)",
        "Study mine no longer runs: 1 of 6 trials ended",
    ]


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda folder: (folder / "study.json").write_text("{"), "study.json is damaged"),
        (shutil.rmtree, "the folder of study mine is gone"),
    ],
)
def test_a_study_that_is_damaged_or_deleted_ends_it_with_one_line(driver, harm, said):
    driver.follow()
    harm(driver.prepared.folder)
    driver.join()
    assert said in driver.error and "\n" not in driver.error


def test_a_study_that_does_not_run_is_not_followed(tmp_path, capsys):
    made.every_kind(made.prepared_study(tmp_path))
    assert main(["report", made.NAME, "--runs-dir", str(tmp_path), "--live"]) == 2
    err = capsys.readouterr().err
    assert "study mine does not run (5 of 6 trials ended)" in err and err.count("\n") == 1
    assert f"`python -m tuner report mine --runs-dir {tmp_path}` writes its report" in err


def test_the_version_changes_with_what_the_page_shows_alone(tmp_path):
    prepared = made.prepared_study(tmp_path)
    made.every_kind(prepared)
    study = open_study(made.NAME, str(tmp_path))
    same = replace(study, attributes={**study.attributes, schema.DRIVER: "a sign of life"})
    assert version_of(study) == version_of(same)
    assert version_of(study) != version_of(replace(study, requested=7))
    before = version_of(study)
    with (prepared.folder / made.trial_name(6) / "metrics.jsonl").open("a") as file:
        file.write("{}\n")
    assert version_of(study) != before, "a trial that runs has written an epoch"
