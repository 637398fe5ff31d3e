"""TreeVGR-7B: one reply on the whole image, with boxes in its thoughts, and no tool.

Source: Haochen-Wang409/TreeVGR at 4823ad8 (Apache-2.0), `inference_treebench.py`. The reply is begun with `<think>`;
without that, or without the system's words, the checkpoint does not write boxes. They are where it looked.

It writes pixels of the image that it is shown, and the authors compare them with targets in pixels of the file, which
differ where the image is shown at another size: ours maps them, `as_released` takes them as they are. Departure: greedy
in place of temperature 0.01 with the likeliest token alone, which is the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from p2r.boxes import read_tagged_boxes
from p2r.dialogue import Decoding
from p2r.roles.dialects.base import Corners, Dialect, View, ask_question
from p2r.roles.dialects.texts import load_texts
from p2r.types import Box

PIXELS = (1280 * 28 * 28, 16384 * 28 * 28)
_TAG = re.compile(r"<box>([^<]*)</box>")
_NUMBER = r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*"
_CORNERS = re.compile(rf"\[{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}\]")


def make_treevgr(*, as_released: bool = False) -> Dialect:
    """Make the dialect; `as_released` with boxes as the authors' evaluation reads them."""
    return Dialect(
        "treevgr",
        ask_question,
        begun="<think>",
        read_looks=read_looks_as_released if as_released else read_looks,
        max_replies=1,
        decoding=Decoding(max_new_tokens=1024),
        budget_pixels=PIXELS,
        texts=load_texts("treevgr"),
        as_released=as_released,
    )


def read_looks(reply: str, whole: View) -> tuple[Box, ...]:
    """Return the boxes of a reply, each once, as pixels of the image that the model saw, and cut to it."""
    width, height = whole.seen.size
    cut = (
        (min(left, width), min(top, height), min(right, width), min(bottom, height))
        for left, top, right, bottom in _find_corners(reply)
    )
    return _make_boxes(list(dict.fromkeys(cut)), whole.seen.size)


def read_looks_as_released(reply: str, whole: View) -> tuple[Box, ...]:
    """Return the boxes of a reply as pixels of the file: whole numbers without blanks, the first of each tag."""
    return _make_boxes(read_tagged_boxes(reply), whole.image.size)


def _find_corners(reply: str) -> Iterator[Corners]:
    """Yield what the tags of a reply hold, several boxes in a tag as well."""
    for tag in _TAG.findall(reply):
        for match in _CORNERS.finditer(tag):
            left, top, right, bottom = map(float, match.groups())
            yield left, top, right, bottom


def _make_boxes(corners: Sequence[Corners], image_wh: tuple[int, int]) -> tuple[Box, ...]:
    """Return the boxes that have an area, of an image of this size."""
    width, height = image_wh
    return tuple(
        Box(x1=left / width * 1000, y1=top / height * 1000, x2=right / width * 1000, y2=bottom / height * 1000)
        for left, top, right, bottom in corners
        if left < right and top < bottom
    )
