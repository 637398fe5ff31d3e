"""All metrics of one run, as tables: accuracy by every scorer, rotations, letters, boxes, troubles, cost.

Aggregation is the benchmark's own (see `aggregate`). Every share is shown with its n, the accuracy of guessing and a
95% interval.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from p2r.answers import Scorer
from p2r.boxes.other_frame import explain_frame
from p2r.errors import count_nouns
from p2r.evaluation.aggregate import aggregate
from p2r.evaluation.asking import explain_causes
from p2r.evaluation.breakdowns import (
    tabulate_boxes,
    tabulate_first_boxes,
    tabulate_hits,
    tabulate_letters,
    tabulate_rotations,
    tabulate_targets,
    tabulate_troubles,
)
from p2r.evaluation.cost import tabulate_cost
from p2r.evaluation.counts import explain_unseen
from p2r.evaluation.repeats import tabulate_repeats
from p2r.evaluation.scoring import ScoredRow, ScoredRun, chance_of, group_rows, has_clusters, interval_of, to_scored
from p2r.evaluation.tables import Table, show_interval, show_share
from p2r.modes import LOOKING
from p2r.statistics import Interval, find_detectable_difference


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a benchmark: all its samples, or one category.

    rows: the judged samples.
    score: by the benchmark's own aggregation, 0 to 1; None without a judged sample.
    """

    rows: tuple[ScoredRow, ...]
    num_correct: int
    chance: float | None
    score: float | None
    interval: Interval | None


def make_scorecard(run: ScoredRun) -> list[Table]:
    """Every table that applies to the run, the accuracy first."""
    tables = [tabulate_accuracy(run)]
    if run.settings.scored_by == "box":
        tables.append(tabulate_first_boxes(run))
    if "treevgr" in run.scorers:
        tables.append(tabulate_targets(run))
    rows = run.judged("robust")
    repeats = tabulate_repeats(run)
    if repeats is not None:
        tables.append(repeats)
    elif rows and run.settings.aggregation == "cycles":
        tables.append(tabulate_rotations(run))
    if any(row.trace.options for row in rows):
        tables.append(tabulate_letters(rows))
    looked = [row for row in run.rows if row.facts.gold_boxes and row.trace.perception is not None]
    if looked and run.settings.mode in LOOKING:
        tables += [tabulate_boxes(looked), tabulate_hits([row for row in rows if row.facts.gold_boxes])]
    if run.peers:
        tables.append(tabulate_peers(run))
    tables.append(tabulate_troubles(run))
    tables.append(tabulate_cost(run))
    return tables


def find_disagreements(run: ScoredRun) -> dict[str, dict[str, str | None]]:
    """Samples that are right by some scorers and wrong by others: id -> scorer -> the answer it read.

    Those of other systems do not count: some of them cannot read a tagged reply.
    """
    return {
        row.facts.sample_id: {
            scorer: row.answers[scorer].letter if row.trace.answer_form == "choice" else row.answers[scorer].text
            for scorer in run.scorers
            if scorer in row.answers
        }
        for row in run.rows
        if len({verdict.correct for scorer, verdict in row.verdicts.items() if scorer in run.scorers}) > 1
    }


def score_columns(run: ScoredRun, scorer: Scorer = "robust") -> dict[str, Column]:
    """The benchmark's columns with their scores, the whole first."""
    return {
        name: Column(
            rows=tuple(rows),
            num_correct=sum(row.verdicts[scorer].correct for row in rows),
            chance=chance_of(rows),
            score=aggregate([to_scored(row, scorer) for row in rows], run.settings.aggregation),
            interval=interval_of(rows, scorer) if rows else None,
        )
        for name, rows in group_rows(run, scorer).items()
    }


def tabulate_accuracy(run: ScoredRun) -> Table:
    """The accuracy by every scorer that applies, in every column of the benchmark."""
    columns, rows = _tabulate_scorers(run, run.scorers)
    main = score_columns(run, run.scorers[0])
    disagreements = find_disagreements(run)
    whole = next(iter(main.values())).rows
    notes = [_explain_interval(whole), _explain_power(run)]
    traces = run.traces.values()
    notes += filter(None, (explain_open(run, run.scorers[0]), explain_unseen(traces), explain_frame(traces)))
    if disagreements:
        shown = ", ".join(list(disagreements)[:10])
        more = ", ..." if len(disagreements) > 10 else ""
        notes.append(f"The scorers disagree on {count_nouns(len(disagreements), 'sample')}: {shown}{more}")
    if len(run.scorers) > 1:
        columns = (*columns, "differ")
        found = [sum(row.facts.sample_id in disagreements for row in column.rows) for column in main.values()]
        rows = [(*cells, str(count)) for cells, count in zip(rows, found, strict=True)]
    return Table(title=f"{name_measure(run)}: {run.name}", columns=columns, rows=tuple(rows), notes=tuple(notes))


