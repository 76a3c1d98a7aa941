"""MLflow's own pages, in a real Chromium, on a real server: what a user does with a study's runs.

The pictures of docs/ are made by the same steps, of a study that was trained:

    python -m tests.integration.test_mlflow_ui RUNS_DIR STUDY docs
"""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from PIL import Image

from tests.support import mlflow_studies as made
from tests.support.browser import opened_page
from tests.support.mlflow_server import Server
from tuner.tracking.client import open_mlflow
from tuner.tracking.pages import study_pages
from tuner.tracking.sync import sync
from tuner.tracking.view import charts_path, front_path, runs_path, view_path

WAIT_MS = 240_000
SIZE = (1500, 880)
RECORDED = (0, 1, 2, 4, 5, 6, 7)
"""The trials that have a run: the fourth ran out of memory."""
FIRST_TRIAL = "[role=row] a[href*='/runs/']"


@contextmanager
def runs_page(address: str) -> Iterator:
    """Opens a page of MLflow, with what it offers beside the runs closed."""
    with opened_page(SIZE) as page:
        page.set_default_timeout(WAIT_MS)
        page.goto(address)
        for part in ("mlflow.assistant.chat_panel.close", "mlflow.experiment_page.shared_view.dismiss"):
            beside = page.locator(f"[data-component-id='{part}']")
            if "shared_view" not in part or "viewStateShareKey" in address:
                beside.click()
        yield page


def trials_shown(page) -> list[str]:
    """Returns the names in the table, from above."""
    page.wait_for_selector(FIRST_TRIAL)
    page.wait_for_timeout(3000)  # rows settle
    return [text for text in page.locator(FIRST_TRIAL).all_inner_texts() if text]


