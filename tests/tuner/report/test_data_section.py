import csv
import dataclasses
import shlex
import shutil

import pytest

from tests.support import mlflow_studies as made
from tests.support.checked_pictures import several, write_pictures
from tests.support.judged_study import BEST, COUNTS, OTHER, UNJUDGED, config_of, write_judged_study
from tinytl.__main__ import main
from tinytl.data.load import load_dataset
from tinytl.data.named_pictures import named_parts
from tinytl.runs.directory import RunDirectory
from tuner.findings.study_pictures import study_pictures
from tuner.record import schema
from tuner.record.reading import open_study
from tuner.report.data_section import MOST_OF_A_KIND, data_section, write_data_table
from tuner.report.thumbnails import Thumbnails


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def reading(tmp_path):
    write_judged_study(tmp_path)
    return open_study(made.NAME, str(tmp_path))


def section(reading, pictures=None, why_none="it is gone"):
    return data_section(reading, pictures, why_none, Thumbnails({} if pictures is None else pictures.parts))


def check(tmp_path, *flags):
    folder = str(tmp_path / "pictures")
    assert main(["check", "--dataset", "imagefolder", "--data-dir", folder, "--json", *flags]) == 0


def test_label_errors_with_pictures_and_the_command_for_the_rest(reading, tmp_path):
    found = section(reading, study_pictures(reading))
    (group,) = found["groups"]
    assert group["title"] == "Labels that may be wrong: 1" and group["more"] == 0
    (one,) = group["items"]
    assert (one["file"], one["about"], len(one["pictures"])) == ("val/b/1.png", "val, b", 1)
    assert one["reason"] == "it looks like a, 4.4 times as likely as b"
    assert found["notes"][0].startswith("Labels that may be wrong: 1 of 8 validation images")
    assert "what the 2 best trials said" in found["notes"][0]
    command = f"python -m tinytl check --dataset imagefolder --data-dir {tmp_path}/pictures --labels"
    assert found["command"] == command and found["looks_for"].startswith("Copies across splits")


def test_the_table_is_a_list_to_exclude(reading, tmp_path):
    found = section(reading, study_pictures(reading))
    assert write_data_table(found, tmp_path / "report.html") == [tmp_path / "report_data.csv"]
    assert found["table"] == "report_data.csv"
    with (tmp_path / "report_data.csv").open(newline="") as file:
        assert [(row["kind"], row["file"]) for row in csv.DictReader(file)] == [("label", "val/b/1.png")]
    config = dataclasses.replace(config_of(tmp_path), exclude=str(tmp_path / "report_data.csv"))
    val = named_parts(config)[1]["val"]
    assert "val/b/1.png" not in [val.file(row) for row in range(len(val))] and len(val) == 7


@pytest.fixture
def with_copies(tmp_path):
    """The same, and pictures of val again in train."""
    root = write_pictures(tmp_path / "pictures", several(COUNTS))
    for number in range(MOST_OF_A_KIND + 2):
        shutil.copy(root / "val/a/0.png", root / f"train/a/copy{number}.png")
    write_judged_study(tmp_path, {})
    return open_study(made.NAME, str(tmp_path))


def test_what_an_earlier_check_of_the_same_pictures_found_is_shown(with_copies, tmp_path):
    pictures = study_pictures(with_copies)
    assert [group["kind"] for group in section(with_copies, pictures)["groups"]] == ["label"]
    check(tmp_path, "--enough-per-class", "5")
    found = section(with_copies, pictures)
    assert [group["kind"] for group in found["groups"]] == ["leak", "label"]
    leaks = found["groups"][0]
    assert len(leaks["items"]) == MOST_OF_A_KIND and leaks["more"] == 2
    assert len(leaks["items"][0]["pictures"]) == 2 and leaks["items"][0]["about"] == "train, a"
    assert "the last tinytl check of these pictures (pictures: 28 images" in found["notes"][1]
    assert found["looks_for"].startswith("Labels of training images") and found["command"]
    write_data_table(found, tmp_path / "report.html")
    assert (tmp_path / "report_data.csv").read_text().count("\nleak,") == MOST_OF_A_KIND + 2
    (tmp_path / "pictures/train/a/copy0.png").unlink()
    check(tmp_path)  # of other pictures
    assert len(section(with_copies, pictures)["groups"][0]["items"]) == MOST_OF_A_KIND


def test_the_command_that_is_shown_makes_what_the_next_report_finds(tmp_path):
    study = write_judged_study(tmp_path, COUNTS | {"train/c": 2})
    config = dataclasses.replace(config_of(tmp_path), min_per_class=3)
    study.set_user_attr(schema.IMAGES_DIGEST, load_dataset(config).digest)
    for name in (BEST, OTHER, UNJUDGED):
        RunDirectory(tmp_path / made.NAME / name).write_config(config)
    reading = open_study(made.NAME, str(tmp_path))
    command = section(reading, study_pictures(reading))["command"]
    words = shlex.split(command.removesuffix(" --labels"))[3:]
    assert words[-2:] == ["--min-per-class", "3"] and main([*words, "--json"]) == 0
    found = section(reading, study_pictures(reading))
    assert found["notes"][1].startswith("The rest is from the last tinytl check of these pictures")


def test_without_the_pictures_a_check_is_shown_as_text(with_copies, tmp_path):
    found = section(with_copies)
    assert found["notes"] == ["Labels were not looked at: it is gone"]
    assert (found["groups"], found["command"]) == ([], None)
    assert write_data_table(found, tmp_path / "report.html") == []
    assert not (tmp_path / "report_data.csv").exists()
    check(tmp_path)
    found = section(with_copies)
    assert found["groups"][0]["items"][0]["pictures"] == []
    assert write_data_table(found, tmp_path / "report.html") != []


def test_a_study_that_kept_no_judgements_says_so(reading):
    for name in (BEST, OTHER):
        RunDirectory(reading.folder / name).val_judgements.unlink()
    found = section(reading, study_pictures(reading))
    assert found["notes"] == [
        "Labels were not looked at: no trial has kept what it said of each validation image."
    ]
    assert found["findings"] == [] and found["command"]
