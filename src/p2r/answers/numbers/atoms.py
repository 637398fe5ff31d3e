"""Find what is written with digits or number words in a text: numbers with their units, and what only looks like one.

A date, a time, a telephone number, an address, a code and an ordinal are atoms of their own kind, so that no part of
them is taken for a number.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from p2r.answers.numbers.lookalikes import ADDRESS, DATE, TELEPHONE, TIME
from p2r.answers.numbers.units import Unit, find_unit, read_unit
from p2r.answers.numbers.words import CHINESE, FACTORS, ORDINAL, WORDS, read_chinese, read_ordinal, read_words


@dataclass(frozen=True, slots=True)
class Number:
    """A value as it is written: 50 for 50%.

    units: the meanings of its unit; () for none, or for a thing that is counted.
    """

    value: Fraction
    is_percent: bool = False
    units: tuple[Unit, ...] = ()

    def equals(self, other: Number) -> bool:
        """Tell whether the two have the same value, converted where their units have a dimension in common."""
        if self.units and other.units:
            pairs = [(mine, its) for mine in self.units for its in other.units if mine.dimension == its.dimension]
            return any(is_close(_convert(self.value, mine), _convert(other.value, its)) for mine, its in pairs)
        if self.is_percent == other.is_percent:
            return is_close(self.value, other.value)
        if self.units or other.units:
            return False  # 50% and 50 kg
        return is_close(self.value, other.value) or is_close(
            self.value / (100 if self.is_percent else 1), other.value / (100 if other.is_percent else 1)
        )


@dataclass(frozen=True, slots=True)
class Atom:
    """A number, or something else with digits in it, at `text[start:end]`.

    kind: "number"; "word", a number word that may be none ("one"); "ordinal"; or the name of something else.
    """

    kind: str
    start: int
    end: int
    number: Number | None = None


def is_close(a: Fraction, b: Fraction) -> bool:
    """Tell whether two values are equal, exactly or to six decimals; below 1, to six significant digits."""
    return a == b or abs(a - b) <= Fraction(2, 10**6) * min(Fraction(1), abs(a), abs(b))


def fold(text: str) -> str:
    """Return the text, as long as before, with plain digits and signs, and blanks in place of LaTeX markup."""
    text = text.translate(_PLAIN)
    if "\\" not in text:
        return text
    text = text.replace("~", " ")
    for _ in range(2):  # \text{\bf{cm}}
        text = _STYLED.sub(lambda match: " " * (match.start(1) - match.start()) + match[1] + " ", text)
    return _LATEX.sub(lambda match: _LATEX_SIGNS.get(match[0].replace(" ", ""), "").rjust(len(match[0])), text)


def find_atoms(text: str, start: int = 0, end: int | None = None) -> Iterator[Atom]:
    """Find all atoms of a folded text, or of its part, from left to right."""
    position, end = start, len(text) if end is None else end
    while match := _ATOM.search(text, position, end):
        atom = _read(text, match)
        yield atom
        position = atom.end


class _PlainCharacters(dict[int, str]):
    def __missing__(self, code: int) -> str:
        character = chr(code)
        plain = " " if unicodedata.category(character) in ("Cf", "Zs") else unicodedata.normalize("NFKC", character)
        keeps = len(plain) != 1 or character in _KEPT
        self[code] = _SIGNS.get(plain, _SIGNS.get(character, character if keeps else plain))
        return self[code]


_KEPT = "²³⁴⁵⁶⁷⁸⁹⁰¹µ′″"
_SIGNS = {"−": "-", "﹣": "-", "⁄": "/", "∕": "/", "×": "×", "⋅": "·", "’": "'", "‘": "'", "“": '"', "”": '"', "¥": "¥"}
_PLAIN = _PlainCharacters()
_STYLED = re.compile(
    r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mathsf|operatorname|mbox|boxed)\s?\{([^{}]*)\}"
)
_LATEX = re.compile(
    r"\\(?:left|right|quad|circ|degree|approx|pm)\b|\\[,;:!~ %$&#()\[\]]|\^\s?(?:\{\s?\\circ\s?\}|\\circ\b)"
)
_LATEX_SIGNS = {"^{\\circ}": "°", "^\\circ": "°", "\\circ": "°", "\\degree": "°"} | {
    "\\%": "%", "\\$": "$", "\\pm": "±",
}  # fmt: skip

_VULGAR = "½¼¾⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞⅐⅑⅒"
_DIGITS = (
    r"(?:\d{1,3}(?:\.\d{3})+,\d+|\d{1,3}(?:(?:,|\{,\})\d{3})+(?:\.\d+)?|\d{1,2}(?:,\d{2})+,\d{3}(?:\.\d+)?"
    r"|\d{1,3}(?:[ ]{1,2}\d{3})+(?![\d.,])|\d+(?:\.\d+)?|\.\d+)"
)
_CURRENCY = r"(?:(?:US|HK|NT|[ACS])?\$|[€£¥₹₩]|\b(?:USD|EUR|GBP|JPY|CNY|RMB|CHF|INR|CAD|AUD|Rs\.?)(?=\s?\d))"
_COUNTER = "个個只条條张張本辆輛人位名件把座栋棟艘架头頭匹朵棵支枝块塊片层層间間家台部盏盞扇根颗顆只隻岁歲元米"
_FRACTION = r"(?:(?P<whole>\d{1,9})[ ])?(?P<top>\d{1,20})\s?/\s?(?P<bottom>\d{1,20})(?![\d/])"
_VULGAR_FRACTION = rf"(?P<vulgar_whole>\d{{1,9}})?\s?(?P<vulgar>[{_VULGAR}])"
_POWER_OF_TEN = (
    r"\s?(?:[eE]|[x×*·]\s?10\s?\^)\s?\{?\s?(?P<power>[-+]?\d{1,3})\s?\}?"
    r"|\s?[x×*·]\s?10(?P<superscript>[⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,3})"
)
_SIGN = r"(?:(?<![\w)°'\"\].])(?P<sign>[-+–])|\b(?P<minus>minus|negative)\s)"
_WORDS = rf"(?<![A-Za-z\d_-])(?<!one\sby\s)(?!one\s(?:by\sone|another|at\sa)\b)(?P<words>{WORDS})(?![A-Za-z\d_])"
_ATOM = re.compile(
    rf"(?P<date>{DATE})|(?P<time>{TIME})|(?P<address>{ADDRESS})|(?P<telephone>{TELEPHONE})"
    rf"|(?P<ordinal>第\s?(?:\d+|{CHINESE})|\b{ORDINAL})"
    rf"|(?P<number>{_SIGN}?(?P<currency>{_CURRENCY}\s?(?P<after>-)?)?"
    rf"(?:(?:(?<![A-Za-z\d_])|(?<=\dx))(?:{_FRACTION}|{_VULGAR_FRACTION}|(?P<digits>{_DIGITS})(?:{_POWER_OF_TEN})?)"
    rf"|{_WORDS}|(?P<chinese>(?:{CHINESE})(?=[{_COUNTER}]))))",
    re.IGNORECASE,
)
_FACTOR = re.compile(
    rf"\s?-?(?P<word>{'|'.join(FACTORS)})s?\b|\s?(?P<short>mn|mio|bn)\b|(?-i:(?P<letter>[kKM]))(?![A-Za-z\d])"
    r"|\s(?-i:(?P<spaced>M))(?![A-Za-z\d²³^/])|\s?(?P<chinese>十万|百万|千万|[千万萬亿億])",
    re.IGNORECASE,
)
_FACTOR_OF_MONEY = re.compile(r"\s?(mm?|B|T)\b")
_FACTORS = (
    FACTORS
    | {"mn": 10**6, "mio": 10**6, "bn": 10**9, "k": 10**3, "m": 10**6, "mm": 10**6, "b": 10**9, "t": 10**12}
    | {"千": 10**3, "万": 10**4, "萬": 10**4, "十万": 10**5, "百万": 10**6, "千万": 10**7, "亿": 10**8, "億": 10**8}
)
_GAP = re.compile(r"\s{0,20}-?")
_HALF_A = re.compile(r"\s(?:an?|of\san?)\s")
_CODE = re.compile(r"(?!x\d|(?:pcs?|px|ppl)\b)[A-Za-z_][A-Za-z\d_]{0,60}")
_PERCENT = re.compile(r"\s?(?:[%٪]|per\s?cent(?:age)?(?:\s+points?)?\b|pct\b\.?)", re.IGNORECASE)
_OPEN_ENDED = re.compile(
    r"\s?\+(?![\s\d(.\\])|\+(?=\s[A-Za-z]|\s*\Z)|\s+(?:or|and)\s+(?:more|less|fewer|above|over)\b", re.IGNORECASE
)
_KINDS = {"date": "a date", "time": "a time", "address": "an address", "telephone": "a telephone number"}


def _convert(value: Fraction, unit: Unit) -> Fraction:
    return value * unit.factor + unit.offset


def _read(text: str, match: re.Match[str]) -> Atom:
    kind = next(name for name in ("date", "time", "address", "telephone", "ordinal", "number") if match[name])
    start, end = match.span()
    if kind in _KINDS:
        return Atom(_KINDS[kind], start, end)
    if kind == "ordinal":
        place = match["ordinal"]
        return Atom(kind, start, end, None if place.startswith("第") else Number(Fraction(read_ordinal(place))))
    value = _value(match)
    if value is None:
        return Atom("a list", start, end)
    return _with_unit(text, match, -value if match["minus"] or {match["sign"], match["after"]} & {"-", "–"} else value)


def _value(match: re.Match[str]) -> Fraction | None:
    if match["words"]:
        return read_words(match["words"])
    if match["chinese"]:
        return read_chinese(match["chinese"])
    if match["vulgar"]:
        part = Fraction(unicodedata.normalize("NFKC", match["vulgar"]).replace("⁄", "/"))
        return Fraction(match["vulgar_whole"] or 0) + part
    if match["top"]:
        bottom = int(match["bottom"])
        return Fraction(match["whole"] or 0) + Fraction(int(match["top"]), bottom) if bottom else None
    digits = match["digits"]
    if re.search(r"\.\d{3}.*,", digits):  # 1.234,5
        digits = digits.replace(".", "").replace(",", ".")
    power = match["power"] or unicodedata.normalize("NFKC", match["superscript"] or "0").replace("−", "-")
    return Fraction(re.sub(r"[ ,{}]", "", digits)) * Fraction(10) ** int(power)


def _with_unit(text: str, match: re.Match[str], value: Fraction) -> Atom:
    """Read what follows the digits: a factor, a percent sign, a unit. Any other letters make it a code."""
    start, end = match.span()
    currency = (match["currency"] or "").rstrip(" -")
    factor = _FACTOR.match(text, end) or (_FACTOR_OF_MONEY.match(text, end) if currency else None)
    if factor:
        value, end = value * _FACTORS[next(filter(None, factor.groups())).casefold()], factor.end()
    if percent := _PERCENT.match(text, end):
        return Atom("number", start, percent.end(), Number(value, is_percent=True))
    units, unit_end = read_unit(currency), end
    is_part = (match["words"] or "").casefold().endswith(("half", "quarter"))
    gap = (_HALF_A.match(text, end) if is_part else None) or _GAP.match(text, end)
    found, length = find_unit(text[gap.end() :]) if gap else ((), 0)
    if gap and found and not (length == 1 and text[start - 1 : start] == text[gap.end()]):  # not the mark that ends "5"
        unit_end = gap.end() + length
    if unit_end == end and (code := _CODE.match(text, end)):
        return Atom("a code", start, code.end())
    if open_ended := _OPEN_ENDED.match(text, unit_end):
        return Atom("a bound", start, open_ended.end())
    is_word = match["words"] is not None and match["words"].casefold() == "one" and unit_end == end
    return Atom(
        "word" if is_word else "number",
        start,
        unit_end,
        Number(value, units=units or (found if unit_end > end else ())),
    )
