"""The metrics of a section, ready for the page: a row for each run, categories, cost charts, where the runs looked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from p2r.boxes import hits
from p2r.evaluation.compare import tabulate_contrasts
from p2r.evaluation.metrics import Summary, list_looked, summarize
from p2r.evaluation.repeats import count_right, list_repeats
from p2r.evaluation.scorecard import Column, make_scorecard, score_columns
from p2r.evaluation.scoring import ScoredRow, interval_of_values
from p2r.evaluation.tables import Table, show_interval, show_number, show_share
from p2r.modes import CAPTIONS
from p2r.report.evaluation.published import tabulate_beside_paper
from p2r.report.evaluation.sections import Section, compare_section
from p2r.report.kit.scatter_chart import Point, draw_scatter
from p2r.statistics import Interval, mean_of
from p2r.types import Box

AREA_EDGES = (0.0001, 0.001, 0.01, 0.1)
"""Edges between the bars of box sizes, as shares of the image."""
AREA_NAMES = ("<0.01%", "<0.1%", "<1%", "<10%", "more")
MOST_COUNTED = 5
COUNT_NAMES = (*map(str, range(MOST_COUNTED)), f"{MOST_COUNTED}+")


@dataclass(frozen=True, slots=True)
class Mark:
    """A share with its interval, in per cent, to be drawn as a dot on a line."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class CategoryCell:
    """The accuracy of a run in one category: as a bar, as text, and as counts for the tooltip."""

    percent: float
    text: str
    counts: str


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run's row in the table of metrics. mark: accuracy, drawn. chance: in per cent."""

    name: str
    caption: str
    is_primary: bool
    mark: Mark | None
    chance: float | None
    summary: Summary
    accuracy_text: str
    interval_text: str
    hit_text: str
    seen_text: str
    iou_text: str
    boxes_text: str
    tokens_text: str
    speed_text: str
    categories: tuple[CategoryCell, ...]


@dataclass(frozen=True, slots=True)
class BoxesRow:
    """A row of bars that shows where a run looked, or where the evidence is.

    counts, areas: heights of bars, shares of 0 to 1.
    """

    name: str
    is_primary: bool
    hit: Mark | None
    hit_text: str
    counts: tuple[float, ...]
    counts_text: str
    areas: tuple[float, ...]
    areas_text: str


