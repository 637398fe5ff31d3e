"""Cut one question out of a demo report, as the image at the top of the README.

    p2r demo && python docs/images/draw_demo.py out/demo/report.html --question 77

Needs Chromium. Without --question it takes the first open question about two patterns that one look cannot show, which
was answered right with own and oracle boxes, and wrong directly and with random boxes.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from pathlib import Path

from PIL import Image, ImageChops

TARGET = Path(__file__).parent / "demo.webp"
WIDTH_PX = 1240
FOCUS = """<style>
html, body { background: #fff !important; }
header.page, footer.page, nav.places, .section, .bar-top, .card:not(#q%d) { display: none !important; }
.card { display: block !important; }
main { padding: 0 !important; max-width: none !important; }
section { margin: 0 !important; }
.card { margin: 0 !important; box-shadow: none !important; background: #fff !important; }
</style></head>"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path)
    parser.add_argument("--question", type=int, help="its number in the report")
    arguments = parser.parse_args()
    html = arguments.report.read_text(encoding="utf-8")
    html = html.replace("</head>", FOCUS % (arguments.question or find_question(html)))
    html = html.replace("prefers-color-scheme: dark", "prefers-color-scheme: never")
    with tempfile.TemporaryDirectory() as folder:
        page, shot = Path(folder) / "page.html", Path(folder) / "shot.png"
        page.write_text(html, encoding="utf-8")
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"]
        command += [f"--window-size={WIDTH_PX},1400", "--force-device-scale-factor=1.5", f"--screenshot={shot}"]
        subprocess.run([*command, page.as_uri()], check=True, capture_output=True)
        image = Image.open(shot).convert("RGB")
    box = ImageChops.difference(image, Image.new("RGB", image.size, "white")).getbbox()
    image.crop(box).save(TARGET, quality=88, method=6)
    print(f"{TARGET}: {TARGET.stat().st_size / 1000:.0f} kB")


def find_question(html: str) -> int:
    for card in re.findall(r"<article.*?</article>", html, re.DOTALL):
        number = re.search(r'id="q(\d+)"', card)
        verdicts = re.findall(r'class="mark (\w+)"', card)
        target = re.search(r"Right answer: <b>(.*?)</b>", card)
        is_telling = verdicts == ["wrong", "wrong", "right", "right"] and card.count('class="pair"') == 2
        is_visible = target is not None and "plain" not in target[1] and 'class="labels"' not in card
        if number and is_telling and is_visible:
            return int(number[1])
    raise SystemExit("no question of that kind in this report: name one with --question")


if __name__ == "__main__":
    main()
