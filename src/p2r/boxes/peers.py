"""The first box of a reply as the scripts of VLM-R1 and Visual-RFT read it, and the IoU by which they score it.

Sources: om-ai-lab/VLM-R1, src/eval/test_rec_r1.py and test_od_r1.py; Liuziyu77/Visual-RFT,
lisa_evaluation/Qwen2_VL_lisa_infere.py. Slips included: numbers with a sign or a point are not read, and VLM-R1 takes
the last list in the braces. Numbers of more than nine digits, which no image has, are not read here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from pydantic import JsonValue

from p2r.boxes.values import Corners, to_number
from p2r.types import Box

_LIST = re.compile(r"\[(\d{1,9}),\s*(\d{1,9}),\s*(\d{1,9}),\s*(\d{1,9})\]")
_POINT = r"\(\s*(\d{1,9})\s*,\s*(\d{1,9})\s*\)"
_POINTS = re.compile(rf"{_POINT}\s*,\s*{_POINT}")
_CODE_BLOCK = re.compile(r"```json(.*?)```", re.DOTALL)
_ADDED_UNION = 1e-6
"""The share of the image that Visual-RFT adds to the union."""


def read_vlm_r1(reply: str) -> Corners | None:
    """Read the first closed answer tag: the last list of four whole numbers between its first and last brace."""
    _, _, rest = reply.partition("<answer>")
    answer, is_closed, _ = rest.partition("</answer>")
    _, _, inside = answer.rpartition("}")[0].partition("{")
    found = _LIST.findall(inside) if is_closed else []
    return _to_corners(found[-1]) if found else None


def read_vlm_r1_od(reply: str) -> Corners | None:
    """Read the first code block marked as JSON: the numbers in `bbox_2d` of the first object of its list."""
    block = _CODE_BLOCK.search(reply)
    try:
        items: JsonValue = json.loads(block[1].strip()) if block else None
    except (ValueError, RecursionError):
        return None
    match items:
        case [{"bbox_2d": [*numbers]}, *_] if len(numbers) == 4 and not any(isinstance(n, str) for n in numbers):
            return _to_corners(numbers)
        case _:
            return None


def read_visual_rft(reply: str) -> Corners | None:
    """Read the first two points in whole numbers with a comma between them, wherever they stand."""
    match = _POINTS.search(reply)
    return _to_corners(match.groups()) if match else None


def vlm_r1_iou(box: Corners, gold: Corners) -> float:
    """Return the IoU of two boxes in pixels, 0 to 1; 0 where they share at most one pixel in width or in height."""
    shared_wh = min(box[2], gold[2]) - max(box[0], gold[0]), min(box[3], gold[3]) - max(box[1], gold[1])
    if min(shared_wh) <= 1:
        return 0.0
    shared = shared_wh[0] * shared_wh[1]
    area, gold_area = ((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (box, gold))
    return shared / (area + gold_area - shared)


def visual_rft_iou(box: Box, gold: Box) -> float:
    """Return the IoU of two boxes, 0 to 1, a little low for small ones: something is added to their union."""
    width = max(0.0, min(box.x2, gold.x2) - max(box.x1, gold.x1)) / 1000
    height = max(0.0, min(box.y2, gold.y2) - max(box.y1, gold.y1)) / 1000
    return width * height / (box.area + gold.area - width * height + _ADDED_UNION)


def _to_corners(numbers: Sequence[object]) -> Corners | None:
    x1, y1, x2, y2 = map(to_number, numbers)
    return None if x1 is None or y1 is None or x2 is None or y2 is None else (x1, y1, x2, y2)
