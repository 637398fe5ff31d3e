"""Find where in a reply the answer is: in an answer tag, in a section of its own, after the thinking, or anywhere.

The last closed tag that is not empty wins: a revised answer is the answer. So does the last section of the final answer
(`sections`) in a reply without a tag. In thinking that never ended, and before a tag or a section that was opened and
left empty, only what is called the answer in words is one.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise
from typing import Literal, NamedTuple

from p2r.answers.sections import find_final_answer

Where = Literal["tag", "cut_tag", "section", "reply", "thought"]


class Region(NamedTuple):
    """A part of a reply. `text` is `reply[start:end]` with blanks in place of markup.

    where: "tag", a closed answer tag; "cut_tag", a tag that never closed; "section", what is under the heading of the
        final answer; "reply", what follows the thinking; "thought", text in which an answer counts only when it is
        called the answer.
    """

    text: str
    start: int
    where: Where


def find_region(reply: str) -> Region:
    """Find the part of a reply that holds the answer."""
    plain = _blank(_NO_SPEECH, _blank(_ACCENT, reply.translate(_PLAIN_FORMS)))
    speech = _blank(_MARKUP, plain)
    thought_end = max((match.end() for match in _THINK_END.finditer(plain)), default=0)
    if not speech[thought_end:].strip():
        thought_end = 0
    start, end, where = _locate(plain, speech, thought_end)
    return Region(speech[start:end], start, where)


class _PlainForms(dict[int, str]):
    """Maps a character to its plain form: no width to a blank, a wide, round or bold letter to the plain letter."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        plain = " " if unicodedata.category(character) in ("Cf", "Zs") else unicodedata.normalize("NFKC", character)
        self[code] = plain if len(plain) == 1 and plain.isascii() else character
        return self[code]


_PLAIN_FORMS = _PlainForms()
_ACCENT = re.compile(r"(?<=[A-Za-z])[\u0300-\u036f]+(?![A-Za-z])")
_NO_SPEECH = re.compile(
    r"<\|[^<>|]{1,40}\|>|</?s>|<(?:eos|pad|end_of_turn)>|<tool_call>.*?(?:</tool_call>|(?=</think>|<answer>)|\Z)",
    re.DOTALL,
)
_THINK_END = re.compile(r"</think>", re.IGNORECASE)
_THINK = re.compile(r"</?think>", re.IGNORECASE)
_TAG = re.compile(
    r"(?:<|&lt;)\s{0,4}(?:(?P<open>answer)|/\s{0,4}answer|answer\s{0,4}/)\s{0,4}(?:>|&gt;)", re.IGNORECASE
)
_MARKUP = re.compile(rf"{_TAG.pattern}|{_THINK.pattern}", re.IGNORECASE)


def _blank(pattern: re.Pattern[str], text: str) -> str:
    return pattern.sub(lambda match: " " * len(match[0]), text)


def _locate(plain: str, speech: str, thought_end: int) -> tuple[int, int, Where]:
    """Return start, end and kind of the region; `speech` is `plain` without markup."""
    tags = list(_TAG.finditer(plain, thought_end))
    filled = [
        (tag.end(), following.start())
        for tag, following in pairwise(tags)
        if tag["open"] and speech[tag.end() : following.start()].strip()
    ]
    if filled:
        return *filled[-1], "tag"
    if tags and tags[-1]["open"]:
        opened = tags[-1]
        if not speech[opened.end() :].strip():
            return thought_end, opened.start(), "thought"
        cut_close = plain.find("</", opened.end())
        return (opened.end(), cut_close, "tag") if cut_close >= 0 else (opened.end(), len(plain), "cut_tag")
    section = find_final_answer(plain, thought_end)
    if section is not None:
        is_filled = speech[slice(*section)].strip()
        return (*section, "section") if is_filled else (thought_end, section[0], "thought")
    if thought_end == 0 and _THINK.search(plain):
        return 0, len(plain), "thought"
    stray_close = next((tag for tag in tags if speech[thought_end : tag.start()].strip()), None)
    return thought_end, stray_close.start() if stray_close else len(plain), "reply"
