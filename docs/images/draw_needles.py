"""Draw the families and backgrounds of needles, as the image in docs/reference/benchmarks.md.

    python docs/images/draw_needles.py

Each column is one question: the image at the budget of `nano`, and a crop of the object at the same budget.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from p2r.benchmarks import load_benchmark
from p2r.dialogue import Budget
from p2r.evidence import crop_rect
from p2r.images.budget import fit

TARGET = Path(__file__).parent / "needles.webp"
BUDGET = Budget(factor=32, min_pixels=4 * 32 * 32, max_pixels=64 * 32 * 32)
SPECS = ("families=attribute", "families=text", "families=absent", "families=attribute,background=natural")
SIDE_PX, GAP_PX = 288, 8


def main() -> None:
    samples = [load_benchmark(f"needles:{spec}", seed=9, num_samples=1)[0] for spec in SPECS]
    step = SIDE_PX + GAP_PX
    sheet = Image.new("RGB", (len(samples) * step - GAP_PX, 2 * step - GAP_PX), "white")
    for column, sample in enumerate(samples):
        print(f"{SPECS[column]}: {sample.question} {sample.target}")
        image = sample.image.load()
        crop = image.crop(crop_rect(sample.gold_boxes[0], *image.size))
        for row, part in enumerate((image, crop)):
            seen = fit(part, BUDGET).resize((SIDE_PX, SIDE_PX), Image.Resampling.NEAREST)
            sheet.paste(seen, (column * step, row * step))
    sheet.save(TARGET, quality=90, method=6)
    print(f"{TARGET}: {TARGET.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
