"""Box replies as a careful person reads them: rows from reviews, and sets that were written before they were tried.

`boxes` is null or [] where a person reads none. With `taste`, a person reads boxes that a reader may leave out with a
reason. `other` names the frame in which the numbers are written, where it is not the one in which they are read.
`misread` is what the reader makes of a reply that it cannot understand.
"""

from __future__ import annotations

from typing import Any

import pytest

from p2r.boxes import parse_boxes
from p2r.types import BoxParse
from tests.golden.rows import read_rows

HELD_OUT = [row for part in ("", "_2", "_3") for row in read_rows(f"cases/boxes_held_out{part}")]
GIVEN = read_rows("cases/boxes_given")
A_TASTE = "one box in some spelling"
Y_FIRST = "gemini yxyx"


def read(row: dict[str, Any]) -> tuple[list[list[float]], list[str], BoxParse]:
    size = row.get("image_wh")
    boxes, parse = parse_boxes(
        row["reply"], frame=row.get("frame", "per_mille"), image_wh=tuple(size) if size else None
    )
    return [list(box.xyxy) for box in boxes], [box.label for box in boxes], parse


@pytest.mark.parametrize("row", HELD_OUT, ids=lambda row: row["kind"])
def test_reply_is_read_as_a_careful_person_reads_it(row: dict[str, Any]) -> None:
    boxes, labels, parse = read(row)
    expected = row.get("misread", row["boxes"] or [])
    assert boxes == expected or (row.get("taste") and boxes == expected[: len(boxes)])
    assert labels == row.get("labels", labels)[: len(boxes)]
    assert boxes or parse.reason
    assert (parse.num_other_frame > 0) == ("other" in row)
    assert parse.other_frame == row.get("other")


@pytest.mark.parametrize("row", GIVEN, ids=lambda row: row["reply"][:30])
def test_given_reply_is_read_or_left_out_with_a_reason(row: dict[str, Any]) -> None:
    boxes, _, parse = read(row)
    expected = row["boxes"] or []
    if Y_FIRST in row["reply"]:  # `box_2d` is read with x first, as the prompt asks; see docs/deviations.md
        assert boxes == [[200, 100, 400, 300]]
    elif (row["note"] or "").startswith(A_TASTE):
        assert boxes[:1] == expected[:1] or (not boxes and parse.reason)
    else:
        assert boxes == expected
    assert boxes or parse.reason
