"""The curves of a training report, and the metrics of the logs that they draw (paper: Figures 6, 9 and 10)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeAlias

from markupsafe import Markup

from p2r.config import is_own_term
from p2r.report.kit.line_chart import AxisSpan, Curve, CurvePoint, draw_curves, smooth, thin
from p2r.runs.training import PhaseRecord, TrainingRun, natural_order
from p2r.runs.training_log import Probe, Step, interval_of, value_of

SMOOTHED_SHARE = 20
"""A curve is a running mean over this fraction (1/20) of a phase's steps."""
MOST_POINTS = 400
"""Most points of a curve that are drawn."""
SHARES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "unjudged": ("num_unjudged", ("num_rollouts",)),
    "truncated": ("num_truncated", ("num_rollouts",)),
    "other_frame": ("num_other_frame", ("num_box_replies",)),
    "failed_rows": ("num_failed_rows", ("num_rows",)),
}
"""Shares that the logs hold as counts: the count, and the counts whose sum it is divided by."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart of one metric of the logs, drawn solid, or of two, the second dashed.

    note: what the two lines are, or what the metric means.
    is_share: the metric is a share of 0 to 1 and is drawn in per cent.
    from_zero: the axis begins at 0.
    """

    title: str
    metric: str
    note: str = ""
    second: str = ""
    is_share: bool = False
    from_zero: bool = True


@dataclass(frozen=True, slots=True)
class Series:
    """One metric of a chart in one phase. begin: steps before the phase. factor: from the log to the axis."""

    metric: str
    style: str
    begin: int
    factor: int


@dataclass(frozen=True, slots=True)
class ChartView:
    """A chart, ready for the page."""

    title: str
    note: str
    drawing: Markup


MakeCurves: TypeAlias = Callable[[str, int, PhaseRecord, Series], list[Curve]]
"""Gives the curves of one series in one phase of one run, which has a name and an index."""

PROBE_CHARTS = (
    Chart("Accuracy, %", "accuracy_p2r", "solid: p2r, dashed: direct", "accuracy_direct", True, False),
    Chart("Hit rate, %", "hit_rate", "the center of some box lies in a gold box", "", True, False),
    Chart("Evidence in the crops, %", "seen_rate", "every gold box lies entirely in a crop", "", True, False),
    Chart("IoU", "mean_iou", "of the best box for each gold box", from_zero=False),
    Chart("Boxes per question", "mean_boxes"),
    Chart("Size of a box, % of the image", "mean_box_area", is_share=True),
)

SUPERVISED_CHARTS = (
    Chart("Loss of demonstrations, nats per token", "loss", "supervised"),
    Chart("Rows that failed, %", "failed_rows", "supervised: left out of their step", is_share=True),
)

ROLLOUT_CHARTS = (
    Chart("Reward", "reward"),
    Chart("Right answers, %", "accuracy", "of the rollouts that were judged", is_share=True),
    Chart("Reward of all rows drawn", "drawn_reward", "with the groups that dynamic sampling left out"),
    Chart("Right answers of all rows drawn, %", "drawn_accuracy", "with the groups that were left out", is_share=True),
    Chart("Hit rate of rollouts, %", "hit_rate", "where the data has boxes", is_share=True),
    Chart("KL divergence, nats per token", "kl", "from the start of the phase"),
    Chart("KL divergence of the resting role, nats per token", "resting_kl", "on its own replies"),
    Chart("Entropy, nats per token", "entropy"),
    Chart("Clipped, % of tokens", "clip_share", is_share=True),
    Chart("Sampling against training", "sampler_diff", "of probabilities; dashed: the largest", "sampler_diff_max"),
    Chart("Length of a reply, tokens", "mean_length", "solid: mean, dashed: longest", "max_length"),
    Chart("Dead groups, %", "dead_groups", "all rewards equal; dashed: fewer than two judged", "dropped_groups", True),
    Chart("Dead groups of all rows drawn, %", "drawn_dead_groups", "all answers right, or all wrong", is_share=True),
    Chart("Different replies, %", "unique_replies", "within a group", is_share=True),
    Chart("Not judged, % of rollouts", "unjudged", "dashed: rows without a group, % of rows", "failed_rows", True),
    Chart("Cut off, % of rollouts", "truncated", "at the token limit", is_share=True),
    Chart("Boxes of another frame, % of replies", "other_frame", "left out: model.frame may be wrong", is_share=True),
    Chart("Boxes per rollout", "mean_boxes"),
    Chart("Size of a box, % of the image", "mean_box_area", is_share=True),
    Chart("Tokens generated per second", "timing/generated_tokens_per_second"),
)

UPDATE_CHARTS = (
    Chart("Gradient norm", "grad_norm", "before clipping"),
    Chart("Learning rate", "lr"),
    Chart("Tokens trained on per second", "timing/trained_tokens_per_second"),
    Chart("Seconds per step", "timing/seconds"),
    Chart("MFU, %", "timing/mfu", "of the update", is_share=True),
)


def draw_probe_charts(runs: Sequence[TrainingRun], names: Sequence[str]) -> list[ChartView]:
    """Charts of the probe's questions, with intervals where they are known; [] without a probe."""

    def dot(name: str, run: int, phase: PhaseRecord, series: Series) -> list[Curve]:
        points = _find_points(phase.probes, series)
        return [Curve(name, run, points, series.style, has_dots=True)] if points else []

    return _draw(PROBE_CHARTS, runs, names, dot)


