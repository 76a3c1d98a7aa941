"""A real headless Chromium, as Debian installs it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Page, sync_playwright

PHONE = (390, 844)
DESKTOP = (1280, 900)
"""Width and height of a window, in CSS pixels."""


@contextmanager
def opened_page(size: tuple[int, int] = DESKTOP) -> Iterator[Page]:
    """Gives an empty page."""
    chromium = shutil.which("chromium")
    assert chromium is not None, "there is no Chromium here: run 'make system-packages'"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        try:
            yield browser.new_page(viewport={"width": size[0], "height": size[1]})
        finally:
            browser.close()
