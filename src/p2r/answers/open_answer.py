"""Read the answer to an open question (a number or a few words) in a text.

Rules, in order: the contents of an answer tag; "the answer is ..." or a heading "Answer"; a box; the answer of a JSON
object; a short reply as a whole, or its last sentence. A number is read out of what was found (`find_number`), with or
without a tag in the same way. Where statements differ, a later one counts only after a word of correction or
conclusion. An answer that may have been cut off is not read: `<answer>4` may have been meant to continue as 42.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Literal

from p2r.answers.numbers import find_number
from p2r.answers.region import Where
from p2r.answers.wrapping import trim

OpenForm = Literal["number", "free_form"]
Found = tuple[str, int, int]


def read_open(text: str, form: OpenForm, where: Where) -> Found | None:
    """Return (rule, start, end) of the answer in `text`, or None."""
    if where == "cut_tag" or not text.strip():
        return None
    if where == "section" and not _BOXED.search(text):
        text = text[: _FIRST_LINE.match(text).end()]  # type: ignore[union-attr]
    if where in ("tag", "section"):
        return _read_tag(text, form)
    if stated := list(_find_stated(text, ends_complete=where == "reply")):
        chosen = _choose(text, form, stated)
        found = _narrow_stated(text, form, *chosen) if chosen else None
        if found or not chosen:
            return found
    if boxed := list(_BOXED.finditer(text)):
        return _narrow(text, form, "boxed", *boxed[-1].span(1))
    if where != "reply" or _refuses(text):
        return None
    if field := _JSON_ANSWER.search(text):
        return _narrow(text, form, "json", *field.span(field.lastindex or 0))
    return _read_short(text, form)


_FIRST_LINE = re.compile(r"(?:[^\w\n]*(?:```\w*[ \t]*)?\n)*[^\n]*")
"""The first line with a word in it, and what precedes it, such as the mark of a code block."""
_LONGEST_CHARS = 600
_MOST_STOPS = 12
_MOST_WORDS = 8
_MOST_WORDS_AROUND_NUMBER = 40
_BOXED = re.compile(r"\\boxed\s{0,4}\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}")
_JSON_ANSWER = re.compile(
    r"[\"'](?:final_?)?answer[\"']\s*:\s*(?:\"((?:[^\"\\\n]|\\.)*)\"|'((?:[^'\\\n]|\\.)*)'|([-+\d.eE]+)(?=\s*[,}\n]))",
    re.IGNORECASE,
)
_MARKS = r"[ \t]*[*_`]*"
_LINK = (
    r"(?:\s*(?:->|→|=>)|\s+(?:is|was|would\s+be|should\s+be|must\s+be|will\s+be)\b\s*[:：]?"
    rf"|{_MARKS}[ \t]*(?:[:：]|=(?!=)){_MARKS}|{_MARKS}[ \t]*\n(?:[=-]{{3,}}[ \t]*\n)?)"
)
_ENGLISH = (
    rf"(?P<before>\b(?:[A-Za-z']{{1,20}}\s{{1,3}}){{0,3}})?\b(?P<word>answer|ans)\b\.?(?:\s+to\s+(?:the|this|your)\s+question)?{_MARKS}{_LINK}"
    r"(?:\s*(?:that\s+)?(?:it|there)(?:\s+(?:is|are)|'s)\b)?"
)
_OTHER = (
    r"(?:\A\s*答\s*[:：]|(?:最终|正确)?答案(?:应该|应)?(?:是|为|為|：|:)(?:[：:])?"
    r"|正解は|答えは|(?<![法能])回答[：:是])"
)
_LEAD_IN = re.compile(rf"[\s*_#]*(?:(?:so|thus|therefore|hence),?\s+)?(?:{_ENGLISH}|{_OTHER})", re.IGNORECASE)
_STATED = re.compile(
    rf"(?:(?P<heading>^[ \t]{{0,3}}#{{1,6}}[^\n\w]{{0,8}}(?:final\s+|the\s+)?answer\W*?\n)|{_ENGLISH}|{_OTHER})",
    re.IGNORECASE | re.MULTILINE,
)
_NO_STATEMENT = re.compile(
    r"\b(?:no|not|\w+n't|cannot|unable|wrong|incorrect|false|bad|previous|earlier|first|initial|alternative|second|other|another"
    r"|(?<!only\s)(?<!best\s)possible|common|tempting|without|question\s+asks|for\s+the|asks)\b",
    re.IGNORECASE,
)
_REFUSED_BEFORE = re.compile(r"\b(?:no|cannot|\w+n't|unable|without)\b", re.IGNORECASE)
_CANNOT_ANSWER = re.compile(
    r"\b(?:cannot|can\s*not|can['’]t|unable\s+to|could\s+not|not\s+able\s+to)\s+(?:\w+\s+){0,2}answer\b"
    r"|\b(?:do\s+not|don['’]t)\s+know\b|\banswer\s+(?:cannot|can\s*not|can['’]t|could\s+not)\b"
    r"|(?:\bno|\bnot\s+have\s+an|\bdon['’]t\s+have\s+an)\s+(?:clear\s+|definite\s+)?answer\b"
    r"|(?:无法|不能)(?:回答|确定|判断)|不知道",
    re.IGNORECASE,
)
_NO_ANSWER = re.compile(
    r"\W*(?:unclear|unknown|uncertain|undetermined|indeterminate|ambiguous|impossible|either\b|neither\b|n/a\b|sorry\b"
    r"|(?:not|never)\s+(?:\w+\s+)?(?:visible|clear|known|readable|legible|possible|given|shown|available|determined|determinable|present|certain|sure)"
    r"|can(?:not|'t|\s+not)\b|could\s+not\b|unable\b|hard\s+to\b|difficult\s+to\b)",
    re.IGNORECASE,
)
_DENIED = re.compile(r"\W*(?:(?:definitely|certainly|clearly|surely|probably)\s+)?not\b", re.IGNORECASE)
_CORRECTION = re.compile(
    r"\b(?:wait|actually|no|sorry|correction|corrected|but|however|so|thus|therefore|hence|final|finally|in\s+conclusion|overall"
    r"|correct|right|instead|rather|conclude|conclusion)\b|所以|因此|最终|正确",
    re.IGNORECASE,
)
_ABBREVIATION = re.compile(
    r"(?:\b(?:mr|mrs|ms|dr|prof|st|mt|ft|no|nos|vs|jr|sr|inc|ltd|co|corp|ave|blvd|rd|dept|est|approx|fig|vol|gen|col|maj|capt|lt"
    r"|sgt|rev|hon|gov|sen|rep|e\.g|i\.e|etc|cf|al|[ap]\.m)|\b[A-Z](?:\.[A-Z])*)\Z",
    re.IGNORECASE,
)
_RESTATES = re.compile(r"\bi\.e\.|\bthat\s+is,|\bin\s+other\s+words\b", re.IGNORECASE)
_BLANK = re.compile(r"\s*")
_NUMBER_SIGN = re.compile(r"\b(?:no|nos|fig|vol)\Z", re.IGNORECASE)
_SENTENCE_START = re.compile(
    r"\s+(?:It|The|This|That|These|There|I|He|She|They|We|You|A|An|As|Because|Since|In|On|At|So|However)(?=[\s,])"
)
_STOP = re.compile(r"[.!?](?=[\s*_\"']|\Z)|[。！？]|\n")
_SAID = re.compile(
    r"\W*(?:so\s+|thus\s+|therefore\s+)?,?\s*(?:it|this|that|(?:the|this|that)\s+\w+(?:\s+\w+){0,3}?)\s*(?:is|are|'s|reads|says|shows)\b",
    re.IGNORECASE,
)


def _read_tag(text: str, form: OpenForm) -> Found | None:
    if boxed := list(_BOXED.finditer(text)):
        return _narrow(text, form, "boxed", *boxed[-1].span(1))
    if text.lstrip(" \t\r\n`").startswith(("{", "json")) and (field := _JSON_ANSWER.search(text)):
        return _narrow(text, form, "json", *field.span(field.lastindex or 0))
    if chosen := _choose(text, form, list(_find_stated(text, ends_complete=True))):
        return _narrow_stated(text, form, *chosen)
    lead_in = _LEAD_IN.match(text)
    start = lead_in.end() if lead_in and text[lead_in.end() :].strip() else 0
    return _narrow(text, form, "text", *_without_fence(text, start, len(text)))


def _find_stated(text: str, *, ends_complete: bool) -> Iterator[tuple[int, int, bool]]:
    """Find what the text calls the answer: start, end, and whether a word of correction or conclusion leads to it."""
    last_end = 0
    for match in _STATED.finditer(text):
        start = _BLANK.match(text, match.end()).end()  # type: ignore[union-attr]
        stop = _find_stop(text, start)
        end = stop if stop is not None else min(len(text), start + _LONGEST_CHARS)
        before = match["before"] or ""
        asks = text[end : end + 1] in ("?", "？")
        if (
            (stop is None and not ends_complete)
            or asks
            or _NO_STATEMENT.search(before)
            or _NO_ANSWER.match(text, start)
        ):
            continue
        if start < end:
            leads = text[max(last_end, match.start() - 60) : match.start()] + before
            yield start, end, bool(_CORRECTION.search(leads)) or match["heading"] is not None
            last_end = end


def _refuses(text: str) -> bool:
    """Tell whether the text says that it has no answer: "I cannot answer: ...", "The answer is unclear."."""
    for match in _STATED.finditer(text):
        start = match.end()
        if _REFUSED_BEFORE.search(match["before"] or "") or _NO_ANSWER.match(text, start):
            return True
    return _CANNOT_ANSWER.search(text) is not None


def _find_stop(text: str, start: int) -> int | None:
    """Find the end of the sentence that begins at `start`; None where the text ends first."""
    for match in islice(_STOP.finditer(text, start, start + _LONGEST_CHARS), _MOST_STOPS):
        before = text[max(start, match.start() - 12) : match.start()]
        if match[0] != "." or not _goes_on(before, text[match.end() : match.end() + 20]):
            return match.start()
    return None


def _goes_on(before: str, after: str) -> bool:
    """Tell whether the point between the two belongs to an abbreviation, and the sentence goes on."""
    if not after.strip() or not _ABBREVIATION.search(before):
        return False
    if _NUMBER_SIGN.search(before):
        return after.strip()[:1].isdigit()
    return _SENTENCE_START.match(after) is None


def _choose(text: str, form: OpenForm, stated: list[tuple[int, int, bool]]) -> tuple[int, int] | None:
    """Choose the statement that counts; None where two differ without a word of correction."""
    if len(stated) > 1:
        stated = [each for each in stated if not _DENIED.match(text, each[0])] or stated
    chosen: tuple[int, int] | None = None
    for start, end, corrects in stated:
        if chosen is None or corrects or not text[end:].strip(" \t\r\n.*_`\"'”。"):
            chosen = (start, end)
        elif not _are_equal(text[slice(*chosen)], text[start:end], form):
            return None
    return chosen


def _narrow_stated(text: str, form: OpenForm, start: int, end: int) -> Found | None:
    if inner := _BOXED.search(text, start, end):
        return _narrow(text, form, "boxed", *inner.span(1))
    return _narrow(text, form, "phrase", start, end)


def _are_equal(one: str, other: str, form: OpenForm) -> bool:
    if form == "number" and (first := find_number(one)) and (second := find_number(other)):
        return first.number.equals(second.number)
    return one.casefold().strip(" *_`\"'.") == other.casefold().strip(" *_`\"'.")


def _read_short(text: str, form: OpenForm) -> Found | None:
    start, end = _without_fence(text, 0, len(text))
    body = text[start:end]
    is_short = len(body.split()) <= _MOST_WORDS and "\n" not in body.strip()
    if form == "number":
        if len(body.split()) > _MOST_WORDS_AROUND_NUMBER:
            return None
        is_number = find_number(body) or (is_short and re.search(r"\d", body) and not _RESTATES.search(body))
        return _narrow(text, form, "short", start, end) if is_number else None
    if is_short:
        return _narrow(text, form, "short", start, end)
    sentences = [match for match in re.finditer(r"[^.!?。！？\n]+[.!?。！？]?", body) if match[0].strip()]
    last = sentences[-1] if sentences else None
    if last and len(last[0].split()) <= _MOST_WORDS and _SAID.match(last[0]) and "not" not in last[0].split():
        return _narrow(text, form, "short", start + last.start(), start + last.end())
    return None


def _without_fence(text: str, start: int, end: int) -> tuple[int, int]:
    """Leave out the marks of a code block."""
    if "```" not in text[start:end]:
        return start, end
    body = text[start:end]
    opened = re.match(r"\s*```(?:json|text|plaintext|markdown)?[ \t]*\n?", body)
    closed = re.search(r"```\s*\Z", body)
    return start + (opened.end() if opened else 0), start + (closed.start() if closed else len(body))


def _narrow(text: str, form: OpenForm, rule: str, start: int, end: int) -> Found | None:
    """Take off the wrapping; of a number, leave only the number with its unit, or the thing that is counted."""
    start, end = trim(text, start, end)
    if form == "number" and (found := find_number(text[start:end])):
        rest = text[start + found.end : end]
        is_thing = found.start == 0 and re.fullmatch(r"(?:\s+[^\W\d_]+){0,3}", rest)
        if not is_thing:
            start, end = start + found.start, start + found.end
    return (rule, start, end) if start < end else None
