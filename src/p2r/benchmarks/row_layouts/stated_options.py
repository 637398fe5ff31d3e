"""Find the options that a question states, in the ways in which data sets write them.

On lines of their own (`A. red`, `(A) red`, `a) red`, `- A: red`, `**A.** red`, `A、红`, `【A】红`, `A red`), or one
after another on a line (`What color? A. red B. blue`, `Options: (A) red, (B) blue`). Full-width characters are as good
as ASCII. Numbers (`1. red`) count as well, but numbered lines may be anything: they are options only at the end of a
question, and where the answer is one of them. A question's letters have to run A, B, C, ...; of several lists the last
one counts. What follows the last option's line, such as "Answer with a letter.", is not part of the option.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from p2r.choices import fold_width
from p2r.types import LETTERS


@dataclass(frozen=True, slots=True)
class OptionMark:
    """A letter or number that announces an option, as a place in the question.

    index: the option's number, from 0.
    start, end: the mark with its brackets and blanks. label: where its letter or number is.
    """

    index: int
    start: int
    end: int
    label: tuple[int, int]


class StatedOptions(NamedTuple):
    """Options as a question states them: their texts, without letters, and the places of their marks."""

    texts: tuple[str, ...]
    marks: tuple[OptionMark, ...]


def find_lettered(question: str) -> StatedOptions | None:
    """Find the options that the question states with letters."""
    folded = _BREAK.sub(lambda match: " " * (len(match[0]) - 1) + "\n", fold_width(question)).translate(_ROUND)
    lines = _first(question, folded, (_LINES, _SMALL_LINES), inline=False)
    if lines and not any(_BRACKETED.search(text) for text in lines.texts):
        return lines
    inline = _first(question, folded, (_BRACKETED, _SMALL_BRACKETED, _INLINE, _SMALL_INLINE), inline=True)
    if inline and (lines is None or len(inline.texts) > len(lines.texts)):
        return inline
    bare = lines or _first(question, folded, (_BARE_LINES,), inline=False)
    return bare or _first(question, folded, (_BARE_INLINE,), inline=True)


def find_numbered(question: str) -> StatedOptions | None:
    """Find the options that the question states with numbers, from 1, at its end."""
    folded = fold_width(question)
    found = _first(question, folded, (_NUMBERED_LINES,), inline=False)
    found = found or _first(question, folded, (_NUMBERED_INLINE,), inline=True)
    if found is None:
        return None
    before, after = folded[: found.marks[0].start], folded[found.marks[-1].end :]
    return found if re.search(r"[?:]\s*$", before) and "?" not in after else None


def write_letters(question: str, options: StatedOptions) -> str:
    """Return the question with letters in place of the options' numbers."""
    for mark, letter in reversed(list(zip(options.marks, LETTERS, strict=False))):
        start, end = mark.label
        new = letter if question[start:end].isascii() else f"({letter}) "  # a circled number has its bracket in itself
        question = question[:start] + new + question[end:]
    return question


def remove_options(question: str) -> str:
    """Return the question without the lettered options that it states, and without their heading."""
    found = find_lettered(question)
    if found is None:
        return question
    before = question[: found.marks[0].start].rstrip()
    if heading := _HEADING.search(fold_width(before)):
        before = before[: heading.start()].rstrip()
    after = question[found.marks[-1].end :].partition("\n")[2].strip()
    return f"{before}\n{after}".strip()


_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_ROUND = {0x24B6 + k: ord("A") + k for k in range(26)} | {0x24D0 + k: ord("a") + k for k in range(26)}
_BULLET = r"(?:[-*•·▪+>|][ \t]+)?"
_WORD = r"(?:(?:option|choice|选项)[ \t]*)?"
_OPEN = r"(?P<open>\*{1,3}|__|<b>|<strong>|\\textbf\{|[$\"'`])?"
_SHUT = r"(?(open)(?:\*{1,3}|__|</b>|</strong>|[}$\"'`])?)"
_AFTER = r"[ \t]*(?=\S)"


def _bracketed(label: str) -> str:
    return rf"[(\[{{【「<][ \t]*(?P<in>{label})[ \t]*[)\]}}】」>]{_SHUT}[.:、]?{_SHUT}"


def _closed(label: str, closers: str) -> str:
    return rf"(?P<out>{label}){_SHUT}(?:{closers}){_SHUT}"


def _at_line(label: str) -> re.Pattern[str]:
    closed = _closed(label, r"[ \t]?[).:、\]】=→|]|[,;](?=[ \t])|[-–—]|[ \t]+[-–—=](?=[ \t])")
    mark = rf"{_OPEN}(?i:{_WORD})(?:{_bracketed(label)}|{closed})"
    return re.compile(rf"^[ \t]*{_BULLET}{mark}[ \t]*\n?{_AFTER}", re.MULTILINE)


def _in_line(label: str) -> re.Pattern[str]:
    closed = _closed(label, r"[ \t]?[).:、]|[-=](?=[ \t])|[ \t]+[-–—=→](?=[ \t])")
    return re.compile(rf"(?<![A-Za-z0-9_.])(?<![(\[{{【](?=[A-Za-z]))(?i:{_WORD}){_OPEN}{closed}{_AFTER}")


