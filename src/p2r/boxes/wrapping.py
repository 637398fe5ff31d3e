"""What stands around a reply: thinking, a code block, quotation marks, characters of another width, corrections."""

from __future__ import annotations

import json
import re
from typing import cast

EDGE = "\ufeff \t\r\n"
_CODE_BLOCK = re.compile(r"```[a-zA-Z0-9]*(.*?)(?:```|\Z)", re.DOTALL)
_ESCAPED_KEY = re.compile(r"\\[\"']\s{0,8}:")
_CURLY_KEY = re.compile(r"[“”„‘’][A-Za-z_0-9 ]{1,30}[“”‘’]\s{0,8}[:：]")
_PLAIN = str.maketrans(
    "［］【】（）｛｝：，；、“”„‟＂‘’‚‛＇＝．－＋０１２３４５６７８９\u3000",
    "[][](){}:,;,\"\"\"\"\"'''''=.-+0123456789 ",
)
_QUOTED = re.compile(r"\"(?:[^\"\\]|\\.){0,400}\"")
_CORRECTION = re.compile(
    r"\b(?:wait|correct(?:ion|ed|ing)|actually|sorry|apolog(?:ies|ize)|oops|scratch that|on second thought|i mean|"
    r"no[,.:;!]|revised?|refined?|adjust(?:ed)?|updated?|improved|instead|should be|let me (?:correct|fix)|"
    r"more (?:precise|accurate|exact)(?:ly)?|(?:correct|final|better)(?: \w{1,20}){0,3}:)(?!\w)|"
    r"更正|修正|纠正|不对|应该是|应为|等等|抱歉|更准确|最终",
    re.IGNORECASE,
)
_ADDITION = re.compile(
    r"\b(?:also|another|second|others?|additional(?:ly)?|too(?! [a-z])|as well|more (?:boxes|objects)|next)\b|"
    r"又|还有|另|以及|也",
    re.IGNORECASE,
)


def load_json(text: str, *, literal: bool = False) -> object:
    """Load a text as JSON, unless `literal` also the JSON in a text that is JSON itself; None when it is none."""
    try:
        value = cast(object, json.loads(text))
    except (ValueError, RecursionError):
        return None
    if isinstance(value, str) and not literal and value.strip(EDGE)[:1] in ("[", "{"):
        inner = load_json(value, literal=True)
        return value if inner is None else inner
    return value


def load_unwrapped(text: str) -> object:
    """Load the reply, or the only code block in it, as JSON; None when neither is JSON."""
    value = load_json(text.strip(EDGE))
    if value is None and len(blocks := cast("list[str]", _CODE_BLOCK.findall(text))) == 1:
        return load_json(blocks[0].strip(EDGE))
    return value


def after_thinking(text: str) -> str:
    """Return what follows the last thought: a box that was considered is not a box that was chosen.

    Nothing follows a thought without an end, unless it is JSON as a whole: some servers take a reply for a thought.
    """
    thought, _, final = text.rpartition("</think>")
    if final.strip(EDGE):
        before, mark, open_thought = final.partition("<think>")
        return final if not mark or isinstance(load_unwrapped(open_thought), (list, dict)) else before
    return thought + final


def unescape(text: str) -> str:
    """Write the quotation marks of keys as JSON has them where they are escaped or curly, and the `_` of Markdown."""
    if _ESCAPED_KEY.search(text):
        text = text.replace("\\n", "\n").replace('\\"', '"').replace("\\'", "'")
    if _CURLY_KEY.search(text):
        text = straighten(text)
    return text.replace("\\_", "_")


def straighten(text: str) -> str:
    """Write full-width characters and curly quotation marks as JSON has them."""
    return text.translate(_PLAIN)


def is_correction(between: str) -> bool:
    """Tell whether the words between two boxes take the first one back: "wait", "the corrected box"."""
    words = _QUOTED.sub(" ", between)
    return _CORRECTION.search(words) is not None and _ADDITION.search(words) is None
