"""A real browser without a window: the machine's own Chromium, driven by Playwright from where the Makefile put it."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import pytest

from tests.fakes.guest_tools import GUESTS

EXPECTED = re.compile("Failed to load|Content Security Policy|TrustedHTML|TrustedScript")
"""What a browser says about requests and attacks that a test means to fail."""
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
Browser = Page = Locator = Any
"""Playwright's, whose types are not there where it is not installed."""


@contextmanager
def launch() -> Iterator[Browser]:
    """Give a browser; skip where there is none, or nothing to drive it with."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium is installed; Debian's package is called chromium")
    if find_spec("playwright") is None:
        if not (GUESTS / "playwright" / "playwright").is_dir():
            pytest.skip(f"playwright is not in {GUESTS}; `make test-all` puts it there")
        sys.path.append(str(GUESTS / "playwright"))
    from playwright.sync_api import sync_playwright  # pyright: ignore

    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # its sandbox does not run for root
    driver: Any = sync_playwright()
    with driver as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=arguments)
        yield browser
        browser.close()


@contextmanager
def open_page(browser: Browser, url: str, **settings: object) -> Iterator[Page]:
    """Give a page of its own session, and see that it meets no error of its own."""
    context = browser.new_context(viewport={"width": 1200, "height": 800}, **settings)
    context.set_default_timeout(30_000)
    page, errors = context.new_page(), list[str]()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("dialog", lambda dialog: errors.append(dialog.message))
    page.on(
        "console",
        lambda said: errors.append(said.text) if said.type == "error" and not EXPECTED.search(said.text) else None,
    )
    page.goto(url)
    try:
        yield page
        assert errors == []
    finally:
        context.close()
