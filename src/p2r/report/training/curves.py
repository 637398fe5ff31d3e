"""Which curves a training report shows, and where their figures stand in the logs (paper: Figures 6, 9 and 10)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from p2r.report.kit.line_chart import Curve, CurvePoint, Part, draw_curves, smooth, thin
from p2r.report.training.run import have_same_phases, place_phases
from p2r.runs.training import PhaseRecord, Probe, Step, TrainingRun, interval_of, value_of

SMOOTHED_SHARE = 20
"""A mean goes over this part of a phase's steps."""
MOST_POINTS = 400
"""Of a curve, drawn."""
GENERATED, TRAINED = "timing/generated_tokens_per_second", "timing/trained_tokens_per_second"
SHARES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "unjudged": ("num_unjudged", ("num_rollouts",)),
    "truncated": ("num_truncated", ("num_rollouts",)),
    "failed_rows": ("num_failed_rows", ("num_failed_rows", "num_groups")),
}
"""Shares that are logged as counts: of what, and of which sum."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart of one figure of the logs, drawn solid, or of two, the second dashed.

    note: what the two are, or what the figure is.
    is_share: 0 to 1, drawn in per cent.
    from_zero: its axis begins at 0.
    """

    title: str
    figure: str
    note: str = ""
    second: str = ""
    is_share: bool = False
    from_zero: bool = True


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a chart in one phase. begin: steps before the phase. factor: from the log to the axis."""

    name: str
    style: str
    begin: int
    factor: int


@dataclass(frozen=True, slots=True)
class ChartView:
    """A chart, ready for the page."""

    title: str
    note: str
    drawing: Markup


PROBE_CHARTS = (
    Chart("Accuracy, %", "accuracy_p2r", "solid p2r, dashed direct", "accuracy_direct", True, False),
    Chart("Hit rate, %", "hit_rate", "the center of a box lies in a gold box", "", True, False),
    Chart("Evidence in the crops, %", "seen_rate", "every gold box lies wholly in a crop", "", True, False),
    Chart("IoU", "mean_iou", "of the best box for each gold box", from_zero=False),
    Chart("Boxes a question", "mean_boxes"),
    Chart("Size of a box, % of the image", "mean_box_area", is_share=True),
)

STEP_CHARTS = (
    Chart("Reward", "reward"),
    Chart("Right answers, %", "accuracy", "of the rollouts that were judged", is_share=True),
    Chart("Hit rate of rollouts, %", "hit_rate", "where the data has boxes", is_share=True),
    Chart("KL divergence, nats a token", "kl", "from where the phase began"),
    Chart("Entropy, nats a token", "entropy"),
    Chart("Clipped, % of the tokens", "clip_share", is_share=True),
    Chart("Gradient norm", "grad_norm", "before it is clipped"),
    Chart("Length of a reply, tokens", "mean_length", "solid the mean, dashed the longest", "max_length"),
    Chart("Dead groups, %", "dead_groups", "rewards all alike; dashed: under two judged", "dropped_groups", True),
    Chart("Unique evidence, %", "unique_replies", "replies that differ within their group", is_share=True),
    Chart("Not judged, % of the rollouts", "unjudged", "dashed: rows without a group", "failed_rows", True),
    Chart("Cut off, % of the rollouts", "truncated", "at the limit of tokens", is_share=True),
    Chart("Boxes a rollout", "mean_boxes"),
    Chart("Size of a box, % of the image", "mean_box_area", is_share=True),
    Chart("Learning rate", "lr"),
    Chart("Tokens a second", GENERATED, "solid generated, dashed learned from", TRAINED),
    Chart("Seconds a step", "timing/seconds"),
    Chart("MFU, %", "timing/mfu", "of the update", is_share=True),
)


def draw_probe_charts(runs: Sequence[TrainingRun], names: Sequence[str]) -> list[ChartView]:
    """What was seen on the probe's questions, with intervals where they are known. [] without a probe."""

    def dot(name: str, place: int, phase: PhaseRecord, figure: Figure) -> list[Curve]:
        points = _find_points(phase.probes, figure)
        return [Curve(name, place, points, figure.style, has_dots=True)] if points else []

    return _draw(PROBE_CHARTS, runs, names, dot)


