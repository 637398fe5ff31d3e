"""Find the one number that a text states as its answer.

What explains the number does not count: brackets after it, "because ...", "not 7", the left side of an equation, the
floor in "on the 3rd floor". Where two numbers remain, none is read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

from p2r.answers.numbers.atoms import Atom, Number, find_atoms, fold
from p2r.answers.numbers.formula import calculate
from p2r.answers.numbers.units import find_unit
from p2r.answers.numbers.words import read_chinese
from p2r.answers.wrapping import trim


class FoundNumber(NamedTuple):
    """A number, and its place in the text."""

    number: Number
    start: int
    end: int


def find_number(text: str) -> FoundNumber | None:
    """Find the number that a text states; None where it states none, or more than one."""
    start, end = _trim_to_value(text)
    if not 0 < end - start <= _LONGEST_CHARS:
        return None
    folded = fold(text[start:end])
    if whole := _read_whole(folded):
        return FoundNumber(whole, start, end)
    found = _find_stated(folded)
    if found is None:
        return None
    first, last = start + found.start, start + found.end
    while text.count("{", first, last) > text.count("}", first, last) and text[last : last + 1] == "}":
        last += 1  # 25 \\text{cm}
    return FoundNumber(found.number, first, last)


def read_number(text: str) -> Number | None:
    """Read a text that is a number: "5 m", "about 5 cars", "42 (forty-two)"; None for a text that says more."""
    start, end = _trim_to_value(text)
    if not 0 < end - start <= _LONGEST_CHARS:
        return None
    folded = fold(text[start:end])
    if whole := _read_whole(folded):
        return whole
    atoms = _join(folded, list(find_atoms(_blank_remarks(folded))))
    if len(atoms) != 1 or atoms[0].kind not in ("number", "word") or _is_math(folded, atoms):
        return None
    return atoms[0].number


def explain_refusal(text: str) -> str:
    """Say what a text is that `read_number` does not read: "a date and not a number", or "not a number"."""
    folded = fold(text)
    kinds = [atom.kind for atom in _join(folded, list(find_atoms(folded))) if atom.number is None]
    return f"{kinds[0]} and not a number" if len(kinds) == 1 and kinds[0] != "ordinal" else "not a number"


_LONGEST_CHARS = 400
_EQUATION = re.compile(r"[^<>≤≥]*[^<>≤≥!\s]\s*[=≈](?=[^=]*\d)", re.DOTALL)
_MATH = re.compile(r"[\\√π^]|\d\s*!|[\d)}][⁰¹²³⁴-⁹]")
_VARIABLE = re.compile(r"\b[A-Za-z]\s?[-+*/]\s?\d|\d\s?[-+*/]\s?[A-Za-z]\b")
_NOTHING = re.compile(r"(?:none|zero|nil|nothing|无|沒有|没有|零)[\s.!。]*", re.IGNORECASE)
_CHINESE_WHOLE = re.compile(
    r"(?:共|一共|总共|有|一共有|总共有|是|为)?\s*([零〇一二两兩三四五六七八九十百千万萬亿億半]{1,12})[\u4e00-\u9fff]{0,3}[\s。.!！]*"
)
_REMARKS = re.compile(
    r"\([^()]*\)|（[^（）]*）|\[[^\[\]]*\]|(?<=[A-Za-z]):\s.*|\s[—–-]\s+(?=[A-Za-z]).*"
    r"|,?\s*\b(?:because|since|as|given that|which|where|including|consisting of|made up of|counting|for example)\b.*"
    r"|\bwith\b[^.]*\bconfidence\b|(?:因为|其中|包括).*",
    re.IGNORECASE | re.DOTALL,
)
_DENIAL = re.compile(
    r"(?:\b(?:not|rather than|instead of|never)|n't)\b(?!\s+only\b)[^.,;!?\n]{0,60}?(?=\bbut\b|[.,;!?](?:\s|\Z)|\n|\Z)",
    re.IGNORECASE,
)
_DENIAL_EAST = re.compile(r"(?:(?<!是)不是|[并並]非)[^，,。；;！!？?\n]{0,30}?(?=而是|[，,。；;！!？?\n]|\Z)")
_ASKED_AND_DENIED = re.compile(
    r"(?:[^.!?。！？\n]|\.(?=\d)){0,80}[?？]\s*(?:(?:no|nope)\b|不(?:是|对|對)?)(?=[^\S\n]*(?:[,.:;!—–，。！]|-\s|\Z))[,.:;!，。！]?",
    re.IGNORECASE,
)
_SURE = re.compile(r"\b\d+\s?%\s+(?:sure|certain|confident)\b", re.IGNORECASE)
_THE = re.compile(r"\bthe\b", re.IGNORECASE)
_ASKED = re.compile(r"[?？]")
_SENTENCE_END = re.compile(r"(?<=\w)[.!?](?:\s|\Z)|[。！？\n]")
_BETWEEN = {
    "a list": re.compile(r"\s*(?:[,;、，&]|,?\s*and\b|和|及)\s*|\s+"),
    "a choice of numbers": re.compile(r"\s*(?:,?\s*or\b|/|或)\s*"),
    "a range": re.compile(r"\s*(?:-|–|—|~|～|to\b|through\b|until\b|至|到)\s*"),
    "a ratio": re.compile(r"\s*(?::|：|out\s+of\b|in\b|of\b|比)\s*"),
    "a size": re.compile(r"\s*(?:x|×|by\b)\s*", re.IGNORECASE),
    "a calculation": re.compile(r"\s*[+*·÷^]\s*"),
}
_SAME = re.compile(r"\s*[=≈]\s*")
_COMPOUND = re.compile(r"\s*(?:,|and\b)?\s*")
_BOUND_BEFORE = re.compile(
    r"(?:\b(?:at\s+least|at\s+most|(?:more|less|fewer|greater|larger|higher|lower)\s+than|up\s+to|minimum\s+of|maximum\s+of)"
    r"|\A\W*(?:over|under|above|below|beyond)|[<>≤≥±]|超过|至少|至多|不到)\s*\Z",
    re.IGNORECASE,
)
_TOTAL_BEFORE = re.compile(
    r"\b(?:so|thus|therefore|hence|making|makes|altogether|total(?:s|ing|ling)?|sum)\b[\s:,]*(?:(?:of|is|are|there|that|that's|a|total|in|to)\s+){0,5}\Z",
    re.IGNORECASE,
)
_TOTAL_AFTER = re.compile(r"(?:\s+[a-z]+){0,4}?\s+(?:in\s+total|total|altogether|in\s+all)\b", re.IGNORECASE)
_ONE_BEFORE = re.compile(
    r"(?:\A\W*|\b(?:is|are|was|were|be|only|just|exactly|about|see|count|counted|show|shows|has|have|contains?|with|of|or)\s+|[:=]\s*)\Z",
    re.IGNORECASE,
)
_LABEL_BEFORE = re.compile(
    r"\b(?:room|floor|row|page|figure|fig\.?|table|option|chapter|level|gate|platform|route|bus|line|step|image|crop|box"
    r"|column|photo|pic(?:ture)?|panel|section|house|lane|track|seat|no\.|number|#)\s*\Z",
    re.IGNORECASE,
)
_YEAR = re.compile(r"1[5-9]\d\d|20\d\d")
_YEAR_BEFORE = re.compile(r"(?:\A|[.!?\n])\W*(?:in|by|since|during|as\s+of)\s+(?:the\s+year\s+)?\Z", re.IGNORECASE)
_YEAR_AFTER = re.compile(r",?\s+(?:there|it|they|the|we|i|he|she|this)\b", re.IGNORECASE)


def _trim_to_value(text: str) -> tuple[int, int]:
    """Leave out the wrapping, and the left side of an equation."""
    start, end = trim(text, 0, len(text))
    if end - start <= _LONGEST_CHARS and (left := _EQUATION.match(text, start, end)):
        start, end = trim(text, left.end(), end)
    return start, end


def _read_whole(text: str) -> Number | None:
    """Read a text that is nothing but a number word, an ordinal, Chinese numerals or a formula."""
    if _NOTHING.fullmatch(text):
        return Number(Fraction(0))
    if match := _CHINESE_WHOLE.fullmatch(text):
        value = read_chinese(match[1])
        return None if value is None else Number(value)
    atoms = list(find_atoms(text))
    joined = _join(text, atoms)
    only = joined[0] if len(joined) == 1 else None
    if only is None or _is_math(text, atoms) or only.kind in ("a list", "a calculation"):
        return _read_formula(text) if _MATH_SIGN.search(text) and not _has_other_kind(atoms) else None
    around = text[: only.start] + " " + text[only.end :]
    return None if re.search(r"\w", _THE.sub("", around)) else only.number


def _is_math(text: str, atoms: Sequence[Atom]) -> bool:
    """Tell whether there is a formula in a text, outside numbers such as 2 x 10^3."""
    if _VARIABLE.search(text):
        return True
    ends = [0, *(atom.end for atom in atoms)]
    starts = [*(atom.start for atom in atoms), len(text)]
    return any(_MATH.search(text[max(0, end - 1) : start]) for end, start in zip(ends, starts, strict=True))


def _has_other_kind(atoms: Sequence[Atom]) -> bool:
    return any(atom.number is None for atom in atoms)


_MATH_SIGN = re.compile(r"[+*/÷·\\√π^!()⁰¹²³⁴-⁹]")


def _read_formula(text: str) -> Number | None:
    text = text.rstrip(" .,;")
    if not _MATH_SIGN.search(text) or (found := calculate(text)) is None:
        return None
    value, length = found
    rest = text[length:].strip()
    if not rest:
        return Number(value)
    units, unit_length = find_unit(rest)
    return Number(value, units=units) if unit_length == len(rest) else None


def _find_stated(text: str) -> FoundNumber | None:
    if _is_math(text, list(find_atoms(text))):
        return None
    text = _blank_remarks(text)
    if found := _find_only(text, 0, len(text)):
        return found
    ends = [match.end() for match in _SENTENCE_END.finditer(text.rstrip(" \n.!?。！？\0"))]
    if not ends or _ASKED.search(text):
        return None
    first, last = _find_only(text, 0, ends[0]), _find_only(text, ends[-1], len(text))
    if first and last and not first.number.equals(last.number):
        return None  # "There are 2 red boats. There are 3 blue ones."
    return first or last  # "9. I see 4 and 5.", "1, 2, 3. There are 3."


def _find_only(text: str, start: int, end: int) -> FoundNumber | None:
    """Find the number in a part of a text; None where it has two, or one of another kind, such as a range."""
    atoms = _join(text, list(find_atoms(text, start, end)))
    if any(atom.kind in _BETWEEN or atom.kind == "a bound" for atom in atoms):
        return None
    numbers = [atom for atom in atoms if atom.number is not None]
    plain = [atom for atom in numbers if atom.kind == "number" and not _is_label(text, atom)]
    totals = [atom for atom in numbers if _is_total(text, atom)]
    counted = totals or plain or [atom for atom in numbers if _may_count(text, atom)]
    if not counted or not all(_is_same(counted[0], other) for other in counted):
        return None
    return FoundNumber(counted[0].number or Number(Fraction(0)), counted[0].start, counted[0].end)


def _is_label(text: str, atom: Atom) -> bool:
    """Tell whether a number only says where or when: "room 12", "in 2019 there were ..."."""
    before = text[: atom.start]
    is_year = _YEAR.fullmatch(text, atom.start, atom.end) and _YEAR_AFTER.match(text, atom.end)
    return bool(_LABEL_BEFORE.search(before) or (is_year and _YEAR_BEFORE.search(before)))


def _is_total(text: str, atom: Atom) -> bool:
    before = text[max(0, atom.start - 60) : atom.start]
    return bool(_TOTAL_BEFORE.search(before) or _TOTAL_AFTER.match(text, atom.end))


def _may_count(text: str, atom: Atom) -> bool:
    """Tell whether a number may be meant: not a place in an order, nor a thing ("the red one")."""
    return atom.kind == "number" or (atom.kind == "word" and _ONE_BEFORE.search(text[: atom.start]) is not None)


def _is_same(one: Atom, other: Atom) -> bool:
    return one.number is not None and other.number is not None and one.number.equals(other.number)


def _blank_remarks(text: str) -> str:
    """Blank what only explains the number, or denies another one; a text that is nothing else stays."""

    def blank(match: re.Match[str]) -> str:
        return "\0" * len(match[0]) if next(find_atoms(text[: match.start()]), None) else match[0]

    for aside in (_ASKED_AND_DENIED, _DENIAL, _DENIAL_EAST, _SURE):
        text = aside.sub(lambda match: "\0" * len(match[0]), text)
    return _REMARKS.sub(blank, text)


def _join(text: str, atoms: Sequence[Atom]) -> list[Atom]:
    """Join atoms that belong together: 5 ft 10 in is one number, 5-6 a range, and 2 + 3 = 5 is 5."""
    joined: list[Atom] = []
    for atom in atoms:
        if _BOUND_BEFORE.search(text[max(0, atom.start - 30) : atom.start]):
            atom = replace(atom, kind="a bound", number=None)
        if not joined:
            joined.append(atom)
            continue
        last, between = joined[-1], text[joined[-1].end : atom.start]
        if _SAME.fullmatch(between):
            joined[-1] = atom
        elif compound := _add_up(last, atom, between):
            joined[-1] = compound
        elif kind := next((kind for kind, pattern in _BETWEEN.items() if pattern.fullmatch(between)), None):
            joined[-1] = Atom(kind, last.start, atom.end)
        else:
            joined.append(atom)
    return joined


def _add_up(large: Atom, small: Atom, between: str) -> Atom | None:
    """Add feet and inches, hours and minutes."""
    if large.number is None or small.number is None or not _COMPOUND.fullmatch(between):
        return None
    for unit in large.number.units:
        for part in small.number.units:
            if unit.dimension == part.dimension in ("length", "time", "mass") and unit.factor > part.factor:
                value = large.number.value + small.number.value * part.factor / unit.factor
                return Atom("number", large.start, small.end, Number(value, units=(unit,)))
    return None
