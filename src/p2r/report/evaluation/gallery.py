"""The questions of a report with their images, in as much detail as the size of the page allows.

The images share what the texts leave of the page's size. A few questions drawn from the whole are tried first, and all
get the greatest detail at which those fit; an image that needs much more than its share is made smaller by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from p2r.boxes import hits
from p2r.errors import P2RError
from p2r.evaluation.cost import list_calls
from p2r.evaluation.scorecard import find_disagreements
from p2r.evaluation.scoring import ScoredRow
from p2r.modes import LOOKING
from p2r.report.evaluation.sections import Section, shows_crop
from p2r.report.kit.evidence_view import (
    FULL_DETAIL,
    EvidenceView,
    ImageDetail,
    LoadedImage,
    RunTrace,
    load_evidence,
    view_evidence,
)
from p2r.report.kit.trace_view import OptionView, ReplyView, view_options, view_reply

MAX_BYTES = 30_000_000
"""Size of the largest report."""
MAX_CARDS = 2000

CROPPED = "the data's own crop, in place of the image"
Item = TypeVar("Item")

DETAILS = (
    FULL_DETAIL,
    ImageDetail(560, 360, True, 76, 84),
    ImageDetail(480, 300, True, 70, 76),
    ImageDetail(480, 240, False, 66),
    ImageDetail(360, 170, False, 60),
    ImageDetail(270, 120, False, 52),
    ImageDetail(180, 90, False, 45),
)
REPLY_CHARS = (8000, 4000, 2000, 1000, 500)
TEXT_SHARE = 0.5
"""Texts may take this share of the page's size; if they need more, long replies lose their middle."""
CARD_BYTES, REPLY_BYTES, FRAME_BYTES, BOX_BYTES = 1800, 420, 300_000, 150
"""Bytes of a question, a reply, the rest of the page and a box, without their texts."""
NUM_TRIED = 8
LARGEST_SHARE = 2.5
"""An image is made smaller when it takes more than so many times its share."""


@dataclass(frozen=True, slots=True)
class QuestionView:
    """Everything the page shows of one question. Without `evidence`, `problem` says why.

    number: from 1; 0 for one that is not among the questions of the page.
    flags: the filters it falls under, as "RUN:KEY" with the index of a run.
    cost: tokens and seconds; "" where the page shows them in its tables.
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
    evidence: EvidenceView | None
    problem: str
    cost: str = ""


@dataclass(frozen=True, slots=True)
class QuestionRuns:
    """One question of one section, with what each run made of it."""

    section: Section
    sample_id: str
    rows: tuple[ScoredRow | None, ...]
    disagrees: tuple[bool, ...]

    @property
    def shown(self) -> int:
        """Index of the run whose boxes are shown: the section's primary one, else the first that was asked."""
        order = (self.section.primary, *range(len(self.rows)))
        return next(k for k in order if self.rows[k] is not None)

    @property
    def is_cropped(self) -> bool:
        """True where every run saw the data's own crop in place of the image."""
        asked = [run for run, row in zip(self.section.runs, self.rows, strict=True) if row is not None]
        return all(map(shows_crop, asked))

    @property
    def row(self) -> ScoredRow:
        """The row of the run whose boxes are shown."""
        row = self.rows[self.shown]
        assert row is not None
        return row


def view_questions(
    sections: Sequence[Section],
    names: Sequence[str],
    *,
    max_cards: int = MAX_CARDS,
    max_bytes: int = MAX_BYTES,
    on_done: Callable[[int, int], None] | None = None,
) -> list[QuestionView]:
    """Questions drawn evenly from all sections, in their order.

    Args:
        names: of all runs of the report; a question refers to a run by its index in them.
        on_done: called with how many questions of how many are done.
    """
    questions = draw_evenly([question for section in sections for question in list_questions(section)], max_cards)
    max_chars, text_bytes = fit_replies(questions, int(TEXT_SHARE * max_bytes))
    left = max_bytes - text_bytes - FRAME_BYTES
    detail = choose_detail(questions, names, left / max(1, len(questions)))
    views: list[QuestionView] = []
    for number, question in enumerate(questions, start=1):
        share = LARGEST_SHARE * left / (len(questions) - number + 1)
        evidence, problem = _view_evidence(question, names, detail, share, left)
        left -= evidence.num_bytes if evidence else 0
        views.append(_view_question(number, question, names, evidence, problem, max_chars))
        if on_done is not None:
            on_done(number, len(questions))
    return views


def view_example(section: Section, sample_id: str) -> QuestionView:
    """One question in full detail, with the replies of the first run and of the one whose boxes are shown."""
    names = list(section.names)
    question = next(each for each in list_questions(section) if each.sample_id == sample_id)
    evidence, problem = _view_evidence(question, names, FULL_DETAIL, MAX_BYTES, MAX_BYTES)
    view = _view_question(0, question, names, evidence, problem, REPLY_CHARS[-1])
    shown = {section.names[0], section.names[section.primary]}
    return replace(view, replies=tuple(reply for reply in view.replies if reply.name in shown))


def list_questions(section: Section) -> list[QuestionRuns]:
    """The questions of a section, in the order of the benchmark."""
    by_id = [{row.facts.sample_id: row for row in run.rows} for run in section.runs]
    disagreeing = [find_disagreements(run) for run in section.runs]
    return [
        QuestionRuns(section, id, tuple(rows.get(id) for rows in by_id), tuple(id in found for found in disagreeing))
        for id in section.sample_ids
    ]


