"""Runs as one self-contained HTML file: figures, charts, tables, and what was seen, looked at and answered.

Nothing is fetched: images are data URIs, style, script and charts are inside. Images are loaded again from the
benchmark, one at a time, and evidence is gathered again from the boxes in the traces, so a report shows what a walk
saw without keeping pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from p2r.evaluation.metrics import summarize
from p2r.evaluation.tables import find_text_columns, show_share
from p2r.report.evaluation.chapters import Chapter
from p2r.report.evaluation.figures import AREA_NAMES, COUNT_NAMES, view_chapter
from p2r.report.evaluation.gallery import MAX_BYTES, MAX_CARDS, build_cards
from p2r.report.kit.cards import Card
from p2r.report.kit.page import environment, read_template
from p2r.version import __version__

FILTERS: Mapping[str, str] = {
    "asked": "All",
    "gained": "Right where {first} is wrong",
    "lost": "Wrong where {first} is right",
    "wrong": "Wrong",
    "missed": "Looked elsewhere",
    "differ": "Scorers disagree",
    "failed": "Failed",
}


@dataclass(frozen=True, slots=True)
class Story:
    """What a report is about.

    title, lede: its headline, and the result in words.
    facts: (name, value) pairs that say what was measured, and on what.
    footer: how to make the report again.
    head: what a line of the tables is called.
    """

    title: str
    lede: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    footer: str = ""
    head: str = "Run"


def build_report(
    chapters: Sequence[Chapter],
    story: Story,
    *,
    max_cards: int = MAX_CARDS,
    max_bytes: int = MAX_BYTES,
    on_card: Callable[[int, int], None] | None = None,
) -> str:
    """The report as HTML.

    Args:
        max_cards: most questions shown with images; figures always count all.
        max_bytes: of the report; with more questions their images are smaller.
        on_card: called with how many cards of how many are made.
    """
    places = list(dict.fromkeys(name for chapter in chapters for name in chapter.names))
    cards = build_cards(chapters, places, max_cards=max_cards, max_bytes=max_bytes, on_card=on_card)
    primary = places.index(chapters[0].names[chapters[0].primary])
    page = {
        "story": story,
        "chapters": [view_chapter(chapter) for chapter in chapters],
        "runs": places,
        "primary": primary,
        "benchmarks": [chapter.benchmark for chapter in chapters],
        "categories": sorted({card.category for card in cards} - {""}),
        "num_samples": sum(len(chapter.sample_ids) for chapter in chapters),
        "cards": cards,
        "filters": _list_filters(chapters, cards, primary),
        "count_names": COUNT_NAMES,
        "area_names": AREA_NAMES,
    }
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            page=page,
            find_text_columns=find_text_columns,
            version=__version__,
            css=read_template("looks.css") + read_template("report.css"),
            js=read_template("report.js"),
        )
    )


def write_lede(chapters: Sequence[Chapter]) -> str:
    """The result in words: of each benchmark the run whose boxes are shown, and the first one."""
    sentences: list[str] = []
    for chapter in chapters:
        shown, first = summarize(chapter.runs[chapter.primary]), summarize(chapter.runs[0])
        name = chapter.names[chapter.primary]
        if shown.accuracy is None:
            sentences.append(f"{chapter.benchmark}: nothing of {name} could be judged.")
            continue
        low, high = 100 * shown.interval.low, 100 * shown.interval.high
        sentence = (
            f"{chapter.benchmark}: {name} has {show_share(shown.accuracy)} of {shown.num_judged} right "
            f"(95% interval {low:.1f} to {high:.1f})"
        )
        if chapter.primary != 0 and first.accuracy is not None:
            sentence += f", {chapter.names[0]} {show_share(first.accuracy)} of {first.num_judged}"
        if shown.chance is not None:
            sentence += f"; guessing reaches {show_share(shown.chance)}"
        sentences.append(sentence + ".")
    return " ".join(sentences)


def _list_filters(chapters: Sequence[Chapter], cards: Sequence[Card], primary: int) -> list[dict[str, str | int]]:
    """Buttons with how many cards fall under them for the run that is chosen first; those that never apply are left
    out."""
    used = {flag.partition(":")[2] for card in cards for flag in card.flags}
    first = {chapter.names[0] for chapter in chapters}
    name_of_first = first.pop() if len(first) == 1 else "the first run"
    return [
        {
            "key": key,
            "name": name.format(first=name_of_first),
            "count": sum(f"{primary}:{key}" in card.flags for card in cards),
        }
        for key, name in FILTERS.items()
        if key in used
    ]
