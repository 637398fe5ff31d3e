"""A study as one HTML page: its claims with their verdicts, its tables, and its curves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from markupsafe import Markup

from p2r.errors import count_nouns
from p2r.evaluation.compare import show_p
from p2r.evaluation.tables import Table
from p2r.report.kit.interval_chart import IntervalRow, draw_intervals
from p2r.report.kit.line_chart import NUM_COLORS, AxisSpan, Curve, CurvePoint, draw_curves
from p2r.report.kit.page import Headline, render_page
from p2r.report.kit.scatter_chart import Point, draw_scatter
from p2r.runs.training import TrainingRun
from p2r.runs.training_log import value_of
from p2r.statistics import estimate, mean_of
from p2r.studies.cells import IN_POINTS, Measure
from p2r.studies.consistency import list_idle
from p2r.studies.joblist import group_trainings, list_trainings
from p2r.studies.jobs import FilesJob, Job, Progress, show_command
from p2r.studies.listing import StudyTables
from p2r.studies.measure import Reader
from p2r.studies.shown import CostChart, CurveChart, Trend
from p2r.studies.splits import list_shared
from p2r.studies.study import Study
from p2r.studies.tables import show_difference, show_estimate, show_expectation
from p2r.studies.verdicts import JudgedClaim

KINDS: Mapping[str, str] = {
    "holds": "holds",
    "fails": "fails",
    "undecided": "open",
    "one seed only": "open",
    "not measured yet": "open",
}

UNITS: Mapping[Measure, str] = {**dict.fromkeys(IN_POINTS, " points"), "boxes": " boxes", "tokens": " tokens"}

COUNTED: Mapping[str, tuple[str, str]] = {
    "holds": ("holds", "hold"),
    "fails": ("fails", "fail"),
    "undecided": ("is undecided", "are undecided"),
    "one seed only": ("has one seed only", "have one seed only"),
    "not measured yet": ("is not measured yet", "are not measured yet"),
}
"""Verdict -> what is said of one claim that has it, and of several."""


@dataclass(frozen=True, slots=True)
class ClaimView:
    """A claim, ready for the page."""

    says: str
    source: str
    verdict: str
    found: str
    kind: str


@dataclass(frozen=True, slots=True)
class StudyChart:
    """A chart, ready for the page. legend: the arms, in the order of their colors."""

    title: str
    note: str
    drawing: Markup
    legend: Sequence[str] = ()


def build_study_page(
    study: Study,
    reader: Reader,
    judged: Sequence[JudgedClaim],
    tables: StudyTables,
    headline: Headline,
    looked: Sequence[tuple[Job, Progress]],
) -> str:
    """The page as HTML, of what is there so far.

    Args:
        reader, judged, tables, headline: of the study.
        looked: each job, and how far it is.
    """
    page = {
        "headline": headline,
        "claims": [_view_claim(each) for each in judged],
        "forests": list(_draw_forests(judged)),
        "tables": tables,
        "trends": [view for trend in study.trends if (view := _draw_trend(trend, reader)) is not None],
        "curves": [view for chart in study.curves if (view := _draw_chart(study, chart, reader)) is not None],
        "arms": [
            (name, says)
            for name in dict.fromkeys(name for chart in study.curves for name in chart.arms)
            if (says := study.arms[name].says)
        ],
        "costs": [view for chart in study.costs if (view := _draw_costs(chart, reader)) is not None],
        "jobs": _tabulate_jobs(looked),
    }
    return render_page("study.html.j2", page)


def make_headline(study: Study, judged: Sequence[JudgedClaim], command: str, states: Sequence[Progress]) -> Headline:
    """The head of the page: how many claims hold. states: of all jobs."""
    counts = {verdict: sum(each.verdict == verdict for each in judged) for verdict in COUNTED}
    said = ", ".join(f"{count} {COUNTED[verdict][count > 1]}" for verdict, count in counts.items() if count)
    lede = " ".join(filter(None, [study.says, f"Of {count_nouns(len(judged), 'claim')}: {said}." if judged else ""]))
    num_finished = sum(progress.is_finished for progress in states)
    problems = [*list_shared(study), *list_idle(study)]
    if num_finished < len(states):
        problems.append(
            f"{num_finished} of {count_nouns(len(states), 'job is', 'jobs are')} finished: every number is preliminary."
        )
    return Headline(
        title=study.title,
        lede=lede,
        facts=(
            ("Arms", str(len(study.arms))),
            ("Seeds", ", ".join(map(str, sorted({job.seed for job in list_trainings(study)} or study.seeds)))),
            ("Questions", "; ".join(f"{name}: {each.num or 'all'}" for name, each in study.evaluations.items())),
            ("Jobs", f"{num_finished} of {len(states)}"),
        ),
        footer=f"Made by `{command}`.",
        problems=tuple(problems),
    )


def _view_claim(judged: JudgedClaim) -> ClaimView:
    claim, found = judged.claim, judged.estimate
    measure = claim.list_terms()[0][1].measure
    unit = UNITS.get(measure, "")
    missing = " so far" if judged.is_preliminary else ""
    text = f"Expected {show_expectation(claim)}; not measured yet."
    if found is not None:
        mean, low, high = show_estimate(found, measure)
        seeds = f"{count_nouns(found.num_seeds, 'seed')}{missing}, " if found.num_seeds else ""
        text = (
            f"Expected {show_expectation(claim)}; found {mean}{unit} ({low} to {high}) "
            f"with {seeds}{count_nouns(found.num_questions, 'question')}; smallest detectable difference "
            f"{show_difference(found.detectable, measure).lstrip('+')}{unit}. "
            f"p {_compare_p(judged.p_value)}, after Holm {_compare_p(judged.p_corrected)}"
            f"{_list_exact(judged)}."
        )
    return ClaimView(claim.says, claim.source, judged.verdict, text, KINDS[judged.verdict])


def _compare_p(p: float | None) -> str:
    shown = show_p(p or 0.0)
    return shown if shown.startswith("<") else f"= {shown}"


def _list_exact(judged: JudgedClaim) -> str:
    """The exact test of each seed, if there is one."""
    if not judged.seed_p_values:
        return ""
    shown = {seed: show_p(p) for seed, p in judged.seed_p_values}
    if len(set(shown.values())) == 1:
        each = f"{next(iter(shown.values()))}{' with each seed' if len(shown) > 1 else ''}"
    else:
        each = ", ".join(f"seed {seed}: {p}" for seed, p in shown.items())
    return f"; McNemar's exact test, {each}"


def _draw_forests(judged: Sequence[JudgedClaim]) -> Iterator[StudyChart]:
    """A chart of the claims about each kind of measure."""
    kinds: dict[str, list[IntervalRow]] = {}
    for each in judged:
        measure: Measure = each.claim.list_terms()[0][1].measure
        if (found := each.estimate) is None:
            continue
        factor, kind = (100.0, "points") if measure in IN_POINTS else (1.0, measure)
        expected = "" if each.claim.expects == "more" else f" ({show_expectation(each.claim)})"
        row = IntervalRow(
            each.claim.name + expected, factor * found.mean, factor * found.interval.low, factor * found.interval.high,
            KINDS[each.verdict], factor * each.claim.margin,
        )  # fmt: skip
        kinds.setdefault(kind, []).append(row)
    for kind, rows in kinds.items():
        title = "Differences, in points" if kind == "points" else f"Differences of {kind}"
        yield StudyChart(title, "with 95% intervals over seeds and questions", draw_intervals(rows, title))


def _draw_trend(trend: Trend, reader: Reader) -> StudyChart | None:
    """The rows of a trend as lines with intervals; None while nothing has been measured."""
    curves: list[Curve] = []
    for color, (line, row) in enumerate(zip(trend.rows, trend.list_cells(), strict=True)):
        values = [reader.values_of(cell) for cell in row]
        factor = 100 if row[0].measure in IN_POINTS else 1
        points = [
            CurvePoint(x, *(factor * each for each in (found.mean, found.interval.low, found.interval.high)))
            for x, each in enumerate(values, start=1)
            if each.is_known and (found := estimate([each.as_part(1.0)])) is not None
        ]
        if points:
            curves.append(Curve(line.name, color % NUM_COLORS, points, has_dots=True))
    if not curves:
        return None
    span = [AxisSpan("", 1, len(trend.points))]
    names = [line.name for line in trend.rows]
    return StudyChart(
        trend.title, "", draw_curves(curves, span, trend.title, from_zero=False, x_label=trend.x_label), names
    )


def _draw_chart(study: Study, chart: CurveChart, reader: Reader) -> StudyChart | None:
    """A metric over the steps of some arms; None while nothing has been measured."""
    trained = group_trainings(study)
    curves: list[Curve] = []
    longest: Sequence[tuple[str, int]] = ()
    for color, arm in enumerate(chart.arms):
        runs = [run for job in trained[arm] if (run := reader.training_of(job)) is not None]
        seeds = [points for run in runs if (points := _read_points(run, chart.metric))]
        for points in seeds if len(seeds) > 1 else []:
            curves.append(Curve(arm, color % NUM_COLORS, points, style="faint"))
        if seeds:
            steps = sorted({point.x for points in seeds for point in points})
            means = [
                CurvePoint(x, mean)
                for x in steps
                if (mean := mean_of([point.y for points in seeds for point in points if point.x == x])) is not None
            ]
            curves.append(Curve(arm, color % NUM_COLORS, means, has_dots=len(means) < 30))
        for run in runs:
            lengths = [(phase.name, phase.num_planned or len(phase.steps)) for phase in run.phases]
            longest = max(longest, lengths, key=lambda each: sum(length for _, length in each))
    if not curves:
        return None
    ends = list(accumulate((length for _, length in longest), initial=0))
    same = len({tuple(phase.name for phase in trained[arm][0].recipe.phases()) for arm in chart.arms}) == 1
    parts = [AxisSpan(name, ends[place], ends[place + 1]) for place, (name, _) in enumerate(longest)]
    if not same or not parts:
        parts = [AxisSpan("", 0, max(ends[-1], 1))]
    return StudyChart(chart.title, "", draw_curves(curves, parts, chart.title, from_zero=False), chart.arms)


def _read_points(run: TrainingRun, metric: str) -> list[CurvePoint]:
    """A metric of the probes, or else of the steps, over the steps of the whole run."""
    points: list[CurvePoint] = []
    begin = 0
    for phase in run.phases:
        rows = phase.probes if any(value_of(row, metric) is not None for row in phase.probes) else phase.steps
        for row in rows:
            value = value_of(row, metric)
            if value is not None:
                points.append(CurvePoint(begin + row.step, value))
        begin += phase.num_planned or len(phase.steps)
    return points


def _draw_costs(chart: CostChart, reader: Reader) -> StudyChart | None:
    """Accuracy against tokens; None while nothing has been measured."""
    points: list[Point] = []
    for line, cell in zip(chart.points, chart.list_cells(), strict=True):
        accuracy = reader.values_of(cell.model_copy(update={"measure": "accuracy"}))
        tokens = reader.values_of(cell.model_copy(update={"measure": "tokens"}))
        if not (accuracy.is_known and tokens.is_known):
            continue
        shown, cost = estimate([accuracy.as_part(1.0)]), estimate([tokens.as_part(1.0)])
        if shown is not None and cost is not None and cost.mean > 0:
            low, high = max(0.0, shown.interval.low), min(1.0, shown.interval.high)
            points.append(Point(line.name, cost.mean, shown.mean, low, high))
    if not points:
        return None
    return StudyChart(chart.title, "", draw_scatter(points, "tokens per answer", "accuracy, %"))


def _tabulate_jobs(looked: Sequence[tuple[Job, Progress]]) -> Table:
    """List each job with its state and its command."""
    rows: list[tuple[str, ...]] = []
    for job, progress in looked:
        total = "?" if progress.total is None else str(progress.total)
        state = "finished" if progress.is_finished else "begun" if progress.done else "not begun"
        if isinstance(job, FilesJob) and progress.is_finished and not progress.done:
            state = "not needed any more"
        rows.append((job.name, state, f"{progress.done} of {total}", show_command(job)))
    return Table(title="Jobs and their commands", columns=("job", "state", "done", "command"), rows=tuple(rows))
