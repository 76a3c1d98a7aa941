from datetime import timedelta

from tests.support import mlflow_studies as made
from tuner.next_commands import where_flags
from tuner.record.reading import StudyReading, read_study
from tuner.report.facts import duration, in_mlflow, made_with, problems


def test_what_went_wrong_is_counted(tmp_path):
    study = made.every_kind(made.prepared_study(tmp_path))
    assert problems(read_study(study, str(tmp_path))) == [
        "1 failed: the loss is nan at step 7",
        "1 ran out of memory: others took their place",
        "1 never started: 80.0 MiB exceed the budget",
    ]


def test_words():
    assert [duration(timedelta(seconds=s)) for s in (59, 3661, 200_000)] == [
        "0 min 59 s",
        "1 h 1 min",
        "2 days 7 h",
    ]
    assert where_flags("runs", None) == "" and where_flags("my runs", None) == " --runs-dir 'my runs'"


def test_who_made_it_is_the_last_driver(tmp_path):
    assert made_with(StudyReading(name="s")) == {}
    facts = made_with(read_study(made.every_kind(made.prepared_study(tmp_path))))
    assert facts["Device"] and "torch 2." in facts["Versions"]


def test_nobody_is_sent_where_nothing_is(tmp_path):
    runs_dir, server = str(tmp_path), "http://ann:pw@h:5000"

    def told(uri, links=None, *, answers=True, storage=None):
        return in_mlflow("s", runs_dir, storage, uri, links or {}, answers=answers)

    assert told(server, {"s-000": "http://h:5000/x"}) == [
        "Names lead to the runs in MLflow at http://h:5000."
    ]
    (away,) = told(server, answers=False)
    assert "did not answer" in away and "lead" not in away and "pw" not in away
    assert told(server)[1] == f"python -m tuner sync s --runs-dir {runs_dir}"
    assert told("none")[1] == f"python -m tuner sync s --runs-dir {runs_dir} --tracking-uri URI"
    assert "no MLflow database" in told(None)[0]
    (tmp_path / "mlflow.db").touch()
    # Storage is no flag of `ui`.
    assert told(None, storage="sqlite:///o.db")[1] == f"python -m tuner ui s --runs-dir {runs_dir}"
    other = told("postgresql://ann:pw@h/d?sslmode=require")[1]
    assert other.endswith(" --tracking-uri 'postgresql://ann@h/d?sslmode=require'")