@dataclass(frozen=True, slots=True)
class RepeatsView:
    """A run that asked each question several times: its tables, and the questions by the number of right replies."""

    name: str
    tables: tuple[Table, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SectionView:
    """A section, ready for the page."""

    benchmark: str
    rows: tuple[RunRow, ...]
    categories: tuple[tuple[str, int, str], ...]
    chance_text: str
    has_failures: bool
    charts: tuple[Markup, ...]
    boxes: tuple[BoxesRow, ...]
    repeats: tuple[RepeatsView, ...]
    verdicts: tuple[str, ...]
    contrasts: Table | None
    beside: Table | None
    details: tuple[tuple[str, tuple[Table, ...]], ...]
    problem: str


def view_section(section: Section) -> SectionView:
    """Everything that the page shows of a section besides its questions."""
    columns = [score_columns(run) for run in section.runs]
    summaries = [summarize(run) for run in section.runs]
    whole, *rest = next(iter(columns)).items()
    contrasts, notes = compare_section(section)
    return SectionView(
        benchmark=section.benchmark,
        rows=tuple(
            _view_run(section, k, summary, [found.get(name) for name, _ in rest])
            for k, (summary, found) in enumerate(zip(summaries, columns, strict=True))
        ),
        categories=tuple((name, len(column.rows), show_share(column.chance)) for name, column in rest),
        chance_text=show_share(whole[1].chance),
        has_failures=any(summary.num_failed for summary in summaries),
        charts=draw_costs(section.names, summaries, section.primary),
        boxes=view_boxes_rows(section),
        repeats=tuple(
            RepeatsView(name, tuple(tables), tuple(count_right(run)))
            for name, run in zip(section.names, section.runs, strict=True)
            if (tables := list_repeats(run, name))
        ),
        verdicts=tuple(f"{c.second} and {c.first}: {c.verdict}." for c in contrasts if c.column == whole[0]),
        contrasts=tabulate_contrasts(contrasts, notes) if contrasts else None,
        beside=tabulate_beside_paper(section.runs, section.names),
        details=tuple(
            (name, tuple(make_scorecard(run))) for name, run in zip(section.names, section.runs, strict=True)
        ),
        problem=" ".join(filter(None, [section.problem, *([] if contrasts else [f"{note}." for note in notes])])),
    )


def draw_costs(names: Sequence[str], summaries: Sequence[Summary], primary: int) -> tuple[Markup, ...]:
    """Accuracy against tokens, and against speed (the paper's Figure 11); a chart needs two runs that measured it."""
    costs = [
        ("tokens per sample, read and written", [summary.cost.tokens for summary in summaries]),
        ("samples per second", [summary.samples_per_second for summary in summaries]),
    ]
    charts: list[Markup] = []
    for label, values in costs:
        points = [
            Point(name, value, summary.accuracy, summary.interval.low, summary.interval.high, k == primary)
            for k, (name, summary, value) in enumerate(zip(names, summaries, values, strict=True))
            if value and summary.accuracy is not None
        ]
        if len(points) > 1:
            charts.append(draw_scatter(points, label, "accuracy, %", reference=summaries[0].chance))
    return tuple(charts)


def view_boxes_rows(section: Section) -> tuple[BoxesRow, ...]:
    """Hit rate, number and size of the boxes of each run that looks; the gold boxes come last."""
    looked = {k: rows for k, run in enumerate(section.runs) if (rows := list_looked(run))}
    rows = [
        _view_boxes_row(section.names[k], k == section.primary, [row.trace.boxes for row in found], _find_hits(found))
        for k, found in looked.items()
    ]
    known = {row.facts.sample_id: row.facts.gold_boxes for found in looked.values() for row in found}
    gold = [boxes for boxes in known.values() if boxes]
    return (*rows, _view_boxes_row("gold boxes", False, gold, None)) if rows and gold else tuple(rows)


def _view_run(section: Section, k: int, summary: Summary, categories: Sequence[Column | None]) -> RunRow:
    mode = section.runs[k].settings.mode
    is_known = summary.accuracy is not None
    return RunRow(
        name=section.names[k],
        caption={str(name): text for name, text in CAPTIONS.items()}.get(mode, ""),
        is_primary=k == section.primary,
        mark=_mark(summary.accuracy, summary.interval) if summary.accuracy is not None else None,
        chance=None if summary.chance is None else round(100 * summary.chance, 2),
        summary=summary,
        accuracy_text=show_share(summary.accuracy),
        interval_text=show_interval(summary.interval) if is_known else "-",
        hit_text=show_share(summary.hit_rate),
        seen_text=show_share(summary.seen_rate),
        iou_text=show_number(summary.mean_iou),
        boxes_text=show_number(summary.mean_boxes),
        tokens_text=show_number(summary.cost.tokens, 0),
        speed_text=show_number(summary.samples_per_second),
        categories=tuple(_view_category(column) for column in categories),
    )


def _view_category(column: Column | None) -> CategoryCell:
    if column is None or column.score is None:
        return CategoryCell(0, "-", "nothing judged")
    return CategoryCell(
        round(100 * column.score, 1), f"{100 * column.score:.0f}%", f"{column.num_correct} of {len(column.rows)}"
    )


def _view_boxes_row(
    name: str, is_primary: bool, boxes: Sequence[Sequence[Box]], hit: tuple[float, Interval] | None
) -> BoxesRow:
    areas = [box.area for found in boxes for box in found]
    mean_count = mean_of([len(found) for found in boxes])
    return BoxesRow(
        name=name,
        is_primary=is_primary,
        hit=_mark(*hit) if hit else None,
        hit_text=show_share(hit[0]) if hit else "-",
        counts=_share_bins([min(len(found), MOST_COUNTED) for found in boxes], len(COUNT_NAMES)),
        counts_text=show_number(mean_count),
        areas=_share_bins([sum(area >= edge for edge in AREA_EDGES) for area in areas], len(AREA_NAMES)),
        areas_text=show_share(mean_of(areas)),
    )


def _find_hits(rows: Sequence[ScoredRow]) -> tuple[float, Interval] | None:
    findable = [row for row in rows if row.facts.gold_boxes]
    values = [float(hits(row.trace.boxes, row.facts.gold_boxes)) for row in findable]
    return (sum(values) / len(values), interval_of_values(values, findable)) if values else None


def _share_bins(places: Sequence[int], num_bins: int) -> tuple[float, ...]:
    return tuple(places.count(k) / len(places) if places else 0.0 for k in range(num_bins))


def _mark(value: float, interval: Interval) -> Mark:
    return Mark(round(100 * value, 2), round(100 * interval.low, 2), round(100 * interval.high, 2))
