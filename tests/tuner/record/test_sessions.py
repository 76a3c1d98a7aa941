from tests.support import mlflow_studies as made
from tuner.record import schema
from tuner.record.sessions import begin_session, read_sessions, session_at, with_session


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
