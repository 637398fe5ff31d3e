"""Read a perceiver's reply as boxes per mille of the image, by rules that can be chosen.

Paper: section 3.1 and the prompt of appendix B.1 give the format, `[{"bbox_2d": [x1, y1, x2, y2], "label": ...}]`;
how a broken reply is read is ours. RELEASE keeps exactly what the authors' release keeps of every well-formed reply;
where the release crashes (`bbox_2d: null`) or keeps a number that is not finite, there is no box and a reason.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from p2r.boxes.reply import Corners, Fault, read_reply
from p2r.errors import ConfigError
from p2r.types import Box, BoxParse, Frame


@dataclass(frozen=True, slots=True)
class ParseRules:
    """Rules that say how strictly a reply is read.

    repair, salvage: allow the second and the third step of reading a broken reply.
    clip: clip boxes to the image; a box outside it is unusable.
    dedupe: keep only the first of boxes with equal corners.
    cap: most boxes that are kept; None for no limit.
    literal: read the reply literally, as the release does; see `reply.read_reply`.
    """

    repair: bool = True
    salvage: bool = True
    clip: bool = True
    dedupe: bool = True
    cap: int | None = 64
    literal: bool = False


ROBUST = ParseRules()
RELEASE = ParseRules(repair=False, clip=False, dedupe=False, cap=None, literal=True)


def parse_boxes(
    text: str, *, rules: ParseRules = ROBUST, frame: Frame = "per_mille", image_wh: tuple[int, int] | None = None
) -> tuple[tuple[Box, ...], BoxParse]:
    """Read the boxes in a reply, and how they were read. No text makes it fail.

    Args:
        text: the reply.
        frame: the frame of the reply's numbers: 0-1000, pixels, or 0-1.
        image_wh: (width, height) in pixels of the *resized* image the model saw; needed for frame "absolute".

    Returns:
        Boxes per mille of the image, in reading order, and the record. An empty list is step "strict" without boxes.

    Raises:
        ConfigError: frame "absolute" without image_wh.

    Source:
        RELEASE: evaluation/p2r_utils.py of the authors' release, after its observed inputs and outputs.
    """
    per_x, per_y = _units_per_side(frame, image_wh)
    step, entries, reason = read_reply(text, repair=rules.repair, salvage=rules.salvage, literal=rules.literal)
    boxes: list[Box] = []
    seen: set[Corners] = set()
    faults: list[str] = []
    num_clipped = num_duplicates = num_over_cap = 0
    for entry in entries:
        placed = _place(entry.corners, per_x, per_y)
        corners = _clip(placed) if rules.clip else placed
        if isinstance(corners, str):
            faults.append(corners)
        elif rules.dedupe and corners in seen:
            num_duplicates += 1
        elif rules.cap is not None and len(boxes) >= rules.cap:
            num_over_cap += 1
        else:
            seen.add(corners)
            num_clipped += corners != placed
            x1, y1, x2, y2 = corners
            boxes.append(Box(x1=x1, y1=y1, x2=x2, y2=y2, label=entry.label))
    if faults and not boxes:
        which = (
            "the only box is not usable; it"
            if len(faults) == 1
            else f"none of {len(faults)} boxes is usable; the first"
        )
        reason = f"{which} {faults[0]}"
    return tuple(boxes), BoxParse(
        step=step,
        reason=reason,
        num_invalid=len(faults),
        num_clipped=num_clipped,
        num_duplicates=num_duplicates,
        num_over_cap=num_over_cap,
    )


def _units_per_side(frame: Frame, image_wh: tuple[int, int] | None) -> tuple[float, float]:
    """Return the image's width and height in units of the frame."""
    if frame == "per_mille":
        return 1000.0, 1000.0
    if frame == "unit":
        return 1.0, 1.0
    if image_wh is None or min(image_wh) < 1:
        raise ConfigError(
            f"boxes in pixels cannot be placed on an image of size {image_wh}",
            hint="pass image_wh, the width and height of the resized image the model saw",
        )
    return float(image_wh[0]), float(image_wh[1])


def _place(corners: Corners | Fault, units_x: float, units_y: float) -> Corners | Fault:
    """Convert corners to per mille of the image. A fault is returned as it is."""
    if isinstance(corners, str):
        return corners
    x1, y1, x2, y2 = corners
    if units_x != 1000 or units_y != 1000:
        x1, y1, x2, y2 = x1 / units_x * 1000, y1 / units_y * 1000, x2 / units_x * 1000, y2 / units_y * 1000
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        return f"is too large: {list(corners)}"
    if not (x1 < x2 and y1 < y2):
        return f"is empty or reversed: {list(corners)}"
    return x1, y1, x2, y2


def _clip(corners: Corners | Fault) -> Corners | Fault:
    if isinstance(corners, str):
        return corners
    x1, y1, x2, y2 = (min(max(value, 0.0), 1000.0) for value in corners)
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else f"lies outside the image: {list(corners)}"
