"""The questions of a report as cards, with as much detail as its size allows.

Images share what the texts leave of the page's size. A few cards drawn from the whole are tried first, and all take
the greatest detail at which those fit; an image that needs much more than its share is made smaller by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from p2r.boxes import hits
from p2r.errors import P2RError
from p2r.evaluation.cost import list_calls
from p2r.evaluation.scorecard import find_disagreements
from p2r.evaluation.scoring import ScoredRow
from p2r.modes import LOOKING
from p2r.report.evaluation.chapters import Chapter
from p2r.report.kit.cards import Card, view_options, view_reply
from p2r.report.kit.looks import FULL_DETAIL, Detail, Looks, Scene, Sight, load_scene, view_looks

MAX_BYTES = 30_000_000
"""Largest report."""
MAX_CARDS = 2000

Item = TypeVar("Item")

DETAILS = (
    FULL_DETAIL,
    Detail(560, 360, True, 76, 84),
    Detail(480, 300, True, 70, 76),
    Detail(480, 240, False, 66),
    Detail(360, 170, False, 60),
    Detail(270, 120, False, 52),
    Detail(180, 90, False, 45),
)
REPLY_CHARS = (None, 8000, 4000, 2000, 1000, 500)
TEXT_SHARE = 0.5
"""Of the page's size, at most; longer replies are shortened."""
CARD_BYTES, REPLY_BYTES, FRAME_BYTES, BOX_BYTES = 1800, 420, 300_000, 150
"""What a card, a reply, the rest of the page and a box take besides their texts."""
NUM_TRIED = 8
LARGEST_SHARE = 2.5
"""An image may take so many times its share before it is made smaller."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One question of one chapter, with what each run made of it."""

    chapter: Chapter
    sample_id: str
    rows: tuple[ScoredRow | None, ...]
    disagrees: tuple[bool, ...]

    @property
    def shown(self) -> int:
        """The run whose boxes are shown, by its place: the chapter's, else the first that was asked."""
        order = (self.chapter.primary, *range(len(self.rows)))
        return next(k for k in order if self.rows[k] is not None)

    @property
    def row(self) -> ScoredRow:
        """Of that run."""
        row = self.rows[self.shown]
        assert row is not None
        return row


def build_cards(
    chapters: Sequence[Chapter],
    places: Sequence[str],
    *,
    max_cards: int = MAX_CARDS,
    max_bytes: int = MAX_BYTES,
    on_card: Callable[[int, int], None] | None = None,
) -> list[Card]:
    """Cards of questions drawn evenly from all chapters, in their order.

    Args:
        places: names of all runs of the report; a card names a run by its place in them.
        on_card: called with how many cards of how many are made.
    """
    entries = draw_evenly([entry for chapter in chapters for entry in list_entries(chapter)], max_cards)
    most_chars, text_bytes = fit_replies(entries, int(TEXT_SHARE * max_bytes))
    left = max_bytes - text_bytes - FRAME_BYTES
    detail = choose_detail(entries, places, left / max(1, len(entries)))
    cards: list[Card] = []
    for number, entry in enumerate(entries, start=1):
        looks, problem = _look(entry, places, detail, LARGEST_SHARE * left / (len(entries) - number + 1), left)
        left -= looks.num_bytes if looks else 0
        cards.append(_build_card(number, entry, places, looks, problem, most_chars))
        if on_card is not None:
            on_card(number, len(entries))
    return cards


def list_entries(chapter: Chapter) -> list[Entry]:
    by_id = [{row.facts.sample_id: row for row in run.rows} for run in chapter.runs]
    disagreeing = [find_disagreements(run) for run in chapter.runs]
    return [
        Entry(chapter, id, tuple(rows.get(id) for rows in by_id), tuple(id in found for found in disagreeing))
        for id in chapter.sample_ids
    ]


