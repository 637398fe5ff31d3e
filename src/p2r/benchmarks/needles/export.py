"""Write needles to disk in the layout of V*'s original release, for tools that read it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from p2r.errors import DataError
from p2r.prompts import question_text
from p2r.types import LETTERS, Sample

VSTAR_TYPES = {"attribute": "direct_attributes", "relation": "relative_position", "pair": "direct_attributes"}


def export_vstar(samples: Iterable[Sample], folder: Path) -> int:
    """Write `<type>/sa_N.jpg` and `sa_N.json` (boxes [x, y, w, h] in pixels, right option first) and
    `test_questions.jsonl`.

    Images are JPEG, as in V*, at quality 95 without color subsampling, which preserves the details.

    Returns:
        The number of samples written.

    Raises:
        DataError: a sample has no options; V* only has choices.
    """
    count = 0
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "test_questions.jsonl").open("w") as questions:
        for count, sample in enumerate(samples, start=1):
            if not sample.options or sample.target is None:
                raise DataError(
                    f"sample {sample.id!r} has no options, which V* needs",
                    hint='export Needles(..., forms=("choice",))',
                )
            kind, name = VSTAR_TYPES[sample.category], f"sa_{count - 1}"
            place = folder / kind
            place.mkdir(exist_ok=True)
            image = sample.image.load()
            image.save(place / f"{name}.jpg", quality=95, subsampling=0)
            right = LETTERS.index(sample.target)
            corners = [box.to_pixels(*image.size) for box in sample.gold_boxes]
            annotation = {
                "target_object": [box.label for box in sample.gold_boxes],
                "bbox": [[x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in corners],
                "question": sample.question,
                "options": [sample.options[right], *sample.options[:right], *sample.options[right + 1 :]],
            }
            (place / f"{name}.json").write_text(json.dumps(annotation))
            row = {
                "image": f"{kind}/{name}.jpg",
                "text": question_text(sample),
                "category": kind,
                "label": sample.target,
                "question_id": str(count - 1),
            }
            questions.write(json.dumps(row) + "\n")
    return count
