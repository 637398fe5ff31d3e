"""Read a perceiver's reply as boxes per mille of the image, by rules that can be chosen.

Paper: section 3.1 and the prompt of appendix B.1 give the format, `[{"bbox_2d": [x1, y1, x2, y2], "label": ...}]`;
how a broken reply is read is ours. RELEASE keeps exactly what the authors' release keeps of every well-formed reply;
where the release crashes (`bbox_2d: null`) or keeps a number that is not finite, there is no box and a reason.

A box that does not fit its frame is left out and counted, because the frame may be wrong: its numbers are all at most 1
where 1000 or pixels are meant, or they reach further beyond the image than a slip does.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from p2r.boxes.reply import REVISED, Entry, read_reply
from p2r.boxes.values import Corners, Fault
from p2r.errors import ConfigError
from p2r.types import Box, BoxParse, Frame

SLIP = 0.02
"""A box may reach this share of the image's side beyond the edge and is still meant to end there."""
MOST_FAULTS = 8
"""A record lists at most this many faults."""
FRAMES: Mapping[str, str] = {
    "per_mille": "numbers from 0 to 1000",
    "pixels": "pixels of the image",
    "unit": "numbers from 0 to 1",
    "file_pixels": "pixels of the file",
}
"""The frames in words."""


@dataclass(frozen=True, slots=True)
class ParseRules:
    """Rules that say how strictly a reply is read.

    repair, salvage: allow the second and the third step of reading a broken reply.
    clip: clip boxes to the image; a box outside it, or of another frame, is unusable.
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

_Kind: TypeAlias = Literal["invalid", "other_frame", "revised", "duplicate", "over_cap"]


@dataclass(slots=True)
class _Sorted:
    """Boxes that are kept, and why others are not."""

    kept: list[Box] = field(default_factory=list[Box])
    left_out: list[tuple[_Kind, Fault]] = field(default_factory=list[tuple[_Kind, Fault]])
    frames: list[Frame | None] = field(default_factory=list["Frame | None"])
    num_clipped: int = 0


def parse_boxes(
    text: str, *, rules: ParseRules = ROBUST, frame: Frame = "per_mille", image_wh: tuple[int, int] | None = None
) -> tuple[tuple[Box, ...], BoxParse]:
    """Read the boxes in a reply, and how they were read. No text makes it fail.

    Args:
        text: the reply.
        frame: the frame of the reply's numbers: 0-1000, pixels, or 0-1.
        image_wh: (width, height) in pixels of the *resized* image the model saw, needed for frame "pixels"; of the file
            for "file_pixels".

    Returns:
        Boxes per mille of the image, in reading order, and the record. An empty list is step "strict" without boxes.

    Raises:
        ConfigError: frame "pixels" or "file_pixels" without image_wh.

    Source:
        RELEASE: evaluation/p2r_utils.py of the authors' release, after its observed inputs and outputs.
    """
    sides = _units_per_side(frame, image_wh)
    step, entries, reason = read_reply(text, repair=rules.repair, salvage=rules.salvage, literal=rules.literal)
    found = _sort(entries, rules, frame, sides)
    num = Counter(kind for kind, _ in found.left_out)
    faults = [fault for kind, fault in found.left_out if kind in ("invalid", "other_frame")]
    if faults and not found.kept:
        which = (
            "the only box is not usable; it"
            if len(faults) == 1
            else f"none of {len(faults)} boxes is usable; the first"
        )
        reason = f"{which} {faults[0]}"
    return tuple(found.kept), BoxParse(
        step=step,
        reason=reason,
        num_invalid=num["invalid"],
        num_clipped=found.num_clipped,
        num_duplicates=num["duplicate"],
        num_over_cap=num["over_cap"],
        num_other_frame=num["other_frame"],
        num_revised=num["revised"],
        other_frame=found.frames[0] if len(set(found.frames)) == 1 else None,
        faults=tuple(fault for _, fault in found.left_out[:MOST_FAULTS]),
    )


def _sort(entries: list[Entry], rules: ParseRules, frame: Frame, sides: tuple[float, float]) -> _Sorted:
    """Place each entry on the image, or say why it is left out."""
    found = _Sorted()
    seen: set[Corners] = set()
    for entry in entries:
        written = entry.corners
        placed = _place(written, *sides)
        corners = _clip(placed) if rules.clip else placed
        if isinstance(written, str) or isinstance(placed, str):
            found.left_out.append(("revised" if written == REVISED else "invalid", str(placed)))
        elif rules.clip and not _fits(written, frame, sides):
            found.frames.append(_guess_frame(written, frame))
            found.left_out.append(("other_frame", f"is not written in {FRAMES[frame]}: {list(written)}"))
        elif isinstance(corners, str):
            found.left_out.append(("invalid", corners))
        elif rules.dedupe and corners in seen:
            found.left_out.append(("duplicate", f"is equal to an earlier one: {list(written)}"))
        elif rules.cap is not None and len(found.kept) >= rules.cap:
            found.left_out.append(("over_cap", f"comes after the {rules.cap} that are kept"))
        else:
            seen.add(corners)
            found.num_clipped += corners != placed
            x1, y1, x2, y2 = corners
            found.kept.append(Box(x1=x1, y1=y1, x2=x2, y2=y2, label=entry.label))
    return found


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


def _fits(corners: Corners, frame: Frame, sides: tuple[float, float]) -> bool:
    """Tell whether corners, in the reply's own numbers, can be meant in this frame.

    Numbers that are all at most 1 are meant where 1 is the whole side: elsewhere they span a single pixel or less.
    """
    x1, y1, x2, y2 = corners
    if frame != "unit" and max(corners) <= 1 + SLIP:
        return False
    return max(x1, x2) <= sides[0] * (1 + SLIP) and max(y1, y2) <= sides[1] * (1 + SLIP)


def _guess_frame(corners: Corners, frame: Frame) -> Frame | None:
    """Return the frame in which corners that do not fit `frame` seem to be written; None when that cannot be told."""
    most = max(corners)
    if most <= 1 + SLIP:
        return "unit"
    if frame == "per_mille":
        return "pixels"
    if most <= 1000 * (1 + SLIP):
        return "per_mille"
    return "pixels" if frame == "unit" else None


def _clip(corners: Corners | Fault) -> Corners | Fault:
    if isinstance(corners, str):
        return corners
    if min(corners) < -1000 * SLIP:
        return f"reaches beyond the image: {list(corners)}"
    x1, y1, x2, y2 = (min(max(value, 0.0), 1000.0) for value in corners)
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else f"lies outside the image: {list(corners)}"
