"""Judge a number by its value.

Plain numbers (signs, thousands, decimals, powers of ten, fractions, percent, currency, units, small number words) are
compared here, exactly. Formulas are compared by math-verify in a separate process: its own time limit is a signal,
which fails outside the main thread, and without a limit a formula could run forever.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from p2r.errors import JudgeError
from p2r.judges.rules import NO_ANSWER, RuleJudge, target_of
from p2r.types import Answer, Box, Sample, Verdict


@dataclass(frozen=True, slots=True)
class NumberJudge(RuleJudge):
    """An answer is right when its value equals the target's to six decimals.

    `50%` is both 50 and 0.5 where the target has no percent sign. A unit is compared only where both have one.

    timeout_s: the longest time that a formula may take.
    """

    timeout_s: float = 20.0

    def compare(self, sample: Sample, answer: Answer, boxes: tuple[Box, ...]) -> Verdict:
        """Judge an answer. Raises JudgeError when the target is not a number, or a formula takes too long."""
        target = target_of(sample)
        if answer.text is None:
            return Verdict(correct=False, score=0.0, judge="number", reason=NO_ANSWER)
        correct = self._equal(sample, target, answer.text.strip())
        reason = "" if correct else f"{answer.text.strip()[:60]!r} instead of {target[:60]!r}"
        return Verdict(correct=correct, score=float(correct), judge="number", reason=reason)

    async def __call__(self, sample: Sample, answer: Answer, boxes: tuple[Box, ...]) -> Verdict:
        """Do what `compare` does, in a thread, because a formula may take seconds."""
        return await asyncio.to_thread(self.compare, sample, answer, boxes)

    def _equal(self, sample: Sample, target: str, answer: str) -> bool:
        right, given = read_number(target), read_number(answer)
        if not is_comparable(target):
            raise JudgeError(
                f"the target of sample {sample.id!r} is {sample.target!r}, which is not a number",
                hint="use the answer form free_form for it",
            )
        if right and given:
            return right.equals(given)
        if given is None and not _is_formula(answer):
            return False
        return _verify(target, answer, self.timeout_s)


class Number(NamedTuple):
    """A value as it was written: 50 for 50%."""

    value: Fraction
    is_percent: bool
    unit: str

    def equals(self, other: Number) -> bool:
        if self.unit and other.unit and self.unit != other.unit:
            return False
        if self.is_percent == other.is_percent:
            return _close(self.value, other.value)
        return _close(self.value, other.value) or _close(
            self.value / (100 if self.is_percent else 1), other.value / (100 if other.is_percent else 1)
        )


def read_number(text: str) -> Number | None:
    """Read a text that is one plain number; None for anything else, such as a list, a range, a time or a formula."""
    if len(text) > _LONGEST_CHARS:
        return None
    text = text.translate(_SIGNS).strip(_AROUND).rstrip(_STOPS)
    text = _NUMBER_WORD.sub(lambda word: str(_WORDS.index(word[0].casefold())), _PREFIX.sub("", text, count=1))
    match = _PLAIN.fullmatch(_FRACTION.sub(r"\1/\2", text))
    if match is None or (value := _value(match)) is None:
        return None
    unit = " ".join((match["unit"] or "").casefold().split()).removesuffix(".")
    factor_word, _, rest = unit.partition(" ")
    if factor_word in _FACTORS:
        value, unit = value * _FACTORS[factor_word], rest
    is_percent = match["percent"] is not None
    return Number(-value if match["sign"] == "-" else value, is_percent, unit)


_LONGEST_CHARS = 200
_AROUND = " \t\r\n*_`\"'“”$"
_STOPS = f".,;!?{_AROUND}"
_SIGNS = str.maketrans({"−": "-", "–": "-", "\u00a0": " ", "\u202f": " ", "×": "x", "⁄": "/"})
_PREFIX = re.compile(
    r"\A(?:(?:approximately|approx\.?|about|around|roughly|nearly|only|there (?:is|are)|it is|it['’]s"
    r"|i (?:see|count))\s+|\\\(|\\\[|[~≈=]\s*|[A-Za-z]\s*=\s*)*\$?",
    re.IGNORECASE,
)
_WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_NUMBER_WORD = re.compile(rf"\A(?:{'|'.join(_WORDS)})\b(?!\s*(?:half|halves|thirds?|quarters?)\b)", re.IGNORECASE)
_FACTORS = {"dozen": 12, "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}")
_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d+)"
_PLAIN = re.compile(
    rf"(?P<sign>[-+])?\s*[$€£¥]?\s*(?:(?P<whole>\d+)\s+(?=\d+\s*/))?"
    rf"(?:(?P<top>\d+)\s*/\s*(?P<bottom>\d+)|(?P<decimal>{_DIGITS}(?:\.\d*)?|\.\d+)"
    r"(?:\s*(?:[eE]|(?:x|\*|\\times|\\cdot)\s*10\s*\^)\s*\{?(?P<power>[-+]?\d{1,3})\}?)?)"
    r"\s*(?P<percent>\\?%|percent\b|per cent\b)?\s*(?:\\\)|\\\])?\s*"
    r"(?P<unit>[^\W\d_]+[²³]?(?:\.|[ /][^\W\d_]+[²³]?){0,3}|°\s?[CF]?)?",
    re.IGNORECASE,
)
_FORMULA = re.compile(r"(?=.*[\d\\π])(?:[\d\s.,+\-*/^()=√π!]|\\[A-Za-z]+|[{}$\[\]]|[A-Za-z]\b){1,200}")

_WORKER = """
import json, sys
from math_verify import parse, verify

def read(text):
    return parse("$" + text + "$", parsing_timeout=None) or parse(text, parsing_timeout=None)

target, answer = map(read, json.load(sys.stdin))
print(json.dumps(verify(target, answer, timeout_seconds=None) if target else None))
"""


def _value(match: re.Match[str]) -> Fraction | None:
    whole = Fraction(match["whole"] or 0)
    if match["top"] is not None:
        bottom = int(match["bottom"])
        return whole + Fraction(int(match["top"]), bottom) if bottom else None
    digits = re.sub(r"[, ]", "", match["decimal"]).removesuffix(".")
    return Fraction(digits) * Fraction(10) ** int(match["power"] or 0)


def _close(a: Fraction, b: Fraction) -> bool:
    """Tell whether two values are equal to six decimals; below 1, to six significant digits."""
    return abs(a - b) <= Fraction(2, 10**6) * min(Fraction(1), abs(b))


def is_comparable(target: str) -> bool:
    """Tell whether answers can be compared with a target by value: it is a plain number or a formula."""
    return read_number(target) is not None or _is_formula(target)


def _is_formula(text: str) -> bool:
    return _FORMULA.fullmatch(text.strip()) is not None


def _verify(target: str, answer: str, timeout_s: float) -> bool:
    """Tell whether two formulas have the same value, computed in a process that can be ended.

    Raises:
        JudgeError: the process ran out of time or failed, or the target cannot be read.
    """
    what = f"comparing {answer!r} with the target {target!r}"
    try:
        done = subprocess.run(
            [sys.executable, "-c", _WORKER],
            input=json.dumps([target, answer]),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise JudgeError(f"{what} took more than {timeout_s:g} seconds") from error
    except OSError as error:
        raise JudgeError(f"{what} failed: {error}") from error
    verdict = done.stdout.strip()
    if done.returncode or verdict not in ("true", "false"):
        last_line = (done.stderr.strip().splitlines() or ["the target cannot be read"])[-1]
        raise JudgeError(f"{what} failed: {last_line}", hint="write the target as a plain number")
    return verdict == "true"
