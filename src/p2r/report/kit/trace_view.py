"""What a trace says, worked out once for every place that shows it: a terminal, a page, a notebook."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from p2r.errors import count_nouns
from p2r.evidence import box_color
from p2r.types import LETTERS, Answer, Box, Completion, EvidenceRecord, Trace, Verdict

_ARTICLES = frozenset({"a", "an", "the"})


@dataclass(frozen=True, slots=True)
class TracedBox:
    """A box of a trace, as it was drawn and cut out.

    corners_px: left, top, right, bottom in pixels of the full image; None when the size of that is not known.
    color: in which the model saw it drawn.
    crop: the number of the crop that it became, from 1; None when it became none.
    """

    box: Box
    corners_px: tuple[int, int, int, int] | None
    color: str
    crop: int | None


@dataclass(frozen=True, slots=True)
class ReplyView:
    """A reply in three parts, so that the one the answer was read from can be marked.

    name: of the run that it belongs to.
    is_primary: that run is the one whose boxes are shown.
    verdict: "right", "wrong", "failed" or "unjudged".
    problem: why the question failed; "" when it did not.
    """

    verdict: str
    answer: str
    before: str
    span: str
    after: str
    problem: str
    name: str = ""
    is_primary: bool = False


@dataclass(frozen=True, slots=True)
class OptionView:
    """An option of a question. `is_target`: it is the right answer."""

    letter: str
    text: str
    is_target: bool


@dataclass(frozen=True, slots=True)
class TraceView:
    """A trace in words.

    where: what was looked at, in place of boxes; "" when there are boxes.
    cost: tokens and seconds.
    is_cut_off: the reply ended at the limit of tokens.
    """

    question: str
    reply: ReplyView
    boxes: tuple[TracedBox, ...]
    where: str
    cost: str
    is_cut_off: bool


def view_trace(trace: Trace) -> TraceView:
    """A trace with the answer and the verdict that it holds itself."""
    return TraceView(
        question=trace.question,
        reply=view_reply(trace),
        boxes=view_boxes(trace.boxes, trace.evidence),
        where="" if trace.boxes else _explain_no_boxes(trace),
        cost=_describe_cost(trace),
        is_cut_off=trace.reasoning is not None and trace.reasoning.finish_reason == "length",
    )


def view_boxes(boxes: Sequence[Box], record: EvidenceRecord | None) -> tuple[TracedBox, ...]:
    """Boxes with their colors, and with the crops that the record says they became."""
    num_planned = len(record.crops) + len(record.skipped) if record else 0
    cropped = [index for index in range(num_planned) if record and index not in record.skipped]
    return tuple(
        TracedBox(
            box=box,
            corners_px=box.to_pixels(*record.image_wh) if record else None,
            color=box_color(index),
            crop=cropped.index(index) + 1 if index in cropped else None,
        )
        for index, box in enumerate(boxes)
    )


def view_options(trace: Trace) -> tuple[OptionView, ...]:
    """The options of a question with their letters; () for an open question."""
    return tuple(
        OptionView(letter, text, letter == (trace.target or "").upper())
        for letter, text in zip(LETTERS, trace.options, strict=False)
    )


def view_reply(
    trace: Trace,
    answer: Answer | None = None,
    verdict: Verdict | None = None,
    *,
    name: str = "",
    is_primary: bool = False,
    max_chars: int | None = None,
) -> ReplyView:
    """A trace's reply, with the answer that was read from it.

    Args:
        answer, verdict: another reading of the reply, and its verdict; None for the trace's own.
        max_chars: of each of the three parts; longer ones lose their middle. None for whole parts.
    """
    text = trace.reasoning.text if trace.reasoning else ""
    answer, verdict = answer or trace.answer, verdict or trace.verdict
    start, end = answer.span if answer and answer.span else (len(text), len(text))
    before, span, after = (leave_out_middle(part, max_chars) for part in (text[:start], text[start:end], text[end:]))
    return ReplyView(
        verdict=_name_verdict(trace, verdict),
        answer=answer.describe(trace.options) if answer else "no answer",
        before=before,
        span=span,
        after=after,
        problem=trace.failure.message if trace.failure else "",
        name=name,
        is_primary=is_primary,
    )


def find_strange_labels(trace: Trace) -> list[str]:
    """The labels of boxes that the question does not name: some word of theirs is in neither question nor options."""
    asked = " ".join((trace.question, *trace.options)).casefold()
    known = _list_words(asked)
    labels = dict.fromkeys(box.label.strip() for box in trace.boxes)
    return [label for label in labels if label.casefold() not in asked and not _list_words(label) <= known]


def leave_out_middle(text: str, max_chars: int | None) -> str:
    """The text, or its beginning and its end when it is longer than `max_chars`."""
    if max_chars is None or len(text) <= max_chars:
        return text
    part = max_chars // 2
    return f"{text[:part]} [... {len(text) - 2 * part:,} characters left out ...] {text[len(text) - part :]}"


def _list_words(text: str) -> set[str]:
    """The words of a text in one spelling, without articles and without an s at their end."""
    return {word.removesuffix("s") for word in re.findall(r"\w+", text.casefold()) if word not in _ARTICLES}


def _name_verdict(trace: Trace, verdict: Verdict | None) -> str:
    if trace.failure is not None:
        return "failed"
    if verdict is None:
        return "unjudged"
    return "right" if verdict.correct else "wrong"


def _explain_no_boxes(trace: Trace) -> str:
    if trace.evidence is None or trace.perception is None or trace.perception.source == "none":
        return "the whole image, once"
    reason = trace.perception.parse.reason if trace.perception.parse else ""
    return f"the whole image: no boxes{f' ({reason})' if reason else ''}"


def _describe_cost(trace: Trace) -> str:
    """Tokens and seconds, e.g. "177 visual tokens (64 | 64 + 49), 41 generated, 0.52 s"; a bar divides the calls."""
    last = (trace.perception.completion if trace.perception else None, trace.reasoning)
    calls: list[Completion] = [call for completion in last if completion is not None for call in completion.calls]
    by_call = " | ".join(" + ".join(f"{tokens:,}" for tokens in call.usage.visual_tokens) for call in calls)
    total = sum(sum(call.usage.visual_tokens) for call in calls)
    parts = [f"{count_nouns(total, 'visual token')} ({by_call})"]
    generated = [call.usage.generated_tokens for call in calls if call.usage.generated_tokens is not None]
    if generated:
        parts.append(f"{sum(generated):,} generated")
    return ", ".join([*parts, f"{trace.seconds:.2f} s"])
