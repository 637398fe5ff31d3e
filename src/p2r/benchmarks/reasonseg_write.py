"""Write samples with one gold box in ReasonSeg's original layout, which `reasonseg.py` reads back: Acc@0.5."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from p2r.benchmarks.files.encoded_image import encode_jpeg
from p2r.errors import DataError, count_nouns
from p2r.files import replace_folder
from p2r.images.load import read_size
from p2r.types import Sample


def write_reasonseg(samples: Iterable[Sample], folder: Path) -> int:
    """Write `N.jpg` and `N.json` for each sample: the question, and its gold box as a polygon of whole pixels.

    The folder appears when it is complete, in place of an older one.

    Returns:
        The number of samples written.

    Raises:
        DataError: a sample has no gold box, several, or one without a whole pixel.
    """
    num_samples = 0
    with replace_folder(folder, resumable=False) as draft:
        for num_samples, sample in enumerate(samples, start=1):
            name = f"{num_samples - 1:06d}"
            (draft / f"{name}.jpg").write_bytes(encode_jpeg(sample.image))
            shape = {
                "label": "target",
                "shape_type": "polygon",
                "image_name": f"{name}.jpg",
                "points": _outline(sample),
            }
            annotation = {"text": [sample.question], "is_sentence": True, "shapes": [shape]}
            (draft / f"{name}.json").write_text(json.dumps(annotation, ensure_ascii=False), encoding="utf-8")
    return num_samples


def _outline(sample: Sample) -> list[list[int]]:
    """The corners of the gold box: of its first and last pixels, since a polygon covers its own outline."""
    if len(sample.gold_boxes) != 1:
        raise DataError(
            f"sample {sample.id!r} has {count_nouns(len(sample.gold_boxes), 'gold box', 'gold boxes')}, and ReasonSeg "
            "has one target for each question",
            hint="write samples with one box, such as needles:families=where",
        )
    left, top, right, bottom = sample.gold_boxes[0].to_pixels(*read_size(sample.image))
    if left >= right or top >= bottom:
        raise DataError(f"the gold box of sample {sample.id!r} has no whole pixel", hint="leave out this sample")
    return [[left, top], [right - 1, top], [right - 1, bottom - 1], [left, bottom - 1]]
