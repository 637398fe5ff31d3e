"""A study's tables: claims, cells laid out as the paper's, and objections with what the study says to each."""

from __future__ import annotations

import math
from collections.abc import Sequence

from p2r.errors import count_nouns
from p2r.evaluation.compare import show_p
from p2r.evaluation.tables import MISSING, Table, show_number, show_share
from p2r.statistics import Estimate, estimate
from p2r.studies.cells import IN_POINTS, Measure
from p2r.studies.claims import StudyClaim
from p2r.studies.measure import CellValues, Reader
from p2r.studies.shown import PaperTable, StudyTable
from p2r.studies.study import Study
from p2r.studies.verdicts import JudgedClaim


def tabulate_paper(title: str, paper: PaperTable | None) -> list[Table]:
    """The paper's own table; [] where there is none."""
    return [] if paper is None else [Table(title=f"{title}: the paper", columns=paper.columns, rows=paper.rows)]


def tabulate_claims(judged: Sequence[JudgedClaim]) -> Table:
    """A row for each claim: what was expected, what was found, and the verdict."""
    return Table(
        title="Claims",
        columns=(
            "claim", "expected", "found", "95% interval", "seeds", "n", "p", "Holm", "p of each seed",
            "could have seen", "verdict",
        ),
        rows=tuple(_claim_row(each) for each in judged),
        notes=(
            "Claims are part of the study's file. Found: the difference of the means over seeds and questions, in "
            "points for shares. Interval and p hold both seeds and questions: both are drawn again, and few seeds "
            "widen them by Student's quantile. p of each seed: McNemar's exact test on that seed's questions alone. "
            "Holm: p after correction over all claims; a claim is decided when it is below 0.05. Could have seen: the "
            "smallest difference that would have been found with 80% power.",
        ),
    )  # fmt: skip


def _claim_row(judged: JudgedClaim) -> tuple[str, ...]:
    claim, found = judged.claim, judged.estimate
    measure = claim.list_terms()[0][1].measure
    if found is None:
        return (claim.name, show_expectation(claim), *[MISSING] * 8, judged.verdict)
    missing = " so far" if judged.is_preliminary else ""
    mean, low, high = show_estimate(found, measure)
    return (
        claim.name,
        show_expectation(claim),
        mean,
        f"{low} to {high}",
        f"{found.num_seeds or MISSING}{missing}",
        str(found.num_questions),
        show_p(judged.p_value or 0.0),
        show_p(judged.p_corrected or 0.0),
        ", ".join(show_p(p) for _, p in judged.seed_p_values) or MISSING,
        show_difference(found.detectable, measure).lstrip("+"),
        judged.verdict,
    )


def tabulate_cells(table: StudyTable, reader: Reader) -> Table:
    """A table of means, each with its interval, questions and seeds."""
    rows: list[tuple[str, ...]] = []
    values = [[reader.values_of(cell) for cell in row] for row in table.list_cells()]
    for line, row in zip(table.rows, values, strict=True):
        rows.append((line.name, *(show_cell(each) for each in row)))
    cells = [each for row in values for each in row]
    chances = [each.chance for each in cells if each.chance is not None]
    notes = [table.note] if table.note else []
    notes.append("Each cell: the mean, and its 95% interval over seeds and questions.")
    notes.append(describe_sizes(cells))
    if chances:
        notes.append(describe_chance(chances))
    if num_failed := sum(each.num_failed for each in cells if each.cell.measure == "accuracy"):
        notes.append(f"{count_nouns(num_failed, 'answer')} failed, and are neither right nor wrong.")
    return Table(
        title=table.title,
        columns=("", *(column.name for column in table.columns)),
        rows=tuple(rows),
        notes=tuple(notes),
    )


def describe_chance(chances: Sequence[float]) -> str:
    """Say which shares guessing answers, from the lowest to the highest."""
    ends = dict.fromkeys(show_share(each) for each in (min(chances), max(chances)))
    return f"Guessing reaches {' to '.join(ends)}."


