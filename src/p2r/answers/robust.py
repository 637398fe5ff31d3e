"""Read the answer that a careful reader finds in a reply, or none, by the same rules in evaluation and training.

Departure: the release has two sets of rules. Its evaluation takes the first capital of the first tag, its training the
first capital anywhere in an untagged reply, so that "Based on the image, ..." is B.
"""

from __future__ import annotations

from collections.abc import Sequence

from p2r.answers.choice import read_choice
from p2r.answers.open_answer import read_open
from p2r.answers.region import find_region
from p2r.types import Answer, AnswerForm

# Only the end of a longer text is read: an answer is there if there is one.
_LONGEST_READ_CHARS = 20_000


def read_robust(reply: str, form: AnswerForm, options: Sequence[str] = ()) -> Answer:
    """Read the answer as `extract_answer` describes.

    Returns:
        An answer whose rule is "none", or the place and the rule that found it, such as "tag/letter" or "reply/phrase".
        An option that does not exist has a text but no letter.
    """
    text, start, where = find_region(reply)
    if len(text) > _LONGEST_READ_CHARS:
        start += len(text) - _LONGEST_READ_CHARS
        text = text[-_LONGEST_READ_CHARS:]
    if form == "choice":
        choice = read_choice(text, options, committed=where == "tag", explicit_only=where == "thought")
        if choice is None:
            return Answer(text=None)
        span = (start + choice.start, start + choice.end)
        return Answer(text=reply[slice(*span)], letter=choice.letter, rule=f"{where}/{choice.rule}", span=span)
    found = read_open(text, form, where)
    if found is None:
        return Answer(text=None)
    rule, first, last = found
    return Answer(text=reply[start + first : start + last], rule=f"{where}/{rule}", span=(start + first, start + last))
