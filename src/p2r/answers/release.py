"""Read the answer as the evaluation of the authors' release does, to compare with published numbers.

It reads the text between the first `<answer>` and the next `</answer>`, case-sensitive (in its mode "default", the
whole reply). Twelve lead-in phrases are removed wherever they are; then the first capital that is a letter of the
benchmark counts, even inside a word: "Cannot determine" is C. Source: evaluation/data_utils, after its observed inputs
and outputs.
"""

from __future__ import annotations

import re

from p2r.types import Answer

# In this order: "The answer is" has to go before "The answer".
LEAD_INS = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    "The best option is",
    "The correct option is",
    "Best answer:",
    "Best option:",
    "Answer:",
    "Option:",
    "The correct answer",
    "The correct option",
)
_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


def read_release(reply: str, *, tagged: bool = True, letters: str = "ABCD") -> Answer:
    """Read the answer as the release does.

    Args:
        tagged: True for its modes "thinking" and "p2r", False for "default", which reads the whole reply.
        letters: the letters that count: ABCD for V* and HR-Bench, ABCDEF for MME-RealWorld, "" for an open question.
    """
    match = _TAGGED.search(reply) if tagged else None
    start, end = match.span(1) if match else (0, 0 if tagged else len(reply))
    text = reply[start:end].strip()
    if not text:
        return Answer(text=None)
    start += len(reply[start:end]) - len(reply[start:end].lstrip())
    return Answer(text=text, letter=_first_letter(text, letters), rule="release", span=(start, start + len(text)))


def _first_letter(text: str, letters: str) -> str | None:
    for lead_in in LEAD_INS:
        text = text.replace(lead_in, "")
    return next((character for character in text if character in letters), None)
