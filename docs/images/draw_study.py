"""Picture the claims of the paper in miniature, from its page, as in recipes/study/README.md.

    python docs/images/draw_study.py

Needs Chromium and Playwright (`pip install playwright`).
"""

from __future__ import annotations

from pathlib import Path

from browser import open_page, save

FOLDER = Path(__file__).parent
PAGE = FOLDER.parent.parent / "recipes" / "study" / "paper_in_miniature" / "study.html"


def main() -> None:
    with open_page() as page:
        page.goto(PAGE.as_uri())
        page.add_style_tag(content=".forests figure { padding: 20px; }")
        save(page.locator(".forests figure").first.screenshot(), FOLDER / "study.webp")


if __name__ == "__main__":
    main()
