"""Several systems as the paper's Tables 1 and 2 lay them out, with the published numbers beside what was measured here.

A measured cell has its score, a 95% interval and the number of questions. A published one has its value, in italics,
and its row says where it is printed. Numbers in brackets lead to the notes: how a protocol differs, and why a value is
missing or wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from p2r.benchmarks.load import count_published
from p2r.evaluation.scorecard import Column, score_columns
from p2r.evaluation.scoring import ScoredRun
from p2r.evaluation.tables import MISSING, CellKind, Table
from p2r.report.evaluation.layouts import Place, TableLayout, list_layouts
from p2r.report.evaluation.measured import Measured, mark_best, show_average, show_measured
from p2r.report.evaluation.protocols import REASONSEG, explain_run, explain_system, title_of
from p2r.report.evaluation.published import NUM_SAMPLES, PublishedRow, choose_scorer, read_published
from p2r.report.evaluation.systems import CHAT, GENERAL, GROUPS, OURS, SEARCH, System

_GROUP_OF = {"DyFo": SEARCH, "ZoomEye": SEARCH, "P2R": OURS} | dict.fromkeys(
    ("DeepEyes", "PixelReasoner", "Thyme", "Mini-o3", "TreeVGR"), CHAT
)
"""The groups of published systems, by their names without a size."""


class Notes:
    """Numbered notes; the same sentence has one number."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def mark(self, texts: Iterable[str]) -> str:
        """Return the numbers of these notes in brackets, "" without any."""
        numbers: list[int] = []
        for text in texts:
            if text not in self.texts:
                self.texts.append(text)
            numbers.append(self.texts.index(text) + 1)
        return f" [{', '.join(map(str, sorted(set(numbers))))}]" if numbers else ""

    def list(self) -> list[str]:
        return [f"[{number}] {text}." for number, text in enumerate(self.texts, start=1)]


def lay_out(systems: Sequence[System]) -> list[Table]:
    """The tables that these systems have a place in: the paper's Table 1, its Table 2, and other benchmarks.

    The last only where someone else has published a number, or there are several such benchmarks.
    """
    asked = list(dict.fromkeys(benchmark for system in systems for benchmark in system.runs))
    published = read_published().rows
    *paper, others = list_layouts([name for name in asked if name in (*NUM_SAMPLES, "needles", REASONSEG)])
    found: list[Table] = []
    for layout in (*paper, others):
        own = [system for system in systems if set(system.runs) & set(layout.benchmarks)]
        rows = [row for row in published if row.benchmark in layout.benchmarks and _belongs(row)]
        if own and (rows or layout is not others or len(others.places) > 1):
            found.append(_tabulate(layout, own, rows))
    return found


def _find_column(columns: Mapping[str, Column], place: Place) -> Column | None:
    """Return what was scored in a column; questions of one category have no column of their own beside the whole."""
    whole = next(iter(columns.values()), None)
    if whole is not None and whole.rows and all(row.facts.category == place.column for row in whole.rows):
        return whole
    return columns.get(place.column)


def _list_kinds(is_best: Sequence[bool], layout: TableLayout) -> tuple[CellKind, ...]:
    plain: tuple[CellKind, ...] = ("",)
    return (*plain, *("best" if best else "" for best in is_best), *(plain * layout.has_average))


def _belongs(row: PublishedRow) -> bool:
    """Tell whether a published row is of a system, as those of Tables 1, 2 and 4: the others compare parts of it."""
    return row.table in ("Table 1", "Table 2", "Table 4") or not row.is_from_paper


