"""The report in a real browser: what it loads, how it stands on a desk, on a phone and on paper."""

import math
import time

import pytest

from tests.support.browser import DESKTOP, PHONE, opened_page
from tests.support.judged_study import write_judged_study
from tests.support.mlflow_studies import NAME
from tests.support.synthetic_study import BUDGET_MIB, write_study
from tuner.report.page import write_report

pytestmark = pytest.mark.slow
NEAR = 10.0
"""Pixels that a drawing may be off by."""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    write_study(folder, "many", 40, 6)
    return write_report("many", str(folder))


@pytest.fixture
def show(report):
    def shown(page):
        """Opens the report; the page's complaints and requests gather in lists."""
        page.on("console", lambda message: page_errors.append(message.text))
        page.on("pageerror", lambda error: page_errors.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(report.as_uri())
        page.wait_for_selector("html[data-opened]", state="attached", timeout=60_000)
        return page_errors, asked

    page_errors, asked = [], []
    return shown


def drawn(page) -> int:
    return page.evaluate("document.querySelectorAll('.plot .main-svg:first-child').length")


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_every_figure_is_drawn_when_it_is_reached_and_nothing_is_loaded(show, report, size):
    with opened_page(size) as page:
        errors, asked = show(page)
        figures = page.evaluate("document.querySelectorAll('figure.panel').length")
        assert figures > 20 and drawn(page) < figures
        for index in range(figures):
            page.locator("figure.panel").nth(index).scroll_into_view_if_needed()
            page.locator("figure.panel").nth(index).locator(".main-svg").first.wait_for()
        assert drawn(page) == figures
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "no scrolling sideways"
        assert (errors, asked) == ([], [report.as_uri()])


def test_the_budget_stands_where_it_is_on_the_log_axis(show):
    with opened_page() as page:
        show(page)
        line = page.locator("#front .shapelayer path").bounding_box()
        label = page.locator("#front .annotation").bounding_box()
        assert abs(label["x"] + label["width"] - line["x"]) < NEAR, "its label stands beside it"
        ticks = page.locator("#front .xtick text").all()
        first, last = ((math.log(float(tick.text_content())), center(tick)) for tick in (ticks[0], ticks[-1]))
        share = (math.log(BUDGET_MIB) - first[0]) / (last[0] - first[0])
        assert abs(first[1] + share * (last[1] - first[1]) - line["x"]) < NEAR


def center(locator) -> float:
    box = locator.bounding_box()
    return box["x"] + box["width"] / 2


def test_a_dot_tells_its_configuration_and_selects_its_row(show):
    with opened_page() as page:
        show(page)
        dots = page.locator("#front .scatterlayer .trace").nth(1).locator(".points path")
        box = dots.first.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        hover = page.locator("#front .hoverlayer .hovertext")
        hover.first.wait_for()
        name = page.locator("#front-table tbody th").first.inner_text()
        assert name in hover.text_content() and "method" in hover.text_content()
        page.mouse.down()
        page.mouse.up()
        page.wait_for_selector("tr.picked")
        assert page.locator("tr.picked").get_attribute("id") == f"t-{name}"
        assert page.locator("#picked").inner_text().startswith(f"{name} accuracy 0.")


def test_a_heading_sorts_and_what_has_no_figure_comes_last(show):
    with opened_page() as page:
        show(page)
        for order in ("ascending", "descending"):
            page.get_by_role("button", name="accuracy").click()
            assert page.locator("th[aria-sort]").get_attribute("aria-sort") == order
            texts = page.locator(".sortable tbody tr td:nth-of-type(3)").all_inner_texts()
            numbers = [float(text) for text in texts if text]
            assert numbers == sorted(numbers, reverse=order == "descending")
            assert texts[len(numbers) :] == [""] * (len(texts) - len(numbers)) and len(numbers) > 30


def test_a_dark_screen_has_dark_figures_and_paper_has_all_of_them_bright(show, tmp_path):
    with opened_page() as page:
        page.emulate_media(color_scheme="dark")
        show(page)
        ink = "getComputedStyle(document.querySelector('#front .xtitle')).fill"
        assert page.evaluate(ink) == "rgb(230, 233, 237)"
        page.emulate_media(color_scheme="light")
        deadline = time.monotonic() + 30
        while page.evaluate(ink) != "rgb(28, 33, 39)":
            assert time.monotonic() < deadline
            page.wait_for_timeout(50)
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert drawn(page) == page.evaluate("document.querySelectorAll('figure.panel').length")
        page.pdf(path=tmp_path / "report.pdf", prefer_css_page_size=True)
        assert (tmp_path / "report.pdf").stat().st_size > 100_000


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_pictures_are_inside_the_page_and_tables_scroll_inside_themselves(tmp_path, monkeypatch, size):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_judged_study(tmp_path)
    report = write_report(NAME, str(tmp_path))
    with opened_page(size) as page:
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(report.as_uri())
        page.wait_for_selector("html[data-opened]", state="attached", timeout=60_000)
        page.wait_for_function("[...document.images].every(image => image.complete)")
        widths = page.evaluate("[...document.images].map(image => image.naturalWidth)")
        assert set(widths) == {64} and len(widths) == 10  # the mistake, all by certainty, the label error
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "no scrolling sideways"
        assert {url for url in asked if not url.startswith("data:")} == {report.as_uri()}
        heads = page.locator("#mistakes table.sortable tbody th")
        assert heads.all_inner_texts() == ["b", "a"]  # the lowest F1 first
        page.locator("#mistakes").get_by_role("button", name="class").click()
        assert heads.all_inner_texts() == ["a", "b"]
