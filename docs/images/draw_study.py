"""Picture the claims of the paper in miniature, from its page, as in recipes/study/README.md.

    python docs/images/draw_study.py

Needs Chromium and Playwright (`pip install playwright`).
"""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

FOLDER = Path(__file__).parent
PAGE = FOLDER.parent.parent / "recipes" / "study" / "paper_in_miniature" / "study.html"
TARGET = FOLDER / "study.webp"


def main() -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1240, "height": 900}, device_scale_factor=1.5)
        page.goto(PAGE.as_uri())
        page.add_style_tag(content=".forests figure { padding: 20px; }")
        figure = page.locator(".forests figure").first
        image = Image.open(io.BytesIO(figure.screenshot())).convert("RGB")
        browser.close()
    image.save(TARGET, quality=80, method=6)
    print(f"{TARGET}: {TARGET.stat().st_size / 1000:.0f} kB, {image.width} x {image.height}")


if __name__ == "__main__":
    main()
