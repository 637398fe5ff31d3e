"""What the shipped models can be asked: needles. Anything else is warned of.

They answer every question with a pattern or a side, photos included, so that a wrong answer looks like any other. An
image is told by its shape and a question by its words; neither needs the pixels.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

from p2r.benchmarks.needles.knobs import MAX_SIDE_PX, MIN_SIDE_PX
from p2r.benchmarks.needles.scene import COLORS, PATTERNS, SHAPES
from p2r.dialogue import Model
from p2r.errors import DataError, P2RWarning
from p2r.models.known import REAL_MODEL, is_shipped
from p2r.models.load import loading_of
from p2r.prompts import question_text
from p2r.types import Sample

Doubt = Literal["question", "image"]
"""The thing that a shipped model was not trained on."""

_NAME = rf"(?:{'|'.join(COLORS)}) (?:{'|'.join(SHAPES)})"
_PATTERN = rf"(?:{'|'.join(PATTERNS)})"
_QUESTION = re.compile(
    rf"\s*(?:What pattern is on the {_NAME}|What patterns are on the {_NAME} and the {_NAME}"
    rf"|How many of the {_NAME} and the {_NAME} are {_PATTERN}"
    rf"|Is the {_PATTERN} {_NAME} to the left or right of the {_PATTERN} {_NAME})\s*\?",
    re.IGNORECASE,
)
_CLOSING = "answer with the option's letter from the given choices directly"
_OPTION_WORDS = frozenset({*PATTERNS, "left", "right"})
_OTHER_WORDS = frozenset(f"a b c d e f and or options option choices {_CLOSING}".split())


def warn_of_limits(
    models: Iterable[Model | None], samples: Sequence[Sample], image_wh: tuple[int, int] | None = None
) -> None:
    """Warn with one sentence for each thing that a shipped model among `models` was not trained on.

    Args:
        models: the models that are asked; only shipped ones are warned of.
        image_wh: size in pixels of the image of the only sample, where it is known.
    """
    specs = [loading_of(model).spec for model in models if model is not None]
    name = next(filter(is_shipped, specs), None)
    if name is None:
        return
    doubts = Counter(find_doubt(sample, image_wh) for sample in samples)
    for doubt in ("question", "image"):
        if doubts[doubt]:
            what = f"this {doubt}" if len(samples) == 1 else f"what {doubts[doubt]} of {len(samples)} questions ask"
            warnings.warn(
                f"{name} is a tiny model that knows the images and questions of `p2r demo` alone, and {what} is "
                f"something else, so the answer means nothing; take a real model, such as {REAL_MODEL} "
                "(`p2r models` lists some)",
                P2RWarning,
                stacklevel=2,
            )


def find_doubt(sample: Sample, image_wh: tuple[int, int] | None = None) -> Doubt | None:
    """Return the first thing about a sample that the shipped models were not trained on; None where all is known."""
    try:
        text = question_text(sample)
    except DataError:  # the walk will say so
        return None
    match = _QUESTION.match(text)
    if match is None:
        return "question"
    if image_wh is not None and not (image_wh[0] == image_wh[1] and MIN_SIDE_PX <= image_wh[0] <= MAX_SIDE_PX):
        return "image"
    words = set(re.findall(r"[a-z']+", text[match.end() :].lower()))
    return "question" if words - _OPTION_WORDS - _OTHER_WORDS or (words and not words & _OPTION_WORDS) else None
