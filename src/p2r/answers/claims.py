"""Find where a text calls an option the answer, and decide which of these claims counts."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from p2r.answers.clauses import Clause, Mood
from p2r.answers.phrases import moods, statements, turns
from p2r.answers.tokens import Mention


class Claim(NamedTuple):
    """A place that calls an option the answer.

    is_turn: a word of correction or conclusion is before it.
    """

    mention: Mention
    is_strong: bool
    is_turn: bool
    is_boxed: bool = False


def decide(claims: Iterable[Claim]) -> Claim | None:
    """Return the claim that counts where several are called the answer, in the order of the text; None for none."""
    current: Claim | None = None
    is_open = False
    for claim in claims:
        if current is None or claim.mention.letters == current.mention.letters:
            is_open = is_open and not claim.is_turn
            if current is None or claim.is_strong > current.is_strong:
                current = claim
        elif claim.is_turn or claim.is_strong > current.is_strong:
            current, is_open = claim, False
        elif claim.is_strong == current.is_strong:
            is_open = True
    return None if is_open else current


def find_claims(clauses: Sequence[Clause], listed: Collection[int], *, strong_only: bool = False) -> Iterator[Claim]:
    """Find where an option is called the answer.

    Args:
        listed: where the options stand that are only gone through.
    """
    is_turn, concluding, has_claim = False, -1, False
    for clause in clauses:
        found = _read_claims(clause, strong_only=strong_only)
        if not found and not strong_only and (is_turn or clause.is_affirmed) and _is_bare(clause):
            found = [(max(clause.mentions), False)]
        is_second = turns.SECOND.match(clause.text) is not None
        if has_claim and (is_second or (not found and (is_turn or turns.CORRECTION.search(clause.text)))):
            found = []
            yield from (_take_back(mention) for _, mention in clause.counted())
        found = [
            (place, is_strong) for place, is_strong in found if is_strong or clause.mentions[place].start not in listed
        ]
        for place, is_strong in found:
            before = clause.text[max(0, place - _FAR_CHARS) : place]
            follows_turn = is_turn or concluding == clause.sentence or _turns(before)
            yield Claim(clause.mentions[place], is_strong, follows_turn)
            is_turn, concluding, has_claim = False, -1, True
        if not found:
            is_turn = is_turn or bool(turns.CORRECTION.search(clause.text))
            concluding = clause.sentence if turns.CONCLUSION.search(clause.text) else concluding


# How far before an option the words are looked for that change its meaning.
_FAR_CHARS = 300
_ENDS_BARE = re.compile(r"(?:^|\b(?:is|it's|was) |: )[A-Z]$")


def _read_claims(clause: Clause, *, strong_only: bool) -> list[tuple[int, bool]]:
    """Return the place of each claim of a clause, and whether it is a strong one."""
    if clause.kind is not Mood.STATEMENT or not clause.mentions:
        return []
    found: dict[int, bool] = {}
    for patterns, is_strong in ((statements.STRONG, True), (statements.WEAK, False)):
        for pattern in patterns:
            for match in pattern.finditer(clause.text):
                place, end = match.span("letter")
                if place in found or place not in clause.mentions or clause.is_denied(place, end):
                    continue
                is_sure = not moods.HEDGE.search(clause.text[max(0, place - _FAR_CHARS) : end + 20])
                if is_strong or not clause.is_explanation:
                    found[place] = is_strong and is_sure and not clause.is_explanation
    return [(place, is_strong) for place, is_strong in sorted(found.items()) if is_strong or not strong_only]


def _take_back(mention: Mention) -> Claim:
    """Return a claim behind a correction that is not clear: "The answer is A. Wait, maybe B"."""
    return Claim(mention._replace(letters=f"{mention.letters}/?"), is_strong=False, is_turn=True)


def _is_bare(clause: Clause) -> bool:
    """Tell whether a clause only says that something is an option: "B", "the flag is B"."""
    return clause.kind is Mood.STATEMENT and _ENDS_BARE.search(clause.text[-40:]) is not None


def _turns(text: str) -> bool:
    return bool(turns.CORRECTION.search(text) or turns.CONCLUSION.search(text))
