"""Why an answer is wrong: format, spelling, place or reading, exactly one for each wrong answer.

So a gain of accuracy is the sum of what each of them lost, and a model that has learned to look is told from one that
has learned to write numbers. Numbers are compared as they are written, per mille of the image: dropping a digit moves a
box far, and says nothing about what the model sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from p2r.boxes import target_inside_crop
from p2r.boxes.reply import Corners, read_reply
from p2r.evaluation.scoring import ScoredRow, ScoredRun
from p2r.modes import LOOKING
from p2r.types import Trace

Miss = Literal["format", "spelling", "place", "reading"]
MISSES: tuple[Miss, ...] = get_args(Miss)
MAX_OFF = 90
"""Per mille by which a center may be off along an axis before its numbers are compared."""
Digits = Literal["fewer digits", "more digits", "as many digits"]


def find_miss(row: ScoredRow, run: ScoredRun) -> Miss | Literal["right"] | None:
    """Say why a row's answer is wrong; "right" where it is not, None where that cannot be said.

    format: no box, or no answer, can be read. spelling: the crops lack evidence, and a box for it has a number with
    fewer or more digits than the right one. place: the crops lack evidence otherwise. reading: all evidence is in the
    crops, or the mode does not look, and the answer is wrong.
    """
    verdict = row.verdicts.get(run.scorers[0])
    if verdict is None:
        return None
    if verdict.correct:
        return "right"
    if run.settings.mode in LOOKING:
        if not row.facts.gold_boxes or row.trace.perception is None:
            return None
        if not row.trace.boxes:
            return "format"
        if unseen := _list_unseen(row):
            return _explain_unseen(row, unseen, is_per_mille=writes_per_mille(run))
        if row.trace.reasoning is None:  # boxes are the answer
            return "place"
    answer = row.answers.get(run.scorers[0])
    return "format" if answer is None or answer.is_missing else "reading"


def writes_per_mille(run: ScoredRun) -> bool:
    """Tell whether boxes are written in the frame in which their digits can be compared, as far as was stated."""
    return run.settings.frame in (None, "per_mille") and run.settings.family != "qwen2_5_vl"


def _list_unseen(row: ScoredRow) -> list[int]:
    """The places of the gold boxes that are in no crop."""
    record, gold = row.trace.evidence, row.facts.gold_boxes
    if record is None:
        return list(range(len(gold)))
    return [k for k, box in enumerate(gold) if not target_inside_crop(box, record.crops, record.image_wh)]


def _explain_unseen(row: ScoredRow, unseen: Sequence[int], *, is_per_mille: bool) -> Miss:
    """Box k of a reply is compared with gold box k: both are in the order of the question."""
    written = _find_corners(row.trace) if is_per_mille else None
    if written is None:
        return "place"
    pairs = [(written[k], row.facts.gold_boxes[k].xyxy) for k in unseen if k < len(written)]
    if any(isinstance(corners, str) for corners, _ in pairs):
        return "format"
    wrong = [axis for corners, gold in pairs if not isinstance(corners, str) for axis in find_wrong_axes(corners, gold)]
    return "spelling" if any(compare_digits(*axis) != "as many digits" for axis in wrong) else "place"


def _find_corners(trace: Trace) -> list[Corners | str] | None:
    """The boxes as the reply writes them, or what is wrong with them; None where no reply states them."""
    perception = trace.perception
    if perception is None or perception.completion is None or perception.parse is None:
        return None
    return read_corners(perception.completion.text)


def read_corners(reply: str) -> list[Corners | str]:
    """The boxes of a reply as it writes them, in order; for one that is not four numbers, what is wrong with it."""
    _, entries, _ = read_reply(reply, repair=True, salvage=True, literal=False)
    return [entry.corners for entry in entries]


def find_wrong_axes(box: Corners, gold: Corners) -> list[tuple[float, float]]:
    """The first number (x1 or y1), written and gold, of each axis along which the center is off."""
    return [(box[k], gold[k]) for k in (0, 1) if abs(box[k] + box[k + 2] - gold[k] - gold[k + 2]) / 2 > MAX_OFF]


def compare_digits(written: float, gold: float) -> Digits:
    """Compare two numbers by their digits before the point."""
    more = len(str(abs(int(written)))) - len(str(abs(int(gold))))
    return "fewer digits" if more < 0 else "more digits" if more > 0 else "as many digits"
