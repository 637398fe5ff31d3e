"""Evaluation runs as one self-contained HTML file: metrics, charts, tables, and every question with its images.

Nothing is fetched: images are data URIs, and style, script and charts are inside. Images are loaded again from the
benchmark, one at a time, and cut by the rectangles that the traces hold, so a report shows what a walk saw although no
run keeps pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from p2r.errors import count_nouns
from p2r.evaluation.metrics import summarize
from p2r.evaluation.repeats import count_replies
from p2r.evaluation.tables import Table, show_share
from p2r.report.evaluation.charts import AREA_NAMES, COUNT_NAMES, view_section
from p2r.report.evaluation.gallery import MAX_BYTES, MAX_CARDS, view_example, view_questions
from p2r.report.evaluation.sections import Section
from p2r.report.kit.page import Headline, choose_printed, list_filters, render_page

FILTERS: Mapping[str, str] = {
    "asked": "All",
    "gained": "Right where {first} is wrong",
    "lost": "Wrong where {first} is right",
    "wrong": "Wrong",
    "unread": "No readable answer",
    "missed": "No box hits",
    "differ": "Scorers disagree",
    "failed": "Failed",
}


NUM_PRINTED = 6
"""Questions on paper."""


def build_report(
    sections: Sequence[Section],
    headline: Headline,
    *,
    systems: Sequence[Table] = (),
    example: str | None = None,
    max_cards: int = MAX_CARDS,
    max_bytes: int = MAX_BYTES,
    on_done: Callable[[int, int], None] | None = None,
) -> str:
    """The report as HTML.

    Args:
        systems: tables of several systems, to stand first; see `lay_out`.
        example: a sample of the first section to open the page with, which the run whose boxes are shown has right and
            the first run has wrong; then such questions are also the ones shown first.
        max_cards: most questions shown with images; metrics always count all.
        max_bytes: size of the report; with more questions their images are smaller.
        on_done: called with how many questions of how many are done.
    """
    names = list(dict.fromkeys(name for section in sections for name in section.names))
    questions = view_questions(sections, names, max_cards=max_cards, max_bytes=max_bytes, on_done=on_done)
    primary = names.index(sections[0].names[sections[0].primary])
    first = {section.names[0] for section in sections}
    name_of_first = first.pop() if len(first) == 1 else "the first run"
    filters = {key: name.format(first=name_of_first) for key, name in FILTERS.items()}
    flags = [question.flags for question in questions]
    page = {
        "headline": headline,
        "systems": systems,
        "sections": [view_section(section) for section in sections],
        "runs": names,
        "primary": primary,
        "benchmarks": [section.benchmark for section in sections],
        "categories": sorted({question.category for question in questions} - {""}),
        "num_samples": sum(len(section.sample_ids) for section in sections),
        "questions": questions,
        "example": view_example(sections[0], example) if example is not None else None,
        "example_text": write_example_text(sections[0]) if example is not None else "",
        "filters": list_filters(filters, flags, primary),
        "pressed": "gained" if example is not None and any(f"{primary}:gained" in each for each in flags) else "asked",
        "printed": choose_printed(filters, flags, primary, NUM_PRINTED),
        "count_names": COUNT_NAMES,
        "area_names": AREA_NAMES,
    }
    return render_page("evaluation.html.j2", page)


def write_example_text(section: Section) -> str:
    """Say how often the second look changed a wrong answer into a right one, as in the example, and back."""
    own = {row.facts.sample_id: row.verdicts.get("robust") for row in section.runs[section.primary].rows}
    first = {row.facts.sample_id: row.verdicts.get("robust") for row in section.runs[0].rows}
    both = [(before, own[id]) for id, before in first.items() if before is not None and own.get(id) is not None]
    gained = sum(after is not None and after.correct > before.correct for before, after in both)
    lost = sum(after is not None and after.correct < before.correct for before, after in both)
    return (
        f"One of {count_nouns(gained, 'question')} that {section.names[section.primary]} gets right and "
        f"{section.names[0]} does not; {lost} went the other way, of {len(both)}."
    )


def write_lede(sections: Sequence[Section]) -> str:
    """The result in words: on each benchmark, the run whose boxes are shown and the first run."""
    sentences: list[str] = []
    for section in sections:
        shown, first = summarize(section.runs[section.primary]), summarize(section.runs[0])
        name = section.names[section.primary]
        if shown.accuracy is None:
            sentences.append(f"{section.benchmark}: no answer of {name} could be judged.")
            continue
        low, high = 100 * shown.interval.low, 100 * shown.interval.high
        run = section.runs[section.primary]
        num_replies = count_replies(run)
        asked = count_nouns(shown.num_judged // num_replies, "question")
        times = f", asked {num_replies} times each," if num_replies > 1 else ""
        sentence = (
            f"{section.benchmark}: {name} answers {show_share(shown.accuracy)} of {asked}{times} correctly "
            f"(95% interval {low:.1f} to {high:.1f})"
        )
        if section.primary != 0 and first.accuracy is not None:
            sentence += f", {section.names[0]} {show_share(first.accuracy)} of {first.num_judged}"
        if shown.chance is not None:
            sentence += f"; guessing reaches {show_share(shown.chance)}"
        sentences.append(sentence + ".")
    return " ".join(sentences)