def draw_evenly(entries: Sequence[Item], most: int) -> list[Item]:
    """All, or `most` of them at equal distances."""
    count = min(most, len(entries))
    return [entries[k * len(entries) // count] for k in range(count)]


def fit_replies(entries: Sequence[Entry], max_bytes: int) -> tuple[int | None, int]:
    """The length to which replies are shortened, None for not at all, and the bytes of all texts."""
    rows = [row for entry in entries for row in entry.rows if row is not None]
    lengths = [len((row.trace.reasoning.text if row.trace.reasoning else "").encode()) for row in rows]
    num_boxes = sum(len(row.trace.boxes) + len(row.facts.gold_boxes) for row in rows)
    fixed = len(entries) * CARD_BYTES + len(rows) * REPLY_BYTES + num_boxes * BOX_BYTES
    fixed += sum(len((entry.row.trace.question + "".join(entry.row.trace.options)).encode()) for entry in entries)
    for most in REPLY_CHARS:
        total = fixed + sum(length if most is None else min(length, most + 40) for length in lengths)
        if total <= max_bytes:
            return most, total
    return REPLY_CHARS[-1], total


def choose_detail(entries: Sequence[Entry], places: Sequence[str], bytes_per_card: float) -> Detail:
    """The greatest detail at which cards drawn from the whole take no more than this on average."""
    drawn, sizes = draw_evenly(entries, NUM_TRIED), dict.fromkeys(DETAILS, 0)
    num_loaded = 0
    for entry in drawn:
        try:
            scene = _load(entry, places)
        except P2RError:
            continue
        num_loaded += 1
        for detail in DETAILS:
            sizes[detail] += view_looks(scene, detail=detail).num_bytes
    return next((detail for detail in DETAILS if sizes[detail] <= bytes_per_card * num_loaded), DETAILS[-1])


def _look(entry: Entry, places: Sequence[str], detail: Detail, share: float, left: float) -> tuple[Looks | None, str]:
    """The images of a card, or why there are none."""
    try:
        scene = _load(entry, places)
    except P2RError as error:
        return None, error.message
    for one in DETAILS[DETAILS.index(detail) :]:
        looks = view_looks(scene, entry.row.facts.gold_boxes, detail=one)
        if looks.num_bytes <= share:
            break
    if looks.num_bytes > left:
        return None, "the images are left out, because the report would be too large with them"
    return looks, ""


def _load(entry: Entry, places: Sequence[str]) -> Scene:
    """Raises ImageError, or another P2RError of where the image comes from."""
    source = entry.chapter.images.get(entry.sample_id)
    if source is None:
        raise P2RError(f"the image {entry.row.trace.image} was not found")
    return load_scene(source, list_sights(entry, places), entry.chapter.budget)


def list_sights(entry: Entry, places: Sequence[str]) -> list[Sight]:
    """Where each run looked, the one that is shown first. Of the others, crops are shown where a model chose them."""
    sights: list[Sight] = []
    for k in sorted(range(len(entry.rows)), key=lambda k: k != entry.shown):
        row, name = entry.rows[k], entry.chapter.names[k]
        if row is None or (k != entry.shown and entry.chapter.runs[k].run.settings.get("mode") not in LOOKING):
            continue
        has_crops = k == entry.shown or bool(list_calls(row.trace, "perceiver"))
        sights.append(Sight(places.index(name), name, row.trace.boxes, has_crops))
    return sights


def _build_card(
    number: int, entry: Entry, places: Sequence[str], looks: Looks | None, problem: str, most_chars: int | None
) -> Card:
    chapter, row = entry.chapter, entry.row
    asked = [(k, other) for k, other in enumerate(entry.rows) if other is not None]
    return Card(
        number=number,
        sample_id=entry.sample_id,
        benchmark=chapter.benchmark,
        category=row.facts.category,
        question=row.trace.question,
        options=view_options(row.trace),
        target=row.trace.target or "",
        flags=tuple(flag for k, other in asked for flag in _flag(entry, k, other, places.index(chapter.names[k]))),
        replies=tuple(
            view_reply(
                chapter.names[k],
                other,
                places.index(chapter.names[k]),
                is_primary=k == entry.shown,
                most_chars=most_chars,
            )
            for k, other in asked
        ),
        looks=looks,
        problem=problem,
    )


def _flag(entry: Entry, k: int, row: ScoredRow, place: int) -> list[str]:
    """The filters a question falls under by what one run made of it."""
    verdict = row.verdicts.get("robust")
    first = entry.rows[0].verdicts.get("robust") if entry.rows[0] is not None else None
    looks = entry.chapter.runs[k].run.settings.get("mode") in LOOKING and row.trace.perception is not None
    found: list[tuple[str, bool]] = [
        ("asked", True),
        ("gained", verdict is not None and first is not None and verdict.correct > first.correct),
        ("lost", verdict is not None and first is not None and verdict.correct < first.correct),
        ("wrong", verdict is not None and not verdict.correct),
        ("missed", looks and bool(row.facts.gold_boxes) and not hits(row.trace.boxes, row.facts.gold_boxes)),
        ("differ", entry.disagrees[k]),
        ("failed", row.trace.failure is not None),
    ]
    return [f"{place}:{name}" for name, holds in found if holds]
