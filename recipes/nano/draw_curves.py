"""Draw the curves of a cold start. Needs matplotlib.

python -m recipes.nano.draw_curves runs/nano curves.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

PANELS = (
    (
        "vision.jsonl",
        "stage 1: read off one visual token",
        ("color_right", "shape_right", "pattern_right", "hundreds_right"),
    ),
    ("language.jsonl", "stage 2: attention on its target (loss)", ("to_object", "to_crop", "to_name", "to_option")),
    (
        "language.jsonl",
        "stage 2: held-out scenes",
        ("hit", "right_labels", "right_free_form", "right_choice", "dead"),
    ),
    ("language.jsonl", "stage 2: wrong axes of boxes", ("wrong_axes", "fewer_digits", "more_digits")),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder of the cold start's logs")
    parser.add_argument("target", type=Path, help="the image to write")
    args = parser.parse_args()
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(PANELS), figsize=(17, 3.6), layout="constrained")
    for axis, (name, title, metrics) in zip(axes, PANELS, strict=True):
        rows = [json.loads(line) for line in (args.folder / name).read_text().splitlines()]
        for key in metrics:
            points = [(row["step"], row[key]) for row in rows if key in row]
            axis.plot(*zip(*points, strict=True), label=key, marker="o" if len(points) < 15 else None)
        axis.set(title=title, xlabel="step", ylim=(0, None if "loss" in title else 1.02))
        axis.legend(frameon=False, fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(args.target, dpi=110)


if __name__ == "__main__":
    main()
