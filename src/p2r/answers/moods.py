"""Tell what kind of clause each is: only a statement can choose an option."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from p2r.answers.clauses import Clause, Mood, cut_clauses
from p2r.answers.phrases import moods
from p2r.answers.tokens import Mention, Token


def read_clauses(tokens: Sequence[Token], mentions: Mapping[int, Mention]) -> list[Clause]:
    """Cut tokens into clauses, with the kind of each."""
    clauses = cut_clauses(tokens, mentions)
    sentences: dict[int, list[Clause]] = {}
    for clause in clauses:
        sentences.setdefault(clause.sentence, []).append(clause)
    for sentence in sentences.values():
        _classify(sentence)
    _answer_questions(clauses)
    return clauses


def _answer_questions(clauses: Sequence[Clause]) -> None:
    """Take a question and the yes behind it for one statement: "Is it red? No. Blue? Yes."."""
    for clause, answer in itertools.pairwise(clauses):
        if clause.is_asked and clause.kind is Mood.QUESTION and moods.YES.search(answer.text) and not answer.mentions:
            clause.kind, clause.sentence, clause.is_affirmed = Mood.STATEMENT, answer.sentence, True


def _classify(sentence: Sequence[Clause]) -> None:
    is_asked = sentence[-1].is_asked
    is_bound = False
    before: Clause | None = None
    for place, clause in enumerate(sentence):
        if clause.opens_part:
            before = None
        if moods.ENDS_CONDITION.match(clause.text) or clause.opens_part:
            is_bound = False
        if is_bound or moods.OTHERWISE.match(clause.text):
            clause.kind = Mood.CONDITION
            is_bound = True
        if moods.CONDITION.search(clause.text):
            clause.kind = Mood.CONDITION
            if not moods.RHETORICAL.search(clause.text):
                if before is not None:
                    before.kind = Mood.CONDITION
                is_bound = True
        elif clause.mentions and clause.kind is Mood.STATEMENT:
            ends_asked = is_asked and len(sentence) - place <= _MOST_ASKED
            if ends_asked or moods.QUESTION.search(clause.text):
                clause.kind = Mood.QUESTION
            elif moods.COMPARISON.search(clause.text) and not clause.excepts():
                clause.kind = Mood.COMPARISON
        if len(clause.text) >= _LEAST_CHARS or clause.mentions:
            before = clause


# What is shorter is a conjunction, not a clause that a condition may bind.
_LEAST_CHARS = 5
# A question is the end of its sentence: at most so many clauses.
_MOST_ASKED = 4