def draw_evenly(items: Sequence[Item], most: int) -> list[Item]:
    """All items, or `most` of them at equal distances."""
    count = min(most, len(items))
    return [items[k * len(items) // count] for k in range(count)]


def fit_replies(questions: Sequence[QuestionRuns], max_bytes: int) -> tuple[int | None, int]:
    """The length that replies are shortened to (None if they are not), and the bytes of all texts."""
    rows = [row for question in questions for row in question.rows if row is not None]
    lengths = [len((row.trace.reasoning.text if row.trace.reasoning else "").encode()) for row in rows]
    num_boxes = sum(len(row.trace.boxes) + len(row.facts.gold_boxes) for row in rows)
    asked = sum(len((each.row.trace.question + "".join(each.row.trace.options)).encode()) for each in questions)
    fixed = asked + len(questions) * CARD_BYTES + len(rows) * REPLY_BYTES + num_boxes * BOX_BYTES
    total, max_chars = fixed + sum(lengths), None
    for shorter in REPLY_CHARS:
        if total <= max_bytes:
            break
        total, max_chars = fixed + sum(min(length, shorter + 40) for length in lengths), shorter
    return max_chars, total


def choose_detail(questions: Sequence[QuestionRuns], names: Sequence[str], bytes_per_question: float) -> ImageDetail:
    """The greatest detail at which questions drawn from the whole take no more bytes than this on average."""
    drawn, sizes = draw_evenly(questions, NUM_TRIED), dict.fromkeys(DETAILS, 0)
    num_loaded = 0
    for question in drawn:
        try:
            loaded = _load(question, names)
        except P2RError:
            continue
        num_loaded += 1
        for detail in DETAILS:
            sizes[detail] += view_evidence(loaded, detail=detail).num_bytes
    return next((detail for detail in DETAILS if sizes[detail] <= bytes_per_question * num_loaded), DETAILS[-1])


def _view_evidence(
    question: QuestionRuns, names: Sequence[str], detail: ImageDetail, share: float, left: float
) -> tuple[EvidenceView | None, str]:
    """The images of a question in at most `share` bytes where that is possible, or why there are none."""
    try:
        loaded = _load(question, names)
    except P2RError as error:
        return None, error.message
    gold = () if question.is_cropped else question.row.facts.gold_boxes
    evidence = view_evidence(loaded, gold, detail=detail)
    for smaller in DETAILS[DETAILS.index(detail) + 1 :]:
        if evidence.num_bytes <= share:
            break
        evidence = view_evidence(loaded, gold, detail=smaller)
    if evidence.num_bytes > left:
        return None, "the images are left out, because the report would be too large with them"
    return evidence, ""


def _load(question: QuestionRuns, names: Sequence[str]) -> LoadedImage:
    """Load the image with its evidence. Raises ImageError, or another P2RError of the image's source."""
    section = question.section
    source = (section.crops if question.is_cropped else section.images).get(question.sample_id)
    if source is None:
        raise P2RError(f"the image {question.row.trace.image} was not found")
    loaded = load_evidence(source, list_run_traces(question, names), section.budget)
    return replace(loaded, remark=CROPPED) if question.is_cropped else loaded


def list_run_traces(question: QuestionRuns, names: Sequence[str]) -> list[RunTrace]:
    """The traces that are shown on the image, the primary one first; crops of the others where a model chose them."""
    section = question.section
    traces: list[RunTrace] = []
    for k in sorted(range(len(question.rows)), key=lambda k: k != question.shown):
        row, name = question.rows[k], section.names[k]
        run = section.runs[k]
        own = section.crops.get(question.sample_id) if shows_crop(run) and not question.is_cropped else None
        if row is None or (k != question.shown and own is None and run.settings.mode not in LOOKING):
            continue
        has_crops = k == question.shown or own is not None or bool(list_calls(row.trace, "perceiver"))
        traces.append(RunTrace(names.index(name), name, row.trace, has_crops, own))
    return traces


def _view_question(
    number: int,
    question: QuestionRuns,
    names: Sequence[str],
    evidence: EvidenceView | None,
    problem: str,
    max_chars: int | None,
) -> QuestionView:
    section, row = question.section, question.row
    asked = [(k, other) for k, other in enumerate(question.rows) if other is not None]
    return QuestionView(
        number=number,
        sample_id=question.sample_id,
        benchmark=section.benchmark,
        category=row.facts.category,
        question=row.trace.question,
        options=view_options(row.trace),
        target=row.trace.target or "",
        flags=tuple(
            f"{names.index(section.names[k])}:{flag}" for k, other in asked for flag in _list_flags(question, k, other)
        ),
        replies=tuple(
            view_reply(
                other.trace,
                other.answers.get("robust"),
                other.verdicts.get("robust"),
                name=section.names[k],
                is_primary=k == question.shown,
                max_chars=max_chars,
            )
            for k, other in asked
        ),
        evidence=evidence,
        problem=problem,
    )


def _list_flags(question: QuestionRuns, k: int, row: ScoredRow) -> list[str]:
    """The filters that a question falls under by what the run with index `k` made of it."""
    verdict, first_row = row.verdicts.get("robust"), question.rows[0]
    first = first_row.verdicts.get("robust") if first_row is not None else None
    looks = question.section.runs[k].settings.mode in LOOKING and row.trace.perception is not None
    flags = {
        "asked": True,
        "gained": verdict is not None and first is not None and verdict.correct > first.correct,
        "lost": verdict is not None and first is not None and verdict.correct < first.correct,
        "wrong": verdict is not None and not verdict.correct,
        "missed": looks and bool(row.facts.gold_boxes) and not hits(row.trace.boxes, row.facts.gold_boxes),
        "unread": (answer := row.answers.get("robust")) is not None and answer.is_missing,
        "differ": question.disagrees[k],
        "failed": row.trace.failure is not None,
    }
    return [name for name, holds in flags.items() if holds]
