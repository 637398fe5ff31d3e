"""One question as a card: what was asked, what there was to see, and every reply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from p2r.evaluation.scoring import ScoredRow
from p2r.report.kit.looks import Looks
from p2r.types import LETTERS, Answer, Trace


@dataclass(frozen=True, slots=True)
class OptionView:
    letter: str
    text: str
    is_target: bool


@dataclass(frozen=True, slots=True)
class ReplyView:
    """A reply cut in three, so that the part the answer was read from can be marked. `run`: its run's place."""

    name: str
    run: int
    is_primary: bool
    verdict: str
    answer: str
    before: str
    span: str
    after: str
    problem: str


@dataclass(frozen=True, slots=True)
class Card:
    """Everything the page shows of one question. Without `looks`, `problem` says why.

    flags: the filters it falls under, each as the place of a run, ":" and what happened there.
    """

    number: int
    sample_id: str
    benchmark: str
    category: str
    question: str
    options: tuple[OptionView, ...]
    target: str
    flags: tuple[str, ...]
    replies: tuple[ReplyView, ...]
    looks: Looks | None
    problem: str


def view_options(trace: Trace) -> tuple[OptionView, ...]:
    return tuple(
        OptionView(letter, text, letter == (trace.target or "").upper())
        for letter, text in zip(LETTERS, trace.options, strict=False)
    )


def view_reply(
    name: str, row: ScoredRow, run: int = 0, *, is_primary: bool, most_chars: int | None = None
) -> ReplyView:
    """A reply as the robust scorer reads it.

    Args:
        most_chars: of a longer reply the middle is left out, and that is said.
    """
    trace = row.trace
    text = trace.reasoning.text if trace.reasoning else ""
    answer = row.answers.get("robust") or trace.answer
    start, end = answer.span if answer and answer.span else (len(text), len(text))
    most = most_chars or len(text)
    return ReplyView(
        name=name,
        run=run,
        is_primary=is_primary,
        verdict=_judge(row),
        answer=answer_text(answer, trace.options),
        before=shorten(text[:start], most),
        span=shorten(text[start:end], most),
        after=shorten(text[end:], most),
        problem=trace.failure.message if trace.failure else "",
    )


def answer_text(answer: Answer | None, options: Sequence[str]) -> str:
    """An answer for people: a choice with its letter and its text."""
    if answer is None or (answer.text is None and answer.letter is None):
        return "no answer"
    if answer.letter is not None and answer.letter in LETTERS[: len(options)]:
        return f"{answer.letter}. {options[LETTERS.index(answer.letter)]}"
    return answer.text or answer.letter or "no answer"


def _judge(row: ScoredRow) -> str:
    verdict = row.verdicts.get("robust") or row.trace.verdict
    if row.trace.failure is not None:
        return "failed"
    if verdict is None:
        return "unjudged"
    return "right" if verdict.correct else "wrong"


def shorten(text: str, most_chars: int) -> str:
    """The beginning and the end of a text that is too long."""
    if len(text) <= most_chars:
        return text
    part = most_chars // 2
    left_out = len(text) - 2 * part
    return f"{text[:part]} [... {left_out:,} characters left out ...] {text[len(text) - part :]}"