def draw_step_charts(runs: Sequence[TrainingRun], names: Sequence[str]) -> list[ChartView]:
    """What each step looked like; a chart that has nothing to show is left out."""

    def smooth_out(name: str, place: int, phase: PhaseRecord, figure: Figure) -> list[Curve]:
        points = _find_points(phase.steps, figure)
        return _smooth_curve(name, place, points, figure.style, is_alone=len(runs) == 1)

    return _draw((*STEP_CHARTS, *_list_terms(runs)), runs, names, smooth_out)


def _draw(
    charts: Sequence[Chart],
    runs: Sequence[TrainingRun],
    names: Sequence[str],
    make: Callable[[str, int, PhaseRecord, Figure], list[Curve]],
) -> list[ChartView]:
    """Each chart that has a curve. make: the curves of one figure in one phase of one run (its name, its place)."""
    begins, parts = _lay_out(runs)
    views: list[ChartView] = []
    for chart in charts:
        curves = [
            curve
            for place, (run, name) in enumerate(zip(runs, names, strict=True))
            for phase in run.phases
            for figure in _list_figures(chart, begins[place][phase.name])
            for curve in make(name, place, phase, figure)
        ]
        if curves:
            drawing = draw_curves(curves, parts, f"{chart.title} over the steps", from_zero=chart.from_zero)
            views.append(ChartView(chart.title, chart.note, drawing))
    return views


def _smooth_curve(name: str, place: int, points: Sequence[CurvePoint], style: str, *, is_alone: bool) -> list[Curve]:
    """The mean, and behind it, where it is alone, what it is the mean of."""
    if not points:
        return []
    window = 2 * (len(points) // SMOOTHED_SHARE // 2) + 1
    mean = Curve(name, place, thin(smooth(points, window), MOST_POINTS), style)
    shows_all = is_alone and window > 1 and style == "solid"
    return [*([Curve(name, place, thin(points, MOST_POINTS), "faint")] if shows_all else []), mean]


def _list_figures(chart: Chart, begin: int) -> list[Figure]:
    names = [(chart.figure, "solid"), *([(chart.second, "dashed")] if chart.second else [])]
    return [Figure(name, style, begin, 100 if chart.is_share else 1) for name, style in names]


def _find_points(rows: Sequence[Step | Probe], figure: Figure) -> list[CurvePoint]:
    points: list[CurvePoint] = []
    for row in rows:
        value, interval = _read(row, figure.name), interval_of(row, figure.name)
        if value is not None:
            low, high = (figure.factor * interval[0], figure.factor * interval[1]) if interval else (None, None)
            points.append(CurvePoint(figure.begin + row.step, figure.factor * value, low, high))
    return points


def _read(row: Step | Probe, figure: str) -> float | None:
    if figure not in SHARES:
        return value_of(row, figure)
    part, parts = SHARES[figure]
    num, nums = value_of(row, part), [value_of(row, name) or 0 for name in parts]
    return num / sum(nums) if num is not None and sum(nums) else None


def _list_terms(runs: Sequence[TrainingRun]) -> list[Chart]:
    """Terms of the reward besides its first, the answer; those that are 0 in every step are left out."""
    rows = [row for run in runs for phase in run.phases for row in phase.steps]
    names = {name for row in rows for name in row.terms}
    shown = [name for name in sorted(names - {"correct"}) if any(value_of(row, f"terms/{name}") for row in rows)]
    return [Chart(f"Reward term: {name.replace('_', ' ')}", f"terms/{name}") for name in shown]


def _lay_out(runs: Sequence[TrainingRun]) -> tuple[list[dict[str, int]], list[Part]]:
    """For each run the steps before each of its phases, and the parts of the x axis.

    The same phases lie one below the other; runs with other phases, such as controls, are laid over each other from
    their first steps.
    """
    if have_same_phases(runs):
        places = place_phases(runs)
        begins = [{name: begin for name, (begin, _) in places.items()}] * len(runs)
        return begins, [Part(name, begin, end) for name, (begin, end) in places.items()]
    own = [place_phases([run]) for run in runs]
    end = max((end for places in own for _, end in places.values()), default=0)
    return [{name: begin for name, (begin, _) in places.items()} for places in own], [Part("", 0, end)]
