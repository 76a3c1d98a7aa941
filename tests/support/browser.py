"""A real headless Chromium, as Debian installs it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Page, sync_playwright

PHONE = (390, 844)
DESKTOP = (1280, 900)
"""Width and height of a window, in CSS pixels."""


@contextmanager
def opened_page(size: tuple[int, int] = DESKTOP) -> Iterator[Page]:
    """Gives an empty page; skips the test where no Chromium is installed (Debian: apt install chromium)."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium is installed (Debian: apt install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        try:
            yield browser.new_page(viewport={"width": size[0], "height": size[1]})
        finally:
            browser.close()
