"""Read the letter as MME-RealWorld's own script does, to compare with published numbers.

Source: MME-Benchmarks/MME-RealWorld, evaluation/eval_your_results.py, after its observed inputs and outputs. Two of
its eight phrases lack a comma and are joined to the next one, so that they are never removed: "Best answer: A" is B.
A reply without a capital chooses the first option that contains it, so that the empty reply is A.
"""

from __future__ import annotations

from collections.abc import Sequence

from p2r.types import LETTERS, Answer

LEAD_INS = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    "The best option isThe correct option is",
    "Best answer:Best option:",
)
COUNTED = "ABCDE"


def read_mme_official(reply: str, options: Sequence[str]) -> Answer:
    """Read the official letter; None where the script finds none."""
    choices = [f"({letter}) {option}" for letter, option in zip(LETTERS, options, strict=False)]
    letter = read_letter_like_mme(reply, choices)
    return Answer(text=reply.strip(), letter=letter, rule="none" if letter is None else "mme_official")


def read_letter_like_mme(reply: str, choices: Sequence[str], lead_ins: Sequence[str] = LEAD_INS) -> str | None:
    """Return the script's letter for choices such as "(A) red"; None where it finds none.

    Args:
        lead_ins: phrases that are removed first, in this order.
    """
    text = reply.strip()
    for lead_in in lead_ins:
        text = text.replace(lead_in, "")
    letter = next((character for character in text if character in COUNTED), None)
    if letter is None and len(text.split()) <= 10:
        return next((choice[1] for choice in choices if text.lower() in choice.lower()), None)
    return letter
