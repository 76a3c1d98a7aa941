import json

from tests.support import mlflow_studies as made
from tests.support.synthetic_study import write_study
from tuner.record.reading import open_study
from tuner.report.content import Live, read_report


def test_a_study_without_a_complete_trial_has_all_but_results(tmp_path):
    prepared = made.prepared_study(tmp_path, tracking_uri="none")
    made.start(made.new_study(prepared), 0)
    study = open_study(made.NAME, str(tmp_path))
    content = read_report(study, None, live=Live(every_s=5, version="v", ended=False))
    assert (content["best"], content["fronts"], content["front_rows"]) == (None, [], [])
    assert [section.id for section in content["sections"]] == ["importance"]
    assert "Shown once 4 trials are complete; 0 are." in content["sections"][0].note


def test_how_to_compare_is_said_without_the_name_of_another_study(tmp_path):
    for name in ("one", "two"):
        write_study(tmp_path, name, 2, 3)
    command = read_report(open_study("one", str(tmp_path)), None)["compare"]
    assert command == f"python -m tuner compare one OTHER --runs-dir {tmp_path} --out comparison"


def test_counts_of_images_come_from_the_last_session_if_there_are_no_classes(tmp_path):
    prepared = made.prepared_study(tmp_path)
    made.new_study(prepared)
    facts = read_report(open_study(made.NAME, str(tmp_path)), None)["facts"]["Data"]
    assert (facts["Training images"], facts["Validation images"]) == ("8", "4")
    counts = {"names": ["0", "1"], "images": {"train": [5, 4], "val": [1, 2]}}
    (prepared.folder / "classes.json").write_text(json.dumps(counts))
    content = read_report(open_study(made.NAME, str(tmp_path)), None)
    assert content["facts"]["Data"]["Training images"] == "9" and content["splits"] == [
        "training",
        "validation",
    ]
