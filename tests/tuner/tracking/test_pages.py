import pytest

from tinytl.errors import ConfigError
from tuner.tracking.client import open_mlflow
from tuner.tracking.pages import landing_path, page_on, study_pages
from tuner.tracking.view import TAG_PREFIX, runs_path, view_path


def test_studies_are_found_newest_first_in_every_experiment(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert study_pages_of_a_new_database(uri) == []
    client = open_mlflow(uri)
    one, other = client.create_experiment("one"), client.create_experiment("other")
    for start, experiment, name, kind in (
        (1000, one, "a", "study"),
        (3000, other, "b", "study"),
        (2000, one, "b", "study"),
        (4000, one, "b", "trial"),
    ):
        client.create_run(experiment, start_time=start, tags={"study": name, "kind": kind})
    client.set_experiment_tag(one, f"{TAG_PREFIX}a", "{}")
    assert study_pages(uri) == [
        ("b", runs_path("b", other)),
        ("b", runs_path("b", one)),
        ("a", view_path("a", one)),
    ]
    assert [name for name, _ in study_pages(uri, "a")] == ["a"] and study_pages(uri, "none") == []


def study_pages_of_a_new_database(uri):
    open_mlflow(uri)
    return study_pages(uri)


def test_a_study_without_a_view_of_its_own_is_found_by_a_filter():
    assert landing_path("s", "7", {}) == runs_path("s", "7")
    assert landing_path("s", "7", {f"{TAG_PREFIX}s": "{}"}) == view_path("s", "7")


def test_an_address_has_no_password():
    assert page_on("http://ann:pw@h:5000/", "#/x") == "http://h:5000/#/x"
    assert "pw" not in page_on("http://ann:pw@h:5000", None)


def test_a_server_that_does_not_answer_is_one_line():
    with pytest.raises(ConfigError, match="does not answer"):
        study_pages("http://127.0.0.1:9")
