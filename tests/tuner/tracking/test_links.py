import sys

import pytest

from tests.support import mlflow_studies as made
from tests.support.studies import free_port, started, wait_for
from tuner.tracking.client import open_mlflow
from tuner.tracking.links import links_or_reason, run_links
from tuner.tracking.sync import sync


def test_a_database_has_no_pages(tmp_path):
    assert run_links(f"sqlite:///{tmp_path}/mlflow.db", "s", {"dataset": "digits"}) == {}
    assert not list(tmp_path.iterdir()), "nothing is made by looking"


def test_a_server_that_does_not_answer():
    links, why = links_or_reason("http://127.0.0.1:9", "s", {"dataset": "digits"})
    assert links == {} and "MLflow does not answer" in why


@pytest.mark.slow
def test_a_server_has_a_page_for_each_trial(tmp_path):
    identity = made.every_kind(made.prepared_study(tmp_path)).user_attrs
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    open_mlflow(f"sqlite:///{tmp_path}/server.db")
    argv = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/server.db",
        "--artifacts-destination",
        str(tmp_path / "served"),
    ]
    with started([*argv, "--port", str(port), "--workers", "1"], tmp_path / "server.log"):
        wait_for(lambda: links_or_reason(uri, "x", identity)[1] is None, "MLflow")
        sync(made.NAME, str(tmp_path), None, uri, driver_is_gone=True)
        links = run_links(uri, made.NAME, identity)
        assert sorted(links) == [made.trial_name(i) for i in (0, 1, 2, 4, 5, 6, 7)]
        assert all(link.startswith(f"{uri}/#/experiments/") and "/runs/" in link for link in links.values())
        assert run_links(uri, made.NAME, identity | {"study_id": "another"}) == {}
        assert run_links(uri, made.NAME, identity | {"experiment": "another"}) == {}
