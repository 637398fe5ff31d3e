"""Read whether a judging model says yes or no, in whatever form it was taught to answer.

In answer tags or after thinking, boxed, as JSON, as "the answer is yes", as the first word or the last, in English or
Chinese. Everything that it says has to agree; a reason may hold the other word ("Yes, there is no difference").
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from p2r.answers.region import find_region
from p2r.answers.wrapping import trim
from p2r.errors import JudgeError, excerpt
from p2r.types import Completion


def read_yes_or_no(completion: Completion) -> bool:
    """Return True for yes and False for no.

    Raises:
        JudgeError: the reply says neither, or both, or was cut off before it was clear.
    """
    text, _, where = find_region(completion.text)
    whole = _read_word(text)
    if completion.finish_reason == "length" and whole is None and where != "tag":
        raise JudgeError(
            f"the judging model {completion.model!r} was cut off: {_quote_end(completion)}",
            hint="allow it more new tokens, or ask a model that does not think",
        )
    said = {whole} if whole is not None else set(_find_statements(text))
    if len(said) == 1 and where != "thought":
        return said.pop()
    raise JudgeError(
        f"the judging model {completion.model!r} said neither yes nor no: {_quote_end(completion)}",
        hint="judge with a stronger model, or with the words themselves",
    )


_END_CHARS = 60
_YES = ("yes", "true", "correct", "right", "是", "是的", "对", "對", "正确", "正確", "相同", "一致")
_NO = (
    "no",
    "false",
    "incorrect",
    "not correct",
    "wrong",
    "否",
    "不",
    "不是",
    "不对",
    "不對",
    "不正确",
    "错误",
    "不同",
    "不一致",
)
_ALIKE = ("equivalent", "the same", "same", "equal", "identical", "等价")
_UNLIKE = ("not equivalent", "not the same", "not equal", "not identical", "different", "不等价")
_WORD = "|".join(sorted((*_YES, *_NO), key=len, reverse=True))
_CLOSED = r"(?=[^\S\n]*(?:[.,;:!*_`\"”\])}。，！；：\n]|[–—]|-\s|--|\Z))"
_JSON = re.compile(
    r"[\"'](?:is_?)?(?:correct|answer|verdict|judge?ment|result|match|equal|equivalent|same)[\"']\s*:\s*[\"']?"
    r"(?P<word>true|false|yes|no|correct|incorrect|1|0)\b",
    re.IGNORECASE,
)
_BOXED = re.compile(r"\\boxed\s{0,4}\{((?:[^{}]|\{[^{}]*\})*)\}")
_STATED = re.compile(
    rf"(?P<whose>\b(?:correct|right|given|expected|reference|target|predicted|student's|truth)\s+)?"
    rf"(?:\b(?:answer|verdict|judge?ment|conclusion|decision|result)\b|答案|结论|判断)[*_`\s]{{0,4}}(?:\bis\b|是|为|[:：])[\s*_`\"“:：]{{0,6}}"
    rf"(?P<word>{_WORD}){_CLOSED}",
    re.IGNORECASE,
)
_FIRST = re.compile(rf"[\W_]*(?P<word>{_WORD})(?!\"){_CLOSED}", re.IGNORECASE)
_FIRST_OF_MANY = re.compile(r"[\W_]*(?P<word>yes|no)\s+(?!and\b|or\b)(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
_LAST = re.compile(r"\b(?:so|therefore|thus|hence|but)\b[\s,:]{0,3}(?P<word>yes|no)[\W_]*\Z", re.IGNORECASE)
_WHOLE = re.compile(
    r"[\W_]*i(?:'d|’d|\s+would|\s+will|'ll|’ll)?\s+(?:say|answer)[\s:,\"“'*]{0,4}(?:that\s+)?(?:they\s+are)?\s*"
    rf"(?P<word>n[o'’]t\s+(?:the\s+same|equivalent|equal|identical)|{'|'.join(_ALIKE)}|different|yes|no)[^\w?？]*",
    re.IGNORECASE,
)
# A sentence that says whether the two are alike: "They are not the same.", "Yes, both answers match.", "两者相同。"
_COMPARED = re.compile(
    r"(?:\A|[.!?。！？\n]|\b(?:yes|no),)[\s*_`\"“]{0,9}"
    r"(?:(?:they|these|both(?:\s+answers)?|the\s+(?:two\s+)?answers|the\s+two)\s*"
    r"(?:(?:are|'re|’re)\s*(?P<no>n[o'’]t\s+)?(?:the\s+same|same|equivalent|equal|identical)"
    r"|(?:(?:do\s+not|don['’]t)\s+)(?P<never>match|mean\s+the\s+same)|match|mean\s+the\s+same(?:\s+thing)?"
    r"|(?P<unlike>differ|(?:are|'re|’re)\s+different))"
    r"|(?:两者|二者|它们)(?:的意思)?(?:是)?(?:相同|一样|一致|等价|(?P<other>不同|不一样|不一致|不相同|不等价))的?)"
    r"[\s*_`\"]{0,9}(?=[.!。！\n]|\Z)",
    re.IGNORECASE,
)
_LABELED = re.compile(
    r"^[\s*_#`]{0,9}(?:final\s+)?(?:judge?ment|verdict|decision|equivalent)[*_`]{0,2}\s*[:：=][\s*_`]{0,4}"
    rf"(?P<word>1|0|{'|'.join((*_UNLIKE, *_ALIKE))})[\s*_`.。]*$",
    re.IGNORECASE | re.MULTILINE,
)
_TAKEN_BACK = re.compile(
    r"[\W_]*(?:yes|no)\b[\s,.;:!—–-]*\b(?:wait|hold\s+on|scratch\s+that)\b[^\w?？]*", re.IGNORECASE
)
_AROUND_WORD = re.compile(r"\A[^\w?？]+|[^\w?？]+\Z|\A_+|_+\Z")
_ALONE = re.compile(
    rf"(?:\A|[.!?。！\n])[\s*_`\"]{{0,9}}(?P<word>{_WORD})[\s*_`\"]{{0,9}}(?=[.!。！\n]|\Z)", re.IGNORECASE
)


def _find_statements(text: str) -> Iterator[bool]:
    if taken_back := _TAKEN_BACK.match(text):
        text = text[taken_back.end() :]  # "No, wait. Yes."
        if len({word.casefold() for word in re.findall(r"\b(?:yes|no)\b", text, re.IGNORECASE)}) != 1:
            return
        if (word := _read_word(text)) is not None:
            yield word
    for match in _COMPARED.finditer(text):
        yield not any(match.group("no", "never", "unlike", "other"))
    if (match := _WHOLE.fullmatch(text)) and (
        word := _read_word(re.sub(r"^n['’]t\b", "not", match["word"]))
    ) is not None:
        yield word
    for match in _LABELED.finditer(text):
        yield match["word"] == "1" if match["word"] in "10" else bool(_read_word(match["word"]))
    for match in _JSON.finditer(text):
        yield match["word"].casefold() in ("true", "yes", "correct", "1")
    for match in _BOXED.finditer(text):
        if (word := _read_word(match[1])) is not None:
            yield word
    for match in _STATED.finditer(text):
        if not match["whose"] or match["word"].casefold() not in ("yes", "no"):  # not "the correct answer is yes"
            yield _means_yes(match["word"])
    for match in (_FIRST.match(text), _LAST.search(text[-_END_CHARS:])):
        if match:
            yield _means_yes(match["word"])
    if (match := _FIRST_OF_MANY.match(text)) and not re.search(r"\b(?:yes|no)\b", match["rest"], re.IGNORECASE):
        yield _means_yes(match["word"])
    for match in _ALONE.finditer(text):
        yield _means_yes(match["word"])


def _read_word(text: str) -> bool | None:
    """Read a text that is one word; None for any other."""
    start, end = trim(text, 0, len(text))
    word = " ".join(_AROUND_WORD.sub("", text[start:end]).casefold().split())
    if word in _YES or word in _ALIKE:
        return True
    return False if word in _NO or word in _UNLIKE else None


def _means_yes(word: str) -> bool:
    return word.casefold() in _YES


def _quote_end(completion: Completion) -> str:
    return excerpt(completion.text.strip(), 120, keeps_end=True)
