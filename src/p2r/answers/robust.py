"""Read the answer that a careful reader finds in a reply, or none, by the same rules in evaluation and training.

Departure: the release has two sets of rules. Its evaluation takes the first capital of the first tag, its training the
first capital anywhere in an untagged reply, so that "Based on the image, ..." is B.
"""

from __future__ import annotations

from collections.abc import Sequence

from p2r.answers.choice import read_choice, read_opening
from p2r.answers.open_answer import read_open
from p2r.answers.option_text import match_option
from p2r.answers.phrases import verdicts
from p2r.answers.region import find_region
from p2r.types import Answer, AnswerForm, FinishReason

# Only the end of a longer text is read: an answer is there if there is one.
_LONGEST_READ_CHARS = 20_000


def read_robust(
    reply: str, form: AnswerForm, options: Sequence[str] = (), *, finish_reason: FinishReason = "stop"
) -> Answer:
    """Read the answer as `extract_answer` describes.

    In a reply that was cut off, as in thinking that never ended, an answer counts only when it is called one. A section
    of the final answer is read like an answer tag, as far as its first line where no options are given.

    Returns:
        An answer whose rule is "none", or the place and the rule that found it, such as "tag/letter" or "reply/phrase".
        An option that does not exist has a text but no letter.
    """
    text, start, where = find_region(reply)
    kind = "cut_tag" if where == "section" and finish_reason == "length" else where
    is_answer = kind in ("tag", "section")
    if len(text) > _LONGEST_READ_CHARS:
        start += len(text) - _LONGEST_READ_CHARS
        text = text[-_LONGEST_READ_CHARS:]
    if form == "choice":
        is_cut = where == "reply" and (finish_reason == "length" or _breaks_off(text, options))
        choice = read_choice(text, options, committed=is_answer, explicit_only=where == "thought" or is_cut)
        if choice is None and is_cut:
            choice = read_opening(text, options)
        if choice is None:
            return Answer(text=None)
        span = (start + choice.start, start + choice.end)
        return Answer(text=reply[slice(*span)], letter=choice.letter, rule=f"{where}/{choice.rule}", span=span)
    found = read_open(text, form, "thought" if where == "reply" and finish_reason == "length" else kind)
    if found is None:
        return Answer(text=None)
    rule, first, last = found
    return Answer(text=reply[start + first : start + last], rule=f"{where}/{rule}", span=(start + first, start + last))


def _breaks_off(text: str, options: Sequence[str]) -> bool:
    """Tell whether a text ends within a sentence: "The flag at the top of the"."""
    return bool(verdicts.UNFINISHED.search(text[-40:].rstrip(" *_\n"))) and match_option(text, options) is None
