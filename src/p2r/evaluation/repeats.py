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
from p2r.evaluation.scoring import ScoredRow, ScoredRun, interval_of
from p2r.evaluation.tables import Table, show_interval, show_share
from p2r.judges.words import normalize_text
from p2r.statistics import bound_mean, mean_of
from p2r.types import LETTERS, Sample

TRIES_AN_ORDER = 16
"""Draws for each further order; few questions have an order more than these find."""


def repeat_samples(samples: Sequence[Sample], *, num_draws: int, num_orders: int, seed: int) -> list[Sample]:
    """Return each sample once for every draw and every order of its options, the first order being its own.

    Orders differ as long as there are others: a question with two options has two, which take turns.

    Raises:
        ConfigError: no sample has options that could be put in another order.
    """
    if num_orders > 1 and not any(sample.options for sample in samples):
        raise ConfigError("`shuffles` needs questions with options", hint="leave it out")
    if num_draws == num_orders == 1:
        return list(samples)
    repeated: list[Sample] = []
    for sample in samples:
        orders = _order_options(sample, num_orders, seed)
        ordered = [orders[number % len(orders)] for number in range(num_orders) for _ in range(num_draws)]
        for number, asked in enumerate(ordered, start=1):
            repeated.append(replace(asked, id=f"{sample.id}#{number}", cluster=sample.cluster or sample.id))
    return repeated


def _order_options(sample: Sample, num_orders: int, seed: int) -> list[Sample]:
    """Return the sample with its options in several orders, its own first; fewer where it has no more orders."""
    orders = [sample]
    for number in range(TRIES_AN_ORDER * (num_orders - 1)):
        found = shuffle_options(replace(sample, id=f"{sample.id}#{number}"), seed)
        if all(found.options != known.options for known in orders):
            orders.append(found)
        if len(orders) == num_orders:
            break
    return orders


def tabulate_repeats(run: ScoredRun, name: str = "") -> Table | None:
    """Tabulate accuracy over all replies and what their number adds; None for a run that asked each question once.

    Args:
        name: of the run; "" for its own.
    """
    num_draws, num_orders = run.settings.samples or 1, run.settings.shuffles or 1
    questions = group_questions(run, run.judged("robust"))
    asked = count_replies(run)
    if asked == 1 or not questions:
        return None
    rows: list[tuple[str, ...]] = []

    def add(name: str, values: Mapping[str, float]) -> None:
        clusters = [questions[question][0].cluster for question in values]
        bound = bound_mean(list(values.values()), clusters)
        rows.append((name, str(len(values)), show_share(mean_of(values.values())), show_interval(bound)))

    scores = {question: [row.score("robust") for row in replies] for question, replies in questions.items()}
    average = mean_of(math.fsum(each) / len(each) for each in scores.values())
    judged = [row for replies in questions.values() for row in replies]
    rows.append((f"Avg@{asked}", str(len(scores)), show_share(average), show_interval(interval_of(judged, "robust"))))
    for k in sorted({*(2**power for power in range(1, asked.bit_length())), asked}):
        enough = {question: each for question, each in scores.items() if len(each) >= k}
        if enough:
            add(f"pass@{k}", {question: pass_at(k, len(each), round(sum(each))) for question, each in enough.items()})
    if all("robust" in row.answers for row in judged):  # boxes have no answers to count
        add("majority vote", {question: vote(replies) for question, replies in questions.items()})
    accuracies = [100 * math.fsum(each) / len(each) for each in _group_draws(judged)]
    notes = [
        f"{count_nouns(asked, 'reply', 'replies')} to each question: {count_nouns(num_draws, 'draw')}, "
        f"{count_nouns(num_orders, 'order')} of the options. Intervals count questions.",
        f"One reply to each question: {min(accuracies):.1f} to {max(accuracies):.1f}% right.",
        f"Questions with 0 to {asked} right replies: {', '.join(map(str, count_right(run)))}.",
    ]
    if len(judged) < asked * len(questions):
        notes.append("Replies that failed count nowhere, and a question with fewer than k replies not in pass@k.")
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
    questions = group_questions(run, run.judged("robust")).values()
    right = Counter(round(sum(row.score("robust") for row in rows)) for rows in questions if len(rows) == most)
    return [right[number] for number in range(most + 1)]


def count_replies(run: ScoredRun) -> int:
    """Return how many replies a run asked for to each question."""
    return (run.settings.samples or 1) * (run.settings.shuffles or 1)


def _group_draws(rows: Sequence[ScoredRow]) -> list[list[float]]:
    """Return the scores of the first replies to all questions, of the second ones, and so on."""
    draws: dict[str, list[float]] = {}
    for row in rows:
        draws.setdefault(row.facts.sample_id.rpartition("#")[2], []).append(row.score("robust"))
    return list(draws.values())


def group_questions(run: ScoredRun, rows: Sequence[ScoredRow]) -> Mapping[str, list[ScoredRow]]:
    """Return the replies to each question among some rows of a run, by the question's id."""
    is_repeated = count_replies(run) > 1
    questions: dict[str, list[ScoredRow]] = {}
    for row in rows:
        id = row.facts.sample_id
        questions.setdefault(question_of(id) if is_repeated else id, []).append(row)
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
    """Return 1 when the most frequent answer is right; a share where several are as frequent. No answer has no vote.

    Free answers with the same words are one answer.
    """
    right: dict[str, list[float]] = {}
    for row in replies:
        answer = row.answers["robust"]
        said = None if answer.text is None else normalize_text(answer.text)
        if row.trace.options and answer.letter:
            said = row.trace.options[LETTERS.index(answer.letter)]
        if said is not None:
            right.setdefault(said, []).append(row.score("robust"))
    most = max(map(len, right.values()), default=0)
    leading = [math.fsum(scores) / most for scores in right.values() if len(scores) == most]
    return math.fsum(leading) / len(leading) if leading else 0.0