def _tabulate(layout: TableLayout, systems: Sequence[System], published: Sequence[PublishedRow]) -> Table:
    scores = {
        (system.name, benchmark): score_columns(run, choose_scorer(run))
        for system in systems
        for benchmark, run in system.runs.items()
        if benchmark in layout.benchmarks
    }
    grid: list[list[Measured | None]] = []
    for system in systems:
        found = [_find_column(scores.get((system.name, place.benchmark), {}), place) for place in layout.places]
        grid.append(
            [
                Measured(system.runs[place.benchmark], column) if column and column.score is not None else None
                for place, column in zip(layout.places, found, strict=True)
            ]
        )
    is_best = mark_best(layout, grid)
    notes, rows, kinds, headings = Notes(), list[tuple[str, ...]](), list[tuple[CellKind, ...]](), dict[int, str]()
    order = list(dict.fromkeys(row.method for row in published))
    methods = sorted(dict.fromkeys((row.method, row.table) for row in published), key=lambda each: order.index(each[0]))
    firsts = {name: next(s.runs[name] for s in systems if name in s.runs) for name in layout.benchmarks}
    chances = _show_chances(layout, grid)
    if set(chances[1:]) != {MISSING}:
        rows.append(chances)
        kinds.append(("",) * len(chances))
    for group in GROUPS:
        start = len(rows)
        for method, table in methods:
            if _GROUP_OF.get(method.rpartition("-")[0], GENERAL) == group:
                own = {row.benchmark: row for row in published if (row.method, row.table) == (method, table)}
                rows.append(_show_published(layout, own, notes))
                kinds.append(("published",) * len(rows[-1]))
        for k, system in enumerate(systems):
            if system.group == group:
                rows.append(_show_system(layout, system, grid[k], firsts, notes))
                kinds.append(_list_kinds(is_best[k], layout))
        if len(rows) > start:
            headings[start] = group
    above: dict[str, int] = {}
    for place in layout.places:
        above[place.above] = above.get(place.above, 0) + 1
    columns = [place.name for place in layout.places]
    return Table(
        title=f"{layout.title}, in per cent",
        columns=("system", *columns, *(["mean"] if layout.has_average else [])),
        rows=tuple(rows),
        notes=(*_explain(layout, is_best), *notes.list()),
        above=(*above.items(), *([("", 1)] if layout.has_average else [])) if list(above) != [""] else (),
        headings=headings,
        kinds=tuple(kinds),
    )


def _show_chances(layout: TableLayout, grid: Sequence[Sequence[Measured | None]]) -> tuple[str, ...]:
    """The row of what guessing scores on the first system's questions in each column."""
    columns = [[row[k] for row in grid] for k in range(len(layout.places))]
    found = [next((cell.column.chance for cell in cells if cell is not None), None) for cells in columns]
    shown = [MISSING if chance is None else f"{100 * chance:.1f}" for chance in found]
    return ("chance\nguessing, here", *shown, *([MISSING] if layout.has_average else []))


def _show_published(layout: TableLayout, own: Mapping[str, PublishedRow], notes: Notes) -> tuple[str, ...]:
    first = next(iter(own.values()))
    cells: list[str] = []
    for place in layout.places:
        row = own.get(place.benchmark)
        value = row.values.get(place.column) if row else None
        slip = row.slips.get(place.column) if row else None
        cells.append(MISSING if value is None else f"{value:.1f}{notes.mark([slip] if slip else [])}")
    if layout.has_average:
        wholes = [own[name].values.get("overall") if name in own else None for name in layout.benchmarks]
        known = [value for value in wholes if value is not None]
        cells.append(f"{math.fsum(known) / len(known):.1f}" if len(known) == len(wholes) else MISSING)
    source = f"{first.table} of the paper" if first.is_from_paper else first.table
    return (f"{first.method}\n{source}", *cells)


def _show_system(
    layout: TableLayout,
    system: System,
    cells: Sequence[Measured | None],
    firsts: Mapping[str, ScoredRun],
    notes: Notes,
) -> tuple[str, ...]:
    wholes = [cell for place, cell in zip(layout.places, cells, strict=True) if place.is_whole]
    about = explain_system(system, layout.benchmarks)
    for name, whole in zip(layout.benchmarks, wholes, strict=True):
        if name in system.runs:
            num = whole.num_questions if whole else 0
            origin = system.runs[name].origin
            published = NUM_SAMPLES.get(name) or (count_published(origin.spec, origin.split) if origin else None)
            about += explain_run(system.runs[name], num, published, firsts[name])
    empty = [
        " ".join(dict.fromkeys(filter(None, (title_of(place.benchmark), place.above, place.name))))
        for place, cell in zip(layout.places, cells, strict=True)
        if cell is None and not place.is_whole and wholes[layout.benchmarks.index(place.benchmark)] is not None
    ]
    about += [f"-: no judged question of {', '.join(empty)}"] if empty else []
    shown = [show_measured(cell) for cell in cells]
    if layout.has_average:
        shown.append(show_average([cell for cell in wholes if cell is not None], len(layout.benchmarks)))
    return (f"{system.name}{notes.mark(about)}\nmeasured here", *shown)


def _explain(layout: TableLayout, is_best: Sequence[Sequence[bool]]) -> list[str]:
    paper = read_published().paper
    notes = [
        "Measured here: the score, its 95% interval, and n, the questions with a verdict. Replies are read as the "
        "authors' release reads them, and those in another system's dialect by the default scorer.",
        f"In italics: published values, with where they are printed; the paper is {paper}. They have no interval, "
        "because their replies are not known. A dash there: no value is printed.",
    ]
    if len(is_best) > 1:
        notes.append(
            "Bold: the highest of the scores measured here, where the exact test for pairs finds it better than every "
            "other (p < 0.05, by Holm's correction over the overall columns, and over the categories). "
            + ("Published values are not tested." if any(map(any, is_best)) else "There is none.")
        )
    return notes
