"""One question as a card: the picture as the model saw it, its boxes, its crops, and every reply."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from p2r.errors import P2RError
from p2r.evidence import BOX_COLOURS, gather
from p2r.pixels import Picture, fit
from p2r.report.pictures import Embedded, embed
from p2r.types import LETTERS, Answer, Box, Budget, ImageSource, Sample, Trace

PICTURE_SIDE_PX = 720
CROP_SIDE_PX = 480
SEEN_QUALITY = 92


@dataclass(frozen=True, slots=True)
class OptionView:
    letter: str
    text: str
    is_target: bool


@dataclass(frozen=True, slots=True)
class BoxView:
    """A box on a picture, in per cent of its width and height."""

    left: float
    top: float
    width: float
    height: float
    label: str
    colour: str
    is_gold: bool


@dataclass(frozen=True, slots=True)
class CropView:
    """The same part of the picture in one look and in the second: cut from the sized picture, and at full resolution.

    before: None when the budget is not known.
    width, height: of that part, in pixels of the full picture.
    """

    before: Embedded | None
    after: Embedded
    width: int
    height: int
    colour: str
    label: str


@dataclass(frozen=True, slots=True)
class Looks:
    """What there was to see. Pictures up to 480 pixels a side have the size the model saw.

    seen: the whole picture at the budget; None when that is not known.
    """

    seen: Embedded | None
    full: Embedded
    boxes: tuple[BoxView, ...]
    has_gold: bool
    boxes_text: str
    crops: tuple[CropView, ...]
    crops_text: str


@dataclass(frozen=True, slots=True)
class ReplyView:
    """A reply cut in three, so that the part the answer was read from can be marked."""

    name: str
    is_primary: bool
    verdict: str
    answer: str
    before: str
    span: str
    after: str
    problem: str


@dataclass(frozen=True, slots=True)
class Card:
    """Everything the page shows of one question. Without `looks`, `problem` says why."""

    number: int
    sample_id: str
    category: str
    question: str
    options: tuple[OptionView, ...]
    target: str
    flags: tuple[str, ...]
    replies: tuple[ReplyView, ...]
    looks: Looks | None
    problem: str


def build_card(
    number: int,
    sample: Sample,
    replies: Sequence[tuple[str, Trace]],
    primary: str,
    budget: Budget,
    flags: tuple[str, ...],
) -> Card:
    """Load the picture, look again where the run called `primary` looked, and embed what there was to see."""
    looks, problem = None, ""
    try:
        looks = view_looks(sample.image, dict(replies)[primary].boxes, sample.gold_boxes, budget)
    except P2RError as error:
        problem = error.message
    return Card(
        number=number,
        sample_id=sample.id,
        category=sample.category,
        question=sample.question,
        options=tuple(
            OptionView(letter, text, letter == sample.target)
            for letter, text in zip(LETTERS, sample.options, strict=False)
        ),
        target=sample.target or "",
        flags=flags,
        replies=tuple(view_reply(name, trace, is_primary=name == primary) for name, trace in replies),
        looks=looks,
        problem=problem,
    )


def view_looks(source: ImageSource, boxes: Sequence[Box], gold: Sequence[Box], budget: Budget | None) -> Looks:
    """The picture at the budget, with its boxes, and its crops. Raises ImageError when the picture cannot be loaded."""
    picture = Picture(source.load())
    evidence = gather(picture, boxes)
    seen = picture.fitted(budget) if budget else None
    record = evidence.record
    cropped = [index for index in range(len(boxes)) if index not in record.skipped][: len(record.crops)]
    return Looks(
        seen=_embed_seen(seen, PICTURE_SIDE_PX) if seen else None,
        full=embed(picture.image, max_side_px=PICTURE_SIDE_PX),
        boxes=(
            *(_view_box(box, "", is_gold=True) for box in gold),
            *(_view_box(box, colour_of(index), is_gold=False) for index, box in enumerate(boxes)),
        ),
        has_gold=bool(gold),
        boxes_text=_count(len(boxes), "box", "boxes"),
        crops=tuple(
            CropView(
                before=_embed_seen(_cut_sized(seen, rect, picture.size), CROP_SIDE_PX) if seen else None,
                after=_embed_seen(fit(crop, budget) if budget else crop, CROP_SIDE_PX),
                width=crop.width,
                height=crop.height,
                colour=colour_of(index),
                label=boxes[index].label,
            )
            for index, crop, rect in zip(cropped, evidence.crops, record.crops, strict=True)
        ),
        crops_text=", ".join(f"{crop.width} × {crop.height}" for crop in evidence.crops),
    )


def view_reply(name: str, trace: Trace, *, is_primary: bool) -> ReplyView:
    text = trace.reasoning.text if trace.reasoning else ""
    start, end = trace.answer.span if trace.answer and trace.answer.span else (len(text), len(text))
    return ReplyView(
        name=name,
        is_primary=is_primary,
        verdict=_verdict(trace),
        answer=answer_text(trace.answer, trace.options),
        before=text[:start],
        span=text[start:end],
        after=text[end:],
        problem=trace.failure.message if trace.failure else "",
    )


def answer_text(answer: Answer | None, options: Sequence[str]) -> str:
    """An answer for people: a choice with its letter and its text."""
    if answer is None or (answer.text is None and answer.letter is None):
        return "no answer"
    if answer.letter is not None and answer.letter in LETTERS[: len(options)]:
        return f"{answer.letter}. {options[LETTERS.index(answer.letter)]}"
    return answer.text or answer.letter or "no answer"


def colour_of(index: int) -> str:
    """The colour the box with this index is drawn in for the model."""
    return BOX_COLOURS[index % len(BOX_COLOURS)]


def _verdict(trace: Trace) -> str:
    if trace.failure is not None:
        return "failed"
    if trace.verdict is None:
        return "unjudged"
    return "right" if trace.verdict.correct else "wrong"


def _view_box(box: Box, colour: str, *, is_gold: bool) -> BoxView:
    left, top, right, bottom = (round(min(max(value / 10, 0), 100), 2) for value in box.xyxy)
    return BoxView(left, top, round(right - left, 2), round(bottom - top, 2), box.label, colour, is_gold)


def _cut_sized(sized: Image.Image, rect: tuple[int, int, int, int], full_wh: tuple[int, int]) -> Image.Image:
    """The part of the sized picture that shows what `rect` covers in the full one; at least one pixel."""
    scale_x, scale_y = sized.width / full_wh[0], sized.height / full_wh[1]
    left, top = math.floor(rect[0] * scale_x), math.floor(rect[1] * scale_y)
    right, bottom = math.ceil(rect[2] * scale_x), math.ceil(rect[3] * scale_y)
    return sized.crop((left, top, max(right, left + 1), max(bottom, top + 1)))


def _embed_seen(image: Image.Image, max_side_px: int) -> Embedded:
    return embed(image, max_side_px=max_side_px, quality=SEEN_QUALITY)


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
