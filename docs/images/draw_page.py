"""Ask the page of `p2r serve` one of its examples, as the image in docs/guides/serve.md.

    p2r serve --port 8432 & python docs/images/draw_page.py http://127.0.0.1:8432

Needs Chromium and Playwright (`pip install playwright`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from browser import open_page, save

TARGET = Path(__file__).parent / "page.webp"
EXAMPLE = "What patterns are on the green star and the orange star?"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url", help="of the server")
    arguments = parser.parse_args()
    with open_page() as page:
        page.goto(arguments.url)
        page.get_by_label("Compare with one look").check()
        page.get_by_role("button", name=EXAMPLE).click()
        page.locator("#facts").filter(has_text="Example").wait_for()
        page.get_by_role("button", name="Ask", exact=True).click()
        page.get_by_role("button", name="Download the evidence").wait_for(timeout=600_000)
        page.wait_for_function("!document.querySelector('.turn [aria-busy=true]')", timeout=600_000)
        page.evaluate("scrollTo(0, 0)")
        save(page.screenshot(), TARGET)


if __name__ == "__main__":
    main()
