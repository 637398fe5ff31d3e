"""Chromium, for the scripts beside this one that picture a page. Needs Playwright (`pip install playwright`)."""

from __future__ import annotations

import io
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright


@contextmanager
def open_page() -> Generator[Page, None, None]:
    """A page of 1240 x 900 CSS pixels, drawn with half as many again each way."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield browser.new_page(viewport={"width": 1240, "height": 900}, device_scale_factor=1.5)
        browser.close()


def save(screenshot: bytes, target: Path) -> None:
    """Write a screenshot as WebP, and print its size."""
    Image.open(io.BytesIO(screenshot)).convert("RGB").save(target, quality=80, method=6)
    print(f"{target}: {target.stat().st_size / 1000:.0f} kB")
