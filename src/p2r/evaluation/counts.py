"""What went wrong between a question and its score, counted apart from wrong answers.

A sample may be in several counts. None is a verdict: an answer read from an untagged reply still counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from p2r.answers.region import find_region
from p2r.errors import UnseenImageError, count_nouns
from p2r.evaluation.scoring import ScoredRow, ScoredRun
from p2r.modes import UNTAGGED
from p2r.types import Trace

_REFUSAL = re.compile(
    r"\b(?:i(?:['’]m| am)? (?:sorry|unable|not able)|i (?:can(?:not|['’]t|not)|could ?n['o]t|won['’]t) "
    r"(?:answer|help|assist|see|determine|tell|identify|provide|make out)|as an ai\b|(?:cannot|can['’]t|unable to|"
    r"impossible to|not possible to) (?:be )?(?:determine|answer|tell|identif))",
    re.IGNORECASE,
)

DEFINITIONS: Mapping[str, str] = {
    "error": "the walk failed: neither right nor wrong, and the same command asks again",
    "not seen as sent": "a server counted other image tokens than were sent: where that is sure, the walk failed",
    "empty": "the reply has no text",
    "truncated": "the reply ended at the token limit, or the chat at its limit of calls",
    "box reply truncated": "the perceiver's reply ended at the token limit",
    "no tag": "no closed answer tag with text in it, though the prompt asks for one",
    "refusal": "nothing could be read, and the reply says that it cannot answer",
    "ambiguous": "no answer could be read without guessing, and the reply is not empty, truncated or a refusal",
    "not an option": "the answer names something that is not among the options",
    "box parse failure": "no box could be read from the perceiver's reply, and it is not an empty list",
    "other frame": "a box was left out because its numbers do not fit the frame in which they are read",
    "tool error": "a tool call of the reasoner could not be carried out, and it was told so",
    "clipped box": "a box reached beyond the image and was cut off at its edge",
    "fall-back": "there was no usable box, so only the image was shown",
}


def count_troubles(run: ScoredRun) -> dict[str, int]:
    """The number of samples in each count, in the order of DEFINITIONS.

    Counts that cannot occur in the run's mode are left out.
    """
    looked = any(row.trace.perception and row.trace.perception.source != "none" for row in run.rows)
    wrote_boxes = any(_writes_boxes(row.trace) for row in run.rows)
    counted: dict[str, Callable[[ScoredRow], bool]] = {
        "error": lambda row: row.trace.failure is not None,
        "not seen as sent": lambda row: count_unseen(row.trace) > 0,
        "empty": lambda row: _is_empty(row.trace),
        "truncated": lambda row: _is_cut(row.trace),
        "no tag": lambda row: row.trace.reasoning is not None and not _is_tagged(row.trace.reasoning.text),
        "refusal": _is_refusal,
        "ambiguous": _is_ambiguous,
        "not an option": _is_no_option,
        "box reply truncated": lambda row: _is_looking_cut(row.trace),
        "box parse failure": lambda row: _is_unparsed(row.trace),
        "other frame": lambda row: count_other_frame(row.trace) > 0,
        "tool error": lambda row: _is_tool_misused(row.trace),
        "clipped box": lambda row: _count_clipped(row.trace) > 0,
        "fall-back": lambda row: row.trace.evidence is not None and not row.trace.evidence.annotated,
    }
    left_out = {"no tag"} if run.settings.mode in UNTAGGED else set[str]()
    if run.settings.scored_by == "box":
        left_out |= {"empty", "truncated", "no tag", "refusal", "ambiguous", "not an option", "fall-back"}
    if not looked:
        left_out |= {"fall-back"}
    if not wrote_boxes:
        left_out |= {"box reply truncated", "box parse failure", "other frame", "clipped box"}
    if not any(_calls_tools(row.trace) for row in run.rows):
        left_out |= {"tool error"}
    if not any(count_unseen(row.trace) for row in run.rows):
        left_out |= {"not seen as sent"}
    return {name: sum(map(counted[name], run.rows)) for name in DEFINITIONS if name not in left_out}


def explain_unseen(traces: Iterable[Trace]) -> str:
    """A sentence about prompts that a server did not see as they were sent; "" when there are none."""
    count = sum(map(count_unseen, traces))
    if not count:
        return ""
    return f"{count_nouns(count, 'prompt was', 'prompts were')} not seen as sent: the server altered images."


def count_unseen(trace: Trace) -> int:
    """Count the prompts of a walk that a server did not see as they were sent."""
    looking = trace.perception.completion if trace.perception else None
    judging = trace.verdict.completion if trace.verdict else None
    replies = [reply for reply in (looking, trace.reasoning, judging) if reply is not None]
    has_failed = trace.failure is not None and trace.failure.kind == UnseenImageError.__name__
    return has_failed + sum(call.altered != "" for reply in replies for call in reply.calls)


def count_other_frame(trace: Trace) -> int:
    """Count the boxes of a reply whose numbers do not fit the frame in which they are read."""
    parse = trace.perception.parse if trace.perception else None
    return parse.num_other_frame if parse else 0


def _is_empty(trace: Trace) -> bool:
    return trace.reasoning is not None and not trace.reasoning.text.strip()


def _is_cut(trace: Trace) -> bool:
    return trace.reasoning is not None and trace.reasoning.finish_reason == "length"


def _is_tagged(reply: str) -> bool:
    return find_region(reply).where == "tag"


def _is_unread(row: ScoredRow) -> bool:
    answer = row.answers.get("robust")
    return answer is not None and answer.text is None


def _is_refusal(row: ScoredRow) -> bool:
    reply = row.trace.reasoning.text if row.trace.reasoning else ""
    return _is_unread(row) and _REFUSAL.search(reply) is not None


def _is_ambiguous(row: ScoredRow) -> bool:
    return _is_unread(row) and not (_is_empty(row.trace) or _is_cut(row.trace) or _is_refusal(row))


def _is_no_option(row: ScoredRow) -> bool:
    answer = row.answers.get("robust")
    return row.trace.answer_form == "choice" and answer is not None and bool(answer.text) and answer.letter is None


def _is_looking_cut(trace: Trace) -> bool:
    looking = trace.perception.completion if trace.perception else None
    return looking is not None and looking.finish_reason == "length" and _writes_boxes(trace)


def _writes_boxes(trace: Trace) -> bool:
    """Tell whether boxes were read out of a reply; a search asks for yes or no."""
    return trace.perception is not None and trace.perception.parse is not None


def _is_unparsed(trace: Trace) -> bool:
    parse = trace.perception.parse if trace.perception else None
    return parse is not None and not trace.boxes and (parse.step == "none" or parse.num_invalid > 0)


def _calls_tools(trace: Trace) -> bool:
    return any(call.tool_use for call in trace.reasoning.calls) if trace.reasoning else False


def _is_tool_misused(trace: Trace) -> bool:
    return any(call.tool_use and call.tool_use.errors for call in trace.reasoning.calls) if trace.reasoning else False


def _count_clipped(trace: Trace) -> int:
    parse = trace.perception.parse if trace.perception else None
    return parse.num_clipped if parse else 0