def describe_sizes(cells: Sequence[CellValues]) -> str:
    """Say how many questions and seeds the cells have."""
    if not any(each.seeds for each in cells):
        return "Nothing has been measured yet."
    questions = sorted({each.values_SQ.shape[1] for each in cells if each.seeds})
    seeds = sorted({len(each.seeds) for each in cells if each.seeds not in ((), (None,))})
    parts = [f"n is {' to '.join(map(str, dict.fromkeys((questions[0], questions[-1]))))}"]
    if seeds:
        fewest = "" if seeds[0] == seeds[-1] else f"{seeds[0]} to "
        parts.append(f"trained arms have {fewest}{count_nouns(seeds[-1], 'seed')}")
    if unfinished := sum(len(each.seeds) < each.num_seeds_planned for each in cells):
        parts.append(f"{count_nouns(unfinished, 'cell lacks', 'cells lack')} some seed so far")
    return f"{'; '.join(parts)}."


def tabulate_objections(study: Study, judged: Sequence[JudgedClaim]) -> Table:
    """Put beside each doubt of readers what the study says to it."""
    by_name = {each.claim.name: each for each in judged}
    rows = [
        (
            objection.says if place == 0 else "",
            by_name[name].claim.says,
            show_found(by_name[name]),
            by_name[name].verdict,
        )
        for objection in study.objections
        for place, name in enumerate(objection.claims)
    ]
    return Table(
        title="What was objected, and what the study says",
        columns=("objection", "what was tested", "found", "verdict"),
        rows=tuple(rows),
    )


def show_found(judged: JudgedClaim) -> str:
    """A claim's difference with its interval; a dash while it is not measured."""
    if judged.estimate is None:
        return MISSING
    mean, low, high = show_estimate(judged.estimate, judged.claim.list_terms()[0][1].measure)
    return f"{mean} [{low}, {high}]"


def show_estimate(found: Estimate, measure: Measure) -> tuple[str, str, str]:
    """A difference, and the lower and the upper end of its interval."""
    interval = found.interval
    return (
        show_difference(found.mean, measure),
        show_difference(interval.low, measure),
        show_difference(interval.high, measure),
    )


def show_expectation(claim: StudyClaim) -> str:
    """Say what a claim expects, such as "more than +3.0"."""
    measure = claim.list_terms()[0][1].measure
    margin = show_difference(claim.margin, measure)
    return {
        "more": f"more than {margin if claim.margin else '0'}",
        "less": f"less than {'-' + margin.lstrip('+') if claim.margin else '0'}",
        "alike": f"within {margin.lstrip('+')}",
    }[claim.expects]


def show_difference(value: float, measure: Measure) -> str:
    """A difference, in points for shares."""
    if measure in IN_POINTS:
        return _show_signed(100 * value, 1)
    return _show_signed(value, 0 if measure == "tokens" else 3)


def _show_signed(value: float, digits: int) -> str:
    """A number with its sign; 0 has none."""
    rounded = round(value, digits)
    return f"{rounded:+.{digits}f}" if rounded else f"{0:.{digits}f}"


def show_mean(value: float, measure: Measure) -> str:
    """A mean, in per cent for shares."""
    if measure in IN_POINTS:
        return f"{100 * value:.1f}%"
    return show_number(value, 0 if measure == "tokens" else 3)


def show_cell(values: CellValues) -> str:
    """A mean with its interval; a dash while there is none."""
    found = estimate([values.as_part(1.0)]) if values.is_known else None
    if found is None:
        return MISSING
    most = 1.0 if values.cell.measure in IN_POINTS else math.inf
    ends = (max(0.0, found.interval.low), min(most, found.interval.high))
    low, high = (show_mean(each, values.cell.measure).rstrip("%") for each in ends)
    return f"{show_mean(found.mean, values.cell.measure)} [{low}, {high}]"
