"""All figures of one run, as tables: accuracy by every scorer, rotations, letters, boxes, troubles, cost.

Aggregation is the benchmark's own (see `aggregate`). Every share stands with what it was counted from, the accuracy of
guessing and a 95% interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from p2r.answers import Scorer
from p2r.evaluation.aggregate import (
    MME_COLUMNS,
    aggregate_categories,
    aggregate_cycles,
    aggregate_mme,
)
from p2r.evaluation.breakdowns import (
    tabulate_boxes,
    tabulate_hits,
    tabulate_letters,
    tabulate_rotations,
    tabulate_troubles,
)
from p2r.evaluation.cost import tabulate_cost
from p2r.evaluation.scoring import ScoredRow, ScoredRun, chance_of, has_clusters, interval_of, share_of, to_scored
from p2r.evaluation.tables import Table, show_interval, show_share
from p2r.modes import LOOKING
from p2r.statistics import Interval, find_detectable_difference, mean_of


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a benchmark: all its samples, or one category.

    rows: what was judged.
    score: by the benchmark's own aggregation, 0 to 1; None without a judged sample.
    """

    rows: tuple[ScoredRow, ...]
    num_correct: int
    chance: float | None
    score: float | None
    interval: Interval | None


def make_scorecard(run: ScoredRun) -> list[Table]:
    """Every table that applies to the run."""
    tables = [_tabulate_accuracy(run)]
    rows = run.judged("robust")
    if rows and all(row.facts.cycle is not None for row in rows):
        tables.append(tabulate_rotations(run))
    if any(row.trace.options for row in rows):
        tables.append(tabulate_letters(rows))
    looked = [row for row in run.rows if row.facts.gold_boxes and row.trace.perception is not None]
    if looked and run.run.settings.get("mode") in LOOKING:
        tables += [tabulate_boxes(looked), tabulate_hits([row for row in rows if row.facts.gold_boxes])]
    tables.append(tabulate_troubles(run))
    tables.append(tabulate_cost(run))
    return tables


def find_disagreements(run: ScoredRun) -> dict[str, dict[str, str | None]]:
    """Samples that some scorers have right and others wrong: id -> scorer -> the answer it read."""
    return {
        row.facts.sample_id: {
            scorer: answer.letter if row.trace.answer_form == "choice" else answer.text
            for scorer, answer in row.answers.items()
        }
        for row in run.rows
        if len({verdict.correct for verdict in row.verdicts.values()}) > 1
    }


def group_rows(run: ScoredRun, scorer: Scorer) -> dict[str, list[ScoredRow]]:
    """The benchmark's columns: all rows first, then its categories."""
    rows = run.judged(scorer)
    if str(run.run.settings.get("benchmark", "")).startswith("mme_realworld"):
        names = {
            f"{task}/{full}": f"{task} {short}"
            for task in ("Perception", "Reasoning")
            for short, full in MME_COLUMNS.items()
        }
        groups = {"Overall": rows}
        groups |= {name: [row for row in rows if row.facts.category == full] for full, name in names.items()}
        groups |= {
            task: [row for row in rows if row.facts.category.startswith(f"{task}/")]
            for task in ("Perception", "Reasoning")
        }
        return {name: group for name, group in groups.items() if group or name == "Overall"}
    categories = sorted({row.facts.category for row in rows} - {""})
    groups = {"overall": rows}
    if len(categories) > 1:
        groups |= {name: [row for row in rows if row.facts.category == name] for name in categories}
    return groups


def score_columns(run: ScoredRun, scorer: Scorer = "robust") -> dict[str, Column]:
    """The benchmark's columns with their scores, the whole first."""
    shares = _aggregate(run, scorer)
    return {
        name: Column(
            rows=tuple(rows),
            num_correct=sum(row.verdicts[scorer].correct for row in rows),
            chance=chance_of(rows),
            score=shares.get(name) if rows else None,
            interval=interval_of(rows, scorer) if rows else None,
        )
        for name, rows in group_rows(run, scorer).items()
    }


def _tabulate_accuracy(run: ScoredRun) -> Table:
    by_scorer = {scorer: score_columns(run, scorer) for scorer in run.scorers}
    main = by_scorer[run.scorers[0]]
    disagreements = find_disagreements(run)
    columns = ["", "n", "chance"]
    for scorer in run.scorers:
        columns += [scorer, "95% interval"]
    rows: list[tuple[str, ...]] = []
    for name, column in main.items():
        cells = [name, str(len(column.rows)), show_share(column.chance)]
        for scorer in run.scorers:
            found = by_scorer[scorer].get(name)
            cells += [show_share(found.score if found else None), show_interval(found.interval if found else None)]
        rows.append((*cells, str(sum(row.facts.sample_id in disagreements for row in column.rows))))
    whole = next(iter(main.values())).rows
    num_open = len(run.run.facts) - len(whole)
    notes = [_explain_interval(whole), _explain_power(run)]
    if num_open:
        notes.append(f"{num_open} of {len(run.run.facts)} samples have no verdict and are not counted.")
    if disagreements:
        shown = ", ".join(list(disagreements)[:10])
        notes.append(
            f"The scorers disagree on {len(disagreements)} samples: {shown}{', ...' if len(disagreements) > 10 else ''}"
        )
    if len(run.scorers) == 1:
        return Table(
            title=_title(run), columns=tuple(columns), rows=tuple(row[:-1] for row in rows), notes=tuple(notes)
        )
    return Table(title=_title(run), columns=(*columns, "differ"), rows=tuple(rows), notes=tuple(notes))


def _title(run: ScoredRun) -> str:
    what = "Acc@0.5 of the first box" if run.run.settings.get("scored_by") == "box" else "Accuracy"
    return f"{what}: {run.run.name}"


def _aggregate(run: ScoredRun, scorer: Scorer) -> Mapping[str, float | None]:
    """The official score of each column, 0 to 1."""
    scored = [to_scored(row, scorer) for row in run.judged(scorer)]
    if not scored:
        return {}
    if str(run.run.settings.get("benchmark", "")).startswith("mme_realworld"):
        return {name: share_of(share.percent) for name, share in aggregate_mme(scored).items()}
    if all(row.cycle is not None for row in scored):
        return {name: share_of(table.official) for name, table in aggregate_cycles(scored).items()}
    return {name: share_of(share.percent) for name, share in aggregate_categories(scored).items()}


def _explain_interval(rows: Sequence[ScoredRow]) -> str:
    if has_clusters(rows):
        return "Intervals: bootstrap over questions, whose rotations are not independent (10,000 draws, seed 0)."
    return "Intervals: Wilson."


def _explain_power(run: ScoredRun) -> str:
    """How large a difference another run could show."""
    rows = run.judged(run.scorers[0])
    num = len({row.cluster or row.facts.sample_id for row in rows})
    accuracy = mean_of([float(row.verdicts[run.scorers[0]].correct) for row in rows])
    if accuracy is None:
        return "Nothing was judged."
    least = find_detectable_difference(num, 2 * accuracy * (1 - accuracy))
    if least is None:
        return f"{num} independent questions are too few to show a difference to an unrelated run at 80% power."
    return (
        f"Smallest difference to an unrelated run of like accuracy that {num} independent questions show at 80% power: "
        f"{100 * least:.1f} points; paired runs that agree on more samples show smaller ones."
    )