def draw_charts(page) -> None:
    """Waits until the study's charts are drawn."""
    page.wait_for_selector(".js-plotly-plot .scatterlayer .points path", state="attached")
    page.wait_for_selector(".js-plotly-plot .parcoords, .parcoords", state="attached")
    page.wait_for_timeout(3000)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Eight trials of every kind behind a server."""
    runs_dir = tmp_path_factory.mktemp("runs")
    open_mlflow(f"sqlite:///{runs_dir / 'mlflow.db'}")
    server = Server(runs_dir / "mlflow.db")
    prepared = made.prepared_study(runs_dir, tracking_uri=server.uri)
    made.every_kind(prepared)
    sync(made.NAME, str(runs_dir), None, None, driver_is_gone=True)
    yield server.uri, MlflowClient(server.uri)
    server.kill()


@pytest.mark.slow
class TestRunsPage:
    def test_the_studys_view_lists_its_trials_by_accuracy_and_can_be_sorted_by_memory(self, served):
        uri, client = served
        with runs_page(f"{uri}/{view_path(made.NAME, '1')}") as page:
            shown = trials_shown(page)
            assert made.NAME not in shown
            by_name = {r.info.run_name: r.data.metrics.get("accuracy_top1", -1) for r in runs_of(client)}
            accuracies = [by_name[name] for name in shown]
            assert accuracies == sorted(accuracies, reverse=True) and len(set(accuracies)) > 4
            page.get_by_test_id("sort-header-peak_memory_mib").click()
            by_name = {r.info.run_name: r.data.metrics.get("peak_memory_mib", -1) for r in runs_of(client)}
            memories = [by_name[name] for name in trials_shown(page)]
            assert memories == sorted(memories, reverse=True)

    def test_a_fresh_browser_lands_on_the_studys_runs(self, served):
        uri, _ = served
        ((study, path),) = study_pages(uri, made.NAME)
        with runs_page(f"{uri}/{path}") as page:
            assert study == made.NAME and set(trials_shown(page)) == set(map(made.trial_name, RECORDED))
            text = page.inner_text("body")
            assert f"{len(RECORDED)} matching runs" in text and "Traces" not in text.partition("Runs")[0]
            assert "accuracy_top1" in text and "No data available" not in text

    def test_the_trials_stand_below_their_study(self, served):
        uri, client = served
        with runs_page(f"{uri}/{runs_path(made.NAME, '1')}") as page:
            assert trials_shown(page) == [made.NAME]
            page.locator("[role=row]", has_text=made.NAME).locator("button").first.click()
            page.wait_for_selector(f"text={made.trial_name(0)}")
            assert set(trials_shown(page)) == {made.NAME, *map(made.trial_name, RECORDED)}
        child = next(run for run in runs_of(client) if run.info.run_name == made.trial_name(0))
        with opened_page(SIZE) as page:
            page.set_default_timeout(WAIT_MS)
            page.goto(f"{uri}/#/experiments/1/runs/{child.info.run_id}")
            page.wait_for_selector("text=Parent run")
            about = page.inner_text("body")
            assert made.NAME in about.partition("Parent run")[2][:60]
            assert child.data.tags["mlflow.user"] in about

    def test_the_front_is_a_filter(self, served):
        uri, _ = served
        with runs_page(f"{uri}/{view_path(made.NAME, '1')}") as page:
            trials_shown(page)
            page.get_by_test_id("search-box").fill('tags.on_front = "true"')
            page.get_by_test_id("search-box").press("Enter")
            page.wait_for_selector("text=2 matching runs")
            assert set(trials_shown(page)) == {made.trial_name(0), made.trial_name(4)}

    def test_the_studys_charts_are_scatter_and_parallel_coordinates(self, served):
        uri, _ = served
        with runs_page(f"{uri}/{charts_path(made.NAME, '1')}") as page:
            draw_charts(page)
            text = page.inner_text("body")
            assert "peak_memory_mib vs. accuracy_top1" in text and "Parallel Coordinates" in text

    def test_the_front_can_be_compared_side_by_side(self, served):
        uri, client = served
        ids = [r.info.run_id for r in runs_of(client) if r.data.tags.get("on_front") == "true"]
        with opened_page(SIZE) as page:
            page.set_default_timeout(WAIT_MS)
            page.goto(f"{uri}/{front_path(ids, '1')}")
            page.wait_for_selector("text=Comparing 2 Runs")
            page.wait_for_selector("text=Parallel Coordinates Plot")

    def test_the_studys_run_shows_its_note_and_its_front_with_hover(self, served):
        uri, client = served
        (parent,) = client.search_runs(["1"], "tags.kind = 'study'")
        with opened_page(SIZE) as page:
            page.set_default_timeout(WAIT_MS)
            page.goto(f"{uri}/#/experiments/1/runs/{parent.info.run_id}")
            page.wait_for_selector("text=Best: separate_lr-004")
            page.goto(f"{uri}/#/experiments/1/runs/{parent.info.run_id}/artifacts/front.html")
            page.wait_for_selector("iframe")
            page.frame_locator("iframe").locator(".js-plotly-plot").wait_for()


def runs_of(client):
    return client.search_runs(["1"], f"tags.study = '{made.NAME}' and tags.kind = 'trial'")


def make_pictures(runs_dir: Path, study: str, out: Path) -> None:
    """Writes the pictures of docs/: the table, and each chart in full."""
    server = Server((runs_dir / "mlflow.db").resolve())
    client = MlflowClient(server.uri)
    experiments = [e.experiment_id for e in client.search_experiments()]
    (parent,) = client.search_runs(experiments, f"tags.study = '{study}' and tags.kind = 'study'")
    experiment = parent.info.experiment_id
    try:
        with runs_page(f"{server.uri}/{view_path(study, experiment)}") as page:
            trials_shown(page)
            _save(page.screenshot(), out / "mlflow_runs.png")
        for name, index in (("mlflow_scatter", 0), ("mlflow_parallel", 1)):
            with runs_page(f"{server.uri}/{charts_path(study, experiment)}") as page:
                draw_charts(page)
                page.locator("[data-component-id='fullscreen_button_chartcard']").nth(index).click()
                page.wait_for_timeout(4000)
                _save(page.get_by_role("dialog").screenshot(), out / f"{name}.png")
    finally:
        server.kill()


def _save(png: bytes, path: Path) -> None:
    Image.open(io.BytesIO(png)).convert("RGB").quantize(128).save(path, optimize=True)


if __name__ == "__main__":
    make_pictures(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
