"""The report in a real browser: what it loads, how it stands on a desk, on a phone and on paper."""

import csv
import math
import threading
import time

import pytest

from tests.support import mlflow_studies as made
from tests.support.browser import DESKTOP, PHONE, opened_page
from tests.support.judged_study import write_judged_study
from tests.support.mlflow_studies import NAME
from tests.support.synthetic_study import BUDGET_MIB, write_study
from tuner.record.claim import folder_claimed
from tuner.report.live import serve_live
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


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judged")
    write_study(folder, "judged", 24, 3, judged=True)
    return write_report("judged", str(folder))


def drawn(page) -> int:
    return page.evaluate("document.querySelectorAll('.plot .main-svg:first-child').length")


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_every_figure_is_drawn_when_it_is_reached_and_nothing_is_loaded(show, report, size):
    with opened_page(size) as page:
        errors, asked = show(page)
        shown = page.locator("figure.panel:visible")  # the front over time is shown if it is chosen
        figures = shown.count()
        assert figures > 20 and drawn(page) < figures
        for index in range(figures):
            shown.nth(index).scroll_into_view_if_needed()
            shown.nth(index).locator(".main-svg").first.wait_for()
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
        assert drawn(page) == page.locator("figure.panel:visible").count()
        page.pdf(path=tmp_path / "report.pdf", prefer_css_page_size=True)
        assert (tmp_path / "report.pdf").stat().st_size > 100_000


def test_tables_are_downloaded_and_commands_copied_by_keyboard_under_the_policy(judged):
    with opened_page() as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.goto(judged.as_uri())
        link = page.get_by_role("link", name="All trials as CSV")
        link.focus()
        with page.expect_download() as download:
            page.keyboard.press("Enter")
        assert download.value.suggested_filename == "judged-trials.csv"
        with download.value.path().open() as file:
            assert [row["trial"] for row in csv.DictReader(file)][:2] == ["joint-000", "joint-001"]
        button = page.get_by_role("button", name="Copy the command that makes this page")
        button.focus()
        page.keyboard.press("Enter")
        page.get_by_text("Copied", exact=True).first.wait_for()
        said = page.evaluate("navigator.clipboard.readText()")
        assert said == f"python -m tuner report judged --runs-dir {judged.parent.parent}"


def test_the_front_is_switched_to_time_and_lines_are_chosen_by_keyboard(judged):
    with opened_page() as page:
        page.goto(judged.as_uri())
        assert page.locator("#front .main-svg").first.is_visible()
        page.get_by_label("memory of a step").focus()
        page.keyboard.press("ArrowRight")
        page.locator("#front-time .main-svg").first.wait_for()
        assert not page.locator("#front .plot").is_visible()
        page.locator("#together").scroll_into_view_if_needed()
        page.locator("#together .main-svg").first.wait_for()
        lines = page.locator("#together .scatterlayer .trace path.js-line")
        everything = lines.count()
        page.get_by_label("all", exact=True).focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_function(
            "n => document.querySelectorAll('#together .trace path.js-line').length < n", arg=everything
        )


def test_every_control_has_a_name_and_every_region_is_reached_by_keyboard(judged):
    with opened_page(PHONE) as page:
        page.goto(judged.as_uri())
        unnamed = """() => [...document.querySelectorAll("button, a[href], input, summary")].filter(
            (one) => !(one.getAttribute("aria-label") || one.textContent.trim() || one.labels?.length))
            .map((one) => one.outerHTML)"""
        assert [text for text in page.evaluate(unnamed) if "modebar" not in text] == []
        regions = page.locator("[role=region]")
        assert regions.count() >= 5
        for index in range(regions.count()):
            assert regions.nth(index).get_attribute("tabindex") == "0"
            assert regions.nth(index).get_attribute("aria-label")


def test_a_live_page_shows_what_is_new_and_keeps_what_the_reader_opened(tmp_path):
    prepared = made.prepared_study(tmp_path, tracking_uri="none")
    study = made.every_kind(prepared)
    address: list[str] = []
    there = threading.Event()

    def opened(url: str) -> None:
        address.append(url)
        there.set()

    def follow() -> None:
        serve_live(made.NAME, str(tmp_path), None, lambda line: None, opened, every_s=0.3)

    with folder_claimed(prepared.folder, made.NAME):
        thread = threading.Thread(target=follow)
        thread.start()
        assert there.wait(120)
        with opened_page() as page:
            page.set_default_timeout(120_000)
            page.goto(address[0])
            page.locator("#again-separate_lr-000 summary").click()
            page.get_by_role("radio", name="seconds per epoch").check()
            page.get_by_role("button", name="epochs").click()
            page.evaluate("scrollTo(0, 700)")
            before = page.evaluate("scrollY")
            trial = made.start(study, 8)
            made.write_folder(prepared, 8, made.EPOCHS)
            made.end(study, trial, 8)
            page.locator("#t-separate_lr-008").wait_for(state="attached")
            assert page.evaluate("document.getElementById('again-separate_lr-000').open")
            assert page.get_by_role("radio", name="seconds per epoch").is_checked()
            assert page.locator("th[aria-sort]").inner_text().startswith("epochs")
            assert page.evaluate("scrollY") == before > 0
            page.locator("#front-time .main-svg").first.wait_for()
    thread.join(60)
    assert not thread.is_alive()


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
