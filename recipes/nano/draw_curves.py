"""Draw the curves of a cold start: python recipes/nano/draw_curves.py runs/nano curves.png (needs matplotlib)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt

PANELS = (
    (
        "vision.jsonl",
        "stage 1: read off one visual token",
        ("color_right", "shape_right", "pattern_right", "hundreds_right"),
    ),
    ("language.jsonl", "stage 2: attention on its target (loss)", ("to_object", "to_crop", "to_name", "to_option")),
    ("language.jsonl", "stage 2: held-out scenes", ("hit", "right_free_form", "right_choice")),
)


def main() -> None:
    folder, target = Path(sys.argv[1]), Path(sys.argv[2])
    figure, axes = plt.subplots(1, len(PANELS), figsize=(13, 3.6), layout="constrained")
    for axis, (name, title, figures) in zip(axes, PANELS, strict=True):
        rows = [json.loads(line) for line in (folder / name).read_text().splitlines()]
        for key in figures:
            points = [(row["step"], row[key]) for row in rows if key in row]
            axis.plot(*zip(*points, strict=True), label=key, marker="o" if len(points) < 15 else None)
        axis.set(title=title, xlabel="step", ylim=(0, None if "loss" in title else 1.02))
        axis.legend(frameon=False, fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(target, dpi=110)


if __name__ == "__main__":
    main()