_LINES, _SMALL_LINES = _at_line("[A-Z]"), _at_line("[a-z]")
_BARE_LINES = re.compile(rf"^[ \t]*{_BULLET}{_OPEN}(?P<out>[A-Z]){_SHUT}(?:[ \t]+|[ \t]*\n)(?!=){_AFTER}", re.MULTILINE)
_BRACKETED = re.compile(rf"{_OPEN}{_bracketed('[A-Z]')}[ \t]*")
_SMALL_BRACKETED = re.compile(rf"{_OPEN}{_bracketed('[a-z]')}[ \t]*")
_INLINE, _SMALL_INLINE = _in_line("[A-Z]"), _in_line("[a-z]")
_BARE_INLINE = re.compile(rf"(?<=[:,;])[ \t]*(?P<out>[A-Z])[ \t]+{_AFTER}")
_NUMBER = r"\d{1,2}|[①-⑳]"
_NUMBERED_LINES = re.compile(
    rf"^[ \t]*{_BULLET}{_OPEN}(?:{_bracketed(_NUMBER)}|{_closed(r'[0-9]{1,2}', r'[ ]?[).:、]')}|(?P<round>[①-⑳]))"
    + _AFTER,
    re.MULTILINE,
)
_NUMBERED_INLINE = re.compile(
    rf"{_OPEN}{_bracketed(r'[0-9]{1,2}')}[ \t]*|(?P<round>[①-⑳])[ \t]*"
    r"|(?<![\w.])(?P<out>[0-9]{1,2})[.)、][ \t]+(?=\S)"
)
_LINK = re.compile(r"[\s,;，；]*(?:(?<!either )\b(?:or|and)|或者?)$", re.IGNORECASE)
_SEPARATORS = " \t,;|/，；"
_HEADING = re.compile(r"(?:options?|choices?|选项|candidates?|answers?)[ \t]*:[ \t]*$", re.IGNORECASE)
_QUOTED = re.compile(r"[\"']?(.*?)[\"']\s*(?:[,}\]]|$)", re.DOTALL)
_QUESTION = re.compile(r"(?:[.;!]\s+(?=[A-Z])|[。；！]\s*)[^.;!。；！]*[?？]\s*$")
_INSTRUCTION = re.compile(
    r"[.;!?。；！？]\s*(?:please|answer|choose|select|pick|respond|reply|give|provide|output|write|think|your answer"
    r"|the answer|请|回答|选择)(?![a-z]).*",
    re.IGNORECASE | re.DOTALL,
)


def _first(question: str, folded: str, kinds: Sequence[re.Pattern[str]], *, inline: bool) -> StatedOptions | None:
    """Find the last list of the first kind that has one."""
    for kind in kinds:
        for run in reversed(list(_runs(_find_marks(folded, kind)))):
            if not _may_begin(folded, run, kind):
                continue
            texts = _read_texts(question, folded, run, inline=inline)
            if all(texts):
                return StatedOptions(texts, tuple(run))
    return None


def _find_marks(folded: str, kind: re.Pattern[str]) -> Iterator[OptionMark]:
    for match in kind.finditer(folded):
        name = next(name for name, value in match.groupdict().items() if value is not None and name != "open")
        yield OptionMark(_index(match[name]), match.start(), match.end(), match.span(name))


def _index(label: str) -> int:
    if label.isascii():
        return int(label) - 1 if label.isdigit() else ord(label.upper()) - ord("A")
    return ord(label) - ord("①")


def _runs(marks: Iterator[OptionMark]) -> Iterator[list[OptionMark]]:
    """Yield each run of marks A, B, C, ... of two or more, as long as it gets."""
    run: list[OptionMark] = []
    for mark in marks:
        if mark.index == len(run):
            run.append(mark)
            continue
        if len(run) >= 2:
            yield run
        run = [mark] if mark.index == 0 else []
    if len(run) >= 2:
        yield run


def _may_begin(folded: str, run: list[OptionMark], kind: re.Pattern[str]) -> bool:
    """Tell a list from initials ("asked J. A. Smith"), given values ("A = 5, B = 7") and the like."""
    before, mark = folded[: run[0].start].rstrip(" \t\"'([{*-"), folded[run[0].start : run[0].end]
    if kind is _BARE_INLINE or "=" in mark:
        return before.rstrip().endswith("?") or _HEADING.search(before) is not None
    if kind not in (_INLINE, _SMALL_INLINE) or (len(run) > 2 and re.search("[.)、]", mark)):
        return True
    return not before or before[-1] in "?:!。;,、\n>" or re.search(r"\w\w\.$", before) is not None


def _read_texts(question: str, folded: str, run: list[OptionMark], *, inline: bool) -> tuple[str, ...]:
    texts: list[str] = []
    has_link = False  # "is it (A) red or (B) blue?"
    is_quoted = inline and any(
        mark in folded[max(0, run[0].start - 1) : run[0].end] for mark in "'\""
    )  # ["A. red", ...]
    for mark, following in zip(run, [*run[1:], None], strict=True):
        line_end = folded.find("\n", mark.end)
        end = following.start if following else line_end if line_end >= 0 else len(folded)
        text = _BREAK.sub("", question[mark.end : end]).strip()
        if inline and following:
            unlinked = _LINK.sub("", text)
            has_link, text = unlinked != text, unlinked.rstrip(_SEPARATORS)
        elif inline:
            text = _INSTRUCTION.sub("", _QUESTION.sub("", text)).rstrip(_SEPARATORS + ("?？" if has_link else ""))
        for closing in ("**", "</b>", "</strong>"):  # the letter was bold as well
            if text.count(closing) % 2 and text.endswith(closing):
                text = text.removesuffix(closing).rstrip()
        if is_quoted and (quoted := _QUOTED.match(text)):
            text = quoted[1].strip()
        texts.append(text.removesuffix(" |"))
    return tuple(texts)
