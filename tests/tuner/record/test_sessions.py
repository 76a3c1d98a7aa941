import dataclasses
import getpass

import pytest

from tests.support import mlflow_studies as made
from tuner.record import schema
from tuner.record.sessions import begin_session, program_of, read_sessions, session_at, with_session


def test_mlflow_is_told_user_program_and_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYTL_COMMIT", "0123abc-dirty")
    session = dataclasses.replace(begin_session(made.prepared_study(tmp_path)), command="python launch.py -v")
    tags = session.tags
    assert tags["mlflow.user"] == getpass.getuser() and tags["mlflow.source.name"] == "launch.py"
    assert tags["mlflow.source.git.commit"] == "0123abc" and tags["commit"] == "0123abc-dirty"
    older = dataclasses.replace(session, user=None, commit=None).tags
    assert not {"mlflow.user", "mlflow.source.git.commit", "commit"} & older.keys()


@pytest.mark.parametrize(
    ("command", "program"),
    [
        ("python launch.py --name s", "launch.py"),
        ("python '/my code/launch.py'", "/my code/launch.py"),
        ("python -m tuner launch --trials=3", "tuner"),
        ("", ""),
    ],
)
def test_a_program_is_the_first_word_that_is_no_interpreter(command, program):
    assert program_of(command) == program


def test_a_session_of_an_older_version_is_read(tmp_path):
    stored = begin_session(made.prepared_study(tmp_path)).to_json()
    del stored["user"]
    (session,) = read_sessions({schema.SESSIONS: [stored]})
    assert session.user is None


def test_a_session_like_the_last_is_no_new_one(tmp_path, monkeypatch):
    prepared = made.prepared_study(tmp_path)
    monkeypatch.setenv("TINYTL_COMMIT", "a")
    stored = with_session([], begin_session(prepared, 1000))
    assert with_session(stored, begin_session(prepared, 2000)) == stored
    monkeypatch.setenv("TINYTL_COMMIT", "b")
    stored = with_session(stored, begin_session(prepared, 3000))
    sessions = read_sessions({schema.SESSIONS: stored})
    at = {moment: session_at(sessions, moment).commit for moment in (0, 1000, 2999, 3000, None)}
    assert at == {0: "a", 1000: "a", 2999: "a", 3000: "b", None: "b"}
    assert read_sessions({}) == [] and session_at([], 5) is None
