"""Questions that are asked several times: several draws of the reply, several orders of the options.

Each is a sample of its own with the question as its cluster, so that it is stored, resumed, and judged like any other,
and intervals count questions, not replies. An id is that of the question, "#", and a number from 1.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from p2r.choices import shuffle_options
from p2r.errors import ConfigError, count_nouns
from p2r.evaluation.breakdowns import tabulate_letters
from p2r.evaluation.scoring import ScoredRow, ScoredRun
from p2r.evaluation.tables import Table, show_interval, show_share
from p2r.statistics import bound_mean, mean_of
from p2r.types import LETTERS, Sample


def repeat_samples(samples: Sequence[Sample], *, num_draws: int, num_orders: int, seed: int) -> list[Sample]:
    """Return each sample once for every draw and every order of its options, the first order being its own.

    Raises:
        ConfigError: no sample has options that could be put in another order.
    """
    if num_orders > 1 and not any(sample.options for sample in samples):
        raise ConfigError("`shuffles` needs questions with options", hint="leave it out")
    if num_draws == num_orders == 1:
        return list(samples)
    repeated: list[Sample] = []
    for sample in samples:
        number = 0
        for order in range(num_orders):
            ordered = shuffle_options(sample, seed + order) if order else sample
            for _ in range(num_draws):
                number += 1
                repeated.append(replace(ordered, id=f"{sample.id}#{number}", cluster=sample.cluster or sample.id))
    return repeated


def tabulate_repeats(run: ScoredRun, name: str = "") -> Table | None:
    """Tabulate accuracy over all replies and what their number adds; None for a run that asked each question once.

    Args:
        name: of the run; "" for its own.
    """
    num_draws, num_orders = run.settings.samples or 1, run.settings.shuffles or 1
    questions = group_questions(run.judged("robust"))
    if count_replies(run) == 1 or not questions:
        return None
    clusters = [rows[0].cluster for rows in questions.values()]
    rows: list[tuple[str, ...]] = []

    def add(measure: str, values: Sequence[float]) -> None:
        rows.append(
            (measure, str(len(values)), show_share(mean_of(values)), show_interval(bound_mean(values, clusters)))
        )

    scores = {question: [row.score("robust") for row in replies] for question, replies in questions.items()}
    most = max(map(len, scores.values()))
    add(f"Avg@{most}", [math.fsum(each) / len(each) for each in scores.values()])
    for k in (2**power for power in range(1, most.bit_length())):
        add(f"pass@{k}", [pass_at(k, len(each), round(sum(each))) for each in scores.values()])
    add("majority vote", [vote(replies) for replies in questions.values()])
    draws = list(zip(*(each for each in scores.values() if len(each) == most), strict=True))
    accuracies = [100 * math.fsum(draw) / len(draw) for draw in draws]
    notes = [
        f"{count_nouns(most, 'reply', 'replies')} to each question: {count_nouns(num_draws, 'draw')}, "
        f"{count_nouns(num_orders, 'order')} of the options. Intervals count questions.",
        f"One reply to each question: {min(accuracies):.1f} to {max(accuracies):.1f}% right.",
        f"Questions with 0 to {count_replies(run)} right replies: {', '.join(map(str, count_right(run)))}.",
    ]
    return Table(
        title=f"Replies to the same question: {name or run.name}",
        columns=("", "questions", "right", "95% interval"),
        rows=tuple(rows),
        notes=tuple(notes),
    )


def list_repeats(run: ScoredRun, name: str = "") -> list[Table]:
    """The tables of a run that asked each question several times: `tabulate_repeats`, and letters by position.

    The latter where the options came in several orders.
    """
    repeats = tabulate_repeats(run, name)
    if repeats is None or (run.settings.shuffles or 1) == 1:
        return [] if repeats is None else [repeats]
    letters = tabulate_letters(run.judged("robust"))
    return [repeats, letters.model_copy(update={"title": f"Positions of the right option: {name or run.name}"})]


def count_right(run: ScoredRun) -> list[int]:
    """Count the questions with 0, 1, 2, ... right replies; those that lack a reply do not count."""
    most = count_replies(run)
    questions = group_questions(run.judged("robust")).values()
    right = Counter(round(sum(row.score("robust") for row in rows)) for rows in questions if len(rows) == most)
    return [right[number] for number in range(most + 1)]


def count_replies(run: ScoredRun) -> int:
    """Return how many replies a run asked for to each question."""
    return (run.settings.samples or 1) * (run.settings.shuffles or 1)


def group_questions(rows: Sequence[ScoredRow]) -> Mapping[str, list[ScoredRow]]:
    """Return the replies to each question, by the question's id."""
    questions: dict[str, list[ScoredRow]] = {}
    for row in rows:
        questions.setdefault(question_of(row.facts.sample_id), []).append(row)
    return questions


def question_of(sample_id: str) -> str:
    """Return the id of the question that a repeated sample asks."""
    return sample_id.rpartition("#")[0]


def pass_at(k: int, num: int, num_right: int) -> float:
    """Return the chance that one of k of these replies is right (Chen et al., 2021, equation 1).

    Where there are fewer than k replies, all of them count.
    """
    k = min(k, num)
    return 1.0 - math.comb(num - num_right, k) / math.comb(num, k)


def vote(replies: Sequence[ScoredRow]) -> float:
    """Return 1 when the most frequent answer is right; a share where several are as frequent. No answer has no vote."""
    right: dict[str, bool] = {}
    votes: Counter[str] = Counter()
    for row in replies:
        answer = row.answers["robust"]
        said = answer.text
        if row.trace.options and answer.letter:
            said = row.trace.options[LETTERS.index(answer.letter)]
        if said is not None:
            votes[said] += 1
            right[said] = row.verdicts["robust"].correct
    if not votes:
        return 0.0
    most = max(votes.values())
    leading = [said for said, count in votes.items() if count == most]
    return math.fsum(right[said] for said in leading) / len(leading)
