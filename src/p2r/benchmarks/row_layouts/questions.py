"""A question without what is not part of it: marks of the image's place, and instructions about the reply's format.

Closing sentences that ask for thinking tags, answer tags, a LaTeX box or a tool are left out, because p2r's prompts
give instructions of their own. Rows that state their answer form (P2R-10k) are asked word for word, because the
published checkpoints were trained with them.
"""

from __future__ import annotations

import re

_IMAGE_MARK = re.compile(
    r"<image(?:[ _]?\d+)?>|<\|image(?:_\d+)?\|>|<ImageHere>|<image_placeholder>|<img>[^<]*</img>"
    r"|<\|vision_start\|>|<\|image_pad\|>|<\|vision_end\|>"
)
_NAMED_IMAGE = re.compile(r"<img>\s*([^<]+?)\s*</img>")
_FORMAT = re.compile(r"</?(?:think|answer|tool_call|tool_response)>|\\boxed|\b\w+_tool\b", re.IGNORECASE)
_THINK_FIRST = re.compile(
    r"(?:you (?:must |should )?first think|(?:please |let's )?(?:first,? )?think\b|first,? output|please reason)",
    re.IGNORECASE,
)
_INSTRUCTION = re.compile(
    r"(?:please )?(?:output|provide|give|return|answer|put|write|format|your)\b[^?？]*$", re.IGNORECASE
)


def strip_marks(text: str) -> str:
    """Return a question without the marks of its image's place."""
    return _IMAGE_MARK.sub("", text).strip()


def find_named_image(text: str) -> str | None:
    """Return the path that a question states as <img>path</img>; None when it states none."""
    match = _NAMED_IMAGE.search(text)
    return match[1] if match else None


def drop_instructions(question: str) -> str:
    """Return a question without closing instructions about the reply's format."""
    ends = [match.end() for match in re.finditer(r"[.!?。！？]\s+|\n\s*", question)]
    kept, dropped, end = question, False, len(question)
    for start in reversed([0, *ends]):
        sentence = question[start:end].strip()
        asks_format = _FORMAT.search(sentence) is not None
        if asks_format or (dropped and _THINK_FIRST.match(sentence)):
            kept, dropped = question[:start].rstrip(), True
        elif sentence and not _INSTRUCTION.match(sentence):
            break
        end = start
    return kept if kept else question
