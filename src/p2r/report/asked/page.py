"""Questions that `p2r ask` answered as one self-contained HTML file: image, boxes, crops, reply and cost of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from p2r.errors import count_nouns
from p2r.evaluation.scoring import ScoredRow, ScoredRun
from p2r.images.load import FileImage
from p2r.report.evaluation.gallery import MAX_BYTES, MAX_CARDS, QuestionView, view_questions
from p2r.report.evaluation.sections import Section
from p2r.report.kit.page import Headline, choose_printed, list_filters, render_page
from p2r.report.kit.saved_image import SavedImage
from p2r.report.kit.trace_view import view_trace
from p2r.report.trace import ANNOTATED_FILE, holds_trace
from p2r.runs.asked import AskedQuestions
from p2r.runs.evaluation import RunSettings, SampleFacts
from p2r.statistics import wilson
from p2r.types import ImageSource, Trace

FILTERS: Mapping[str, str] = {
    "asked": "All",
    "wrong": "Wrong",
    "unread": "No readable answer",
    "failed": "Failed",
}
NUM_PRINTED = 40
"""Questions on paper."""


def build_asked_report(
    groups: Sequence[AskedQuestions],
    *,
    title: str | None = None,
    images: Mapping[str, ImageSource] | None = None,
    problems: Sequence[str] = (),
    max_cards: int = MAX_CARDS,
    max_bytes: int = MAX_BYTES,
    on_done: Callable[[int, int], None] | None = None,
) -> str:
    """The page as HTML.

    Args:
        groups: folders of questions, or one group that lies in none.
        title: by default the question if all ask the same one, else the names of the groups.
        images: by sample id, if they are in memory; else they are looked for where the traces say, and in the folders.
        problems: sentences about what is missing on the page.
        max_cards, max_bytes, on_done: see `build_report`.
    """
    sections = [_make_section(group, images) for group in groups]
    traces = {(group.name, trace.sample_id): trace for group in groups for trace in group.traces}
    views = view_questions(sections, [""], max_cards=max_cards, max_bytes=max_bytes, on_done=on_done)
    questions = [_add_cost(view, traces[view.benchmark, view.sample_id]) for view in views]
    flags = [question.flags for question in questions]
    page = {
        "headline": _make_headline(groups, title, problems),
        "groups": [group.name for group in groups],
        "num_samples": len(traces),
        "questions": questions,
        "filters": list_filters(FILTERS, flags, 0),
        "pressed": "asked",
        "printed": choose_printed(FILTERS, flags, 0, NUM_PRINTED),
    }
    return render_page("asked.html.j2", page)


def find_image(group: AskedQuestions, trace: Trace) -> ImageSource | None:
    """The image of a trace where the trace says it is, else the copy that was saved with it; None without both."""
    path = Path(trace.image)
    begin = Path(group.place.working_directory) if group.place is not None else Path()
    for candidate in (begin / path, path):
        if candidate.is_file():
            return FileImage(candidate)
    saved = group.saved.get(trace.sample_id)
    if saved is not None and (saved / ANNOTATED_FILE).is_file() and holds_trace(saved, trace):
        return SavedImage(saved)
    return None


def write_counts(traces: Sequence[Trace]) -> str:
    """Count the questions that were answered, had no readable answer, or failed; with the accuracy, if it is known."""
    failed = sum(trace.failure is not None for trace in traces)
    unread = sum(trace.answer is not None and trace.answer.is_missing for trace in traces)
    parts = [f"{len(traces) - failed - unread} of {count_nouns(len(traces), 'question')} answered"]
    parts += [f"{unread} without a readable answer"] if unread else []
    parts += [f"{failed} failed"] if failed else []
    verdicts = [trace.verdict for trace in traces if trace.verdict is not None]
    if not verdicts:
        return f"{', '.join(parts)}."
    correct = sum(verdict.correct for verdict in verdicts)
    interval = wilson(correct, len(verdicts))
    return (
        f"{', '.join(parts)}. {100 * correct / len(verdicts):.1f}% right: {correct} of {len(verdicts)} with a target "
        f"(95% interval {100 * interval.low:.1f} to {100 * interval.high:.1f}%)."
    )


def _make_section(group: AskedQuestions, images: Mapping[str, ImageSource] | None) -> Section:
    """The questions of a group as one run, with the answers and verdicts that their traces hold."""
    facts = {trace.sample_id: SampleFacts(sample_id=trace.sample_id) for trace in group.traces}
    rows = tuple(
        ScoredRow(
            facts[trace.sample_id],
            trace,
            {"robust": trace.answer} if trace.answer is not None else {},
            {"robust": trace.verdict} if trace.verdict is not None else {},
        )
        for trace in group.traces
    )
    traces = {trace.sample_id: trace for trace in group.traces}
    run = ScoredRun(RunSettings(benchmark=group.name), facts, traces, rows=rows)
    found = {
        id: source for id, trace in traces.items() if (source := (images or {}).get(id) or find_image(group, trace))
    }
    return Section(group.name, (run,), ("",), 0, found, budget=group.place.budget if group.place else None)


def _add_cost(view: QuestionView, trace: Trace) -> QuestionView:
    seen = view_trace(trace)
    cut = "The reply was cut off at the token limit. " if seen.is_cut_off else ""
    image = Path(trace.image).name
    return replace(view, category=image, cost="" if trace.failure is not None else f"{cut}Cost: {seen.cost}.")


def _make_headline(groups: Sequence[AskedQuestions], title: str | None, problems: Sequence[str]) -> Headline:
    traces = [trace for group in groups for trace in group.traces]
    asked = list(dict.fromkeys(trace.question for trace in traces))
    models = [trace.reasoning.model for trace in traces if trace.reasoning is not None]
    settings = [group.settings for group in groups if group.settings is not None]
    facts = {
        "Model": list(dict.fromkeys(models)),
        "Mode": list(dict.fromkeys(each.mode for each in settings)),
        "Wording": list(dict.fromkeys(each.prompts for each in settings)),
        "Questions": [f"{len(traces):,}"] if len(traces) > 1 else [],
        "Asked about": list(dict.fromkeys(group.name for group in groups)) if len(groups) < 6 else [],
    }
    names = ", ".join(Path(group.name).name for group in groups)
    return Headline(
        title=title or (asked[0] if len(asked) == 1 else names),
        lede=_write_lede(groups),
        facts=tuple((name, ", ".join(values)) for name, values in facts.items() if values),
        footer="Made by `p2r`. Boxes and crops are those that the model saw.",
        row_name="Answer of",
        problems=tuple(problems),
    )


def _write_lede(groups: Sequence[AskedQuestions]) -> str:
    if len(groups) == 1 and len(groups[0].traces) == 1:
        trace = groups[0].traces[0]
        return view_trace(trace).reply.answer if trace.failure is None else "The question failed."
    if len(groups) == 1:
        return write_counts(groups[0].traces)
    return " ".join(f"{group.name}: {write_counts(group.traces)}" for group in groups)