def draw_step_charts(runs: Sequence[TrainingRun], names: Sequence[str]) -> list[ChartView]:
    """Charts over the steps; a chart with nothing to show is left out."""

    def smooth_out(name: str, run: int, phase: PhaseRecord, series: Series) -> list[Curve]:
        points = _find_points(phase.steps, series)
        return _smooth_curve(name, run, points, series.style, is_alone=len(runs) == 1)

    def only(is_supervised: bool) -> MakeCurves:
        return lambda name, run, phase, series: (
            smooth_out(name, run, phase, series) if phase.is_supervised == is_supervised else []
        )

    return [
        *_draw(SUPERVISED_CHARTS, runs, names, only(True)),
        *_draw((*ROLLOUT_CHARTS, *_list_terms(runs)), runs, names, only(False)),
        *_draw(UPDATE_CHARTS, runs, names, smooth_out),
    ]


def _draw(
    charts: Sequence[Chart],
    runs: Sequence[TrainingRun],
    names: Sequence[str],
    make: MakeCurves,
) -> list[ChartView]:
    """Draw each chart that has a curve."""
    begins, parts = _lay_out(runs)
    views: list[ChartView] = []
    for chart in charts:
        curves = [
            curve
            for index, (run, name) in enumerate(zip(runs, names, strict=True))
            for phase in run.phases
            for series in _list_series(chart, begins[index][phase.name])
            for curve in make(name, index, phase, series)
        ]
        if curves:
            drawing = draw_curves(curves, parts, f"{chart.title} over the steps", from_zero=chart.from_zero)
            views.append(ChartView(chart.title, chart.note, drawing))
    return views


def _smooth_curve(name: str, run: int, points: Sequence[CurvePoint], style: str, *, is_alone: bool) -> list[Curve]:
    """The running mean and, if the run is the only one, behind it the curve that it is the mean of."""
    if not points:
        return []
    window = 2 * (len(points) // SMOOTHED_SHARE // 2) + 1
    mean = Curve(name, run, thin(smooth(points, window), MOST_POINTS), style)
    shows_all = is_alone and window > 1 and style == "solid"
    return [*([Curve(name, run, thin(points, MOST_POINTS), "faint")] if shows_all else []), mean]


def _list_series(chart: Chart, begin: int) -> list[Series]:
    metrics = [(chart.metric, "solid"), *([(chart.second, "dashed")] if chart.second else [])]
    return [Series(metric, style, begin, 100 if chart.is_share else 1) for metric, style in metrics]


def _find_points(rows: Sequence[Step | Probe], series: Series) -> list[CurvePoint]:
    points: list[CurvePoint] = []
    for row in rows:
        value, interval = _read(row, series.metric), interval_of(row, series.metric)
        if value is not None:
            low, high = (series.factor * interval[0], series.factor * interval[1]) if interval else (None, None)
            points.append(CurvePoint(series.begin + row.step, series.factor * value, low, high))
    return points


def _read(row: Step | Probe, metric: str) -> float | None:
    if metric not in SHARES:
        return value_of(row, metric)
    part, parts = SHARES[metric]
    num, nums = value_of(row, part), [value_of(row, name) or 0 for name in parts]
    return num / sum(nums) if num is not None and sum(nums) else None


def _list_terms(runs: Sequence[TrainingRun]) -> list[Chart]:
    """Charts of the reward's terms besides the answer; a term that is 0 in every step is left out."""
    rows = [row for run in runs for phase in run.phases for row in phase.steps]
    names = {name for row in rows for name in row.terms}
    shown = [name for name in sorted(names - {"correct"}) if any(value_of(row, f"terms/{name}") for row in rows)]
    return [Chart(f"Reward term: {name_term(name)}", f"terms/{name}") for name in shown]


def name_term(name: str) -> str:
    """Return a term's name in words; a function of the user's keeps the name by which the recipe calls it."""
    return name if is_own_term(name) else name.replace("_", " ")


def _lay_out(runs: Sequence[TrainingRun]) -> tuple[list[dict[str, int]], list[AxisSpan]]:
    """Return, for each run, the steps before each of its phases; and the parts of the x axis.

    Phases that all runs share are aligned. Runs with different phases, such as controls, are laid over each other from
    their first step.
    """
    if _have_same_phases(runs):
        places = place_phases(runs)
        begins = [{name: begin for name, (begin, _) in places.items()}] * len(runs)
        return begins, [AxisSpan(name, begin, end) for name, (begin, end) in places.items()]
    own = [place_phases([run]) for run in runs]
    end = max((end for places in own for _, end in places.values()), default=0)
    return [{name: begin for name, (begin, _) in places.items()} for places in own], [AxisSpan("", 0, end)]


def place_phases(runs: Sequence[TrainingRun]) -> dict[str, tuple[int, int]]:
    """First and last step of each phase that some run has begun, by name; all runs share them."""
    lengths: dict[str, int] = {}
    for run in runs:
        for phase in run.phases:
            steps = [row.step for row in (*phase.steps, *phase.probes)]
            lengths[phase.name] = max(lengths.get(phase.name, 0), *steps, 0)
    names = sorted(lengths, key=natural_order)
    ends = list(accumulate(lengths[name] for name in names))
    return {name: (end - lengths[name], end) for name, end in zip(names, ends, strict=True)}


def _have_same_phases(runs: Sequence[TrainingRun]) -> bool:
    """Tell runs of one schedule, such as several seeds, from a schedule and its control."""
    return len({tuple(phase.name for phase in run.recipe.phases()) for run in runs}) == 1
