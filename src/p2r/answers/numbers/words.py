"""Number words, in English and Chinese.

Libraries for this are unkept (word2number) or read prose as a whole; here a wrong word must make the number unreadable,
so that "one two" is not 3.
"""

from __future__ import annotations

import re
from fractions import Fraction

FACTORS = {
    "dozen": 12,
    "hundred": 100,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
}
SMALL_NUMBERS = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"
]  # fmt: skip
_TEENS = ["thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_VALUES = (
    {word: value for value, word in enumerate([*SMALL_NUMBERS, *_TEENS])}
    | {word: 10 * k for k, word in enumerate(_TENS, start=2)}
    | {"a": 1, "an": 1, "fourty": 40}
)
_PART_NAMES = {"third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "eighth": 8, "tenth": 10}
_PARTS = {"half": 2, "halves": 2} | _PART_NAMES | {f"{name}s": size for name, size in _PART_NAMES.items()}
_ORDINALS = (
    {"first": 1, "second": 2, "third": 3, "fifth": 5, "eighth": 8, "ninth": 9, "twelfth": 12}
    | {f"{word}th": _VALUES[word] for word in ("four", "six", "seven", "ten", "eleven", *_TEENS)}
    | {f"{word[:-1]}ieth": _VALUES[word] for word in _TENS}
)

_ONE = "|".join(sorted([*_VALUES.keys() - {"a", "an"}, *FACTORS], key=len, reverse=True))
_WHOLE = rf"(?:an?\s+(?=(?:{'|'.join(FACTORS)})\b))?\b(?:{_ONE})\b(?:(?:\s*-\s*|\s+and\s+|\s+)(?:{_ONE})\b){{0,12}}"
_PART = rf"(?:{'|'.join(sorted(_PARTS, key=len, reverse=True))})\b"
# "two and a half", "three quarters", "half a million", "half"; "a third" is a fraction, "a fifth" may be a place.
_SOME_PARTS = rf"(?:(?:one|two|three|four|five|seven)[\s-]+{_PART}|an?\s+(?:half|third|quarter)\b)"
_POINT = rf"{_WHOLE}\s+point(?:\s+(?:{'|'.join(SMALL_NUMBERS[:10])})\b){{1,9}}"
WORDS = (
    rf"(?:{_POINT}|{_WHOLE}\s+and\s+{_SOME_PARTS}|{_SOME_PARTS}"
    rf"|half(?:\s+(?:an?|of\s+an?)\s+(?:{'|'.join(FACTORS)}))?\b|{_WHOLE})"
)
_PLACE = rf"(?:{'|'.join(sorted(_ORDINALS, key=len, reverse=True))})"
ORDINAL = rf"(?:\d+(?:st|nd|rd|th)|(?:(?:{'|'.join(_TENS)})[\s-])?{_PLACE})\b"
CHINESE = r"[零〇一二两兩三四五六七八九十百千万萬亿億]+|半"

_WITH_PART = re.compile(rf"(?:(.*\S)\s+and\s+)?(an?|one|two|three|four|five|seven)[\s-]+({_PART})")


def read_words(text: str) -> Fraction | None:
    """Return the value of English number words; None for words that are not one number."""
    text = " ".join(text.casefold().split())
    if text == "half":
        return Fraction(1, 2)
    if text.startswith("half "):
        return Fraction(FACTORS[text.rpartition(" ")[2]], 2)
    whole, point, parts = text.partition(" point ")
    if point:
        value = _read_whole(whole)
        decimals = "".join(str(_VALUES[word]) for word in parts.split())
        return None if value is None else value + Fraction(f"0.{decimals}")
    if match := _WITH_PART.fullmatch(text):
        whole = _read_whole(match[1]) if match[1] else Fraction(0)
        return None if whole is None else whole + Fraction(_VALUES[match[2]], _PARTS[match[3]])
    return _read_whole(text)


def read_ordinal(text: str) -> int:
    """Return the place of an `ORDINAL`: 3 for "3rd" and "third"."""
    if digits := re.match(r"\d+", text):
        return int(digits[0])
    *tens, place = re.split(r"[\s-]", text.casefold())
    return sum(_VALUES[word] for word in tens) + _ORDINALS[place]


def read_chinese(text: str) -> Fraction | None:
    """Return the value of Chinese numerals; None for other characters."""
    if text == "半":
        return Fraction(1, 2)
    if all(character in _DIGITS for character in text):
        return Fraction(int("".join(str(_DIGITS[character]) for character in text)))
    total = section = digit = 0
    for character in text:
        if character in _DIGITS:
            digit = _DIGITS[character]
        elif character in _PLACES:
            section, digit = section + (digit or 1) * _PLACES[character], 0
        elif section + digit == 0:
            return None
        else:
            total, section, digit = (total + section + digit) * _SECTIONS[character], 0, 0
    return Fraction(total + section + digit)


_DIGITS = {character: value for value, character in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2, "兩": 2}
_PLACES = {"十": 10, "百": 100, "千": 1000}
_SECTIONS = {"万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}


def _read_whole(text: str) -> Fraction | None:
    total = group = 0
    room, last_scale = 10**3, 10**15  # what may still be added: after "twenty" less than ten, after "five" nothing
    for word in re.split(r"[\s-]+", text):
        if word == "and":
            if room not in (100, 1000) or group + total == 0:
                return None
        elif word in _VALUES:
            value = _VALUES[word]
            if value >= room or (value == 0 and group + total > 0):
                return None
            group, room = group + value, 10 if value >= 20 else 0
        elif word == "hundred":
            if not 0 < group < 100:
                return None
            group, room = group * 100, 100
        else:
            scale = FACTORS[word]
            if scale >= last_scale or group == 0:
                return None
            total, group, room, last_scale = total + group * scale, 0, 1000, scale
    return Fraction(total + group)