def tabulate_peers(run: ScoredRun) -> Table:
    """The accuracy of the same replies by the scorers of other systems, in every column of the benchmark."""
    columns, rows = _tabulate_scorers(run, run.peers)
    return Table(
        title=f"Accuracy as other systems read the same replies: {run.name}",
        columns=columns,
        rows=tuple(rows),
        notes=(
            "Each scorer repeats its system's code, mistakes included, and expects the replies that its system asks "
            "for: lmms_eval cannot read an answer tag. What deepeyes leaves to a judging model counts as wrong.",
        ),
    )


def _tabulate_scorers(run: ScoredRun, scorers: Sequence[Scorer]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the head and the rows of a table with the accuracy by each scorer."""
    by_scorer = {scorer: score_columns(run, scorer) for scorer in scorers}
    head = ["", "n", "chance"]
    for scorer in scorers:
        head += [scorer, "95% interval"]
    rows: list[tuple[str, ...]] = []
    for name, column in by_scorer[scorers[0]].items():
        cells = [name, str(len(column.rows)), show_share(column.chance)]
        for scorer in scorers:
            found = by_scorer[scorer].get(name)
            cells += [show_share(found.score if found else None), show_interval(found.interval if found else None)]
        rows.append(tuple(cells))
    return tuple(head), rows


def explain_open(run: ScoredRun, scorer: Scorer) -> str:
    """A sentence about samples without a verdict; "" when all have one."""
    num_open = len(run.facts) - len(run.judged(scorer))
    if not num_open:
        return ""
    lacks = "has no verdict and is" if num_open == 1 else "have no verdict and are"
    return f"{num_open} of {count_nouns(len(run.facts), 'sample')} {lacks} not counted."


def name_measure(run: ScoredRun) -> str:
    """Name what the scores of a run measure."""
    return "Acc@0.5 of the first box" if run.settings.scored_by == "box" else "Accuracy"


def _explain_interval(rows: Sequence[ScoredRow]) -> str:
    if has_clusters(rows):
        return "Intervals: Wilson, for the effective number of samples: replies to one question are not independent."
    return "Intervals: Wilson."


def _explain_power(run: ScoredRun) -> str:
    """A sentence: how large a difference another run could show."""
    scorer = run.scorers[0]
    rows = run.judged(scorer)
    if not rows:
        causes = Counter(row.trace.failure.message for row in run.rows if row.trace.failure is not None)
        if not causes:
            return f"Nothing was judged: {'no question has a target' if run.rows else 'there is no question'}."
        failed = count_nouns(causes.total(), "question")
        return f"Nothing was judged: {failed} of {len(run.rows)} failed, {explain_causes(causes)}."
    spread, num = _spread_of_unrelated(rows, scorer)
    least = find_detectable_difference(spread, num, len(rows))
    if least is None:
        too_few = count_nouns(num, "independent question is", "independent questions are")
        return f"{too_few} too few to show a difference from an unrelated run at 80% power."
    show = count_nouns(num, "independent question shows", "independent questions show")
    return (
        f"Smallest difference from an unrelated run of similar accuracy that {show} at 80% "
        f"power: {100 * least:.1f} points; paired runs that agree on more samples show smaller ones."
    )


def _spread_of_unrelated(rows: Sequence[ScoredRow], scorer: Scorer) -> tuple[dict[int, float], int]:
    """Return how often two unrelated runs like this one differ by one or more samples, and the number of questions.

    For each question, both draw the number of right samples from this run's questions with as many samples.
    """
    questions: dict[str, list[float]] = {}
    for row in rows:
        questions.setdefault(row.cluster or f"\0{row.facts.sample_id}", []).append(row.score(scorer))
    counts: dict[int, Counter[int]] = {}
    for scores in questions.values():
        counts.setdefault(len(scores), Counter())[round(sum(scores))] += 1
    spread: dict[int, float] = {}
    for found in counts.values():
        num = found.total()
        for (a, num_a), (b, num_b) in product(found.items(), repeat=2):
            if a != b:
                spread[abs(a - b)] = spread.get(abs(a - b), 0.0) + num_a * num_b / num / len(questions)
    return spread, len(questions)
