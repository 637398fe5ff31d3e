"""Calculate a formula, in LaTeX or as typed: `2\\sqrt{3}`, `\\frac{1}{2^{99}}`, `(1 + 2) / 4`, `5!`.

Fractions stay exact; roots, π and e have fifty digits. A text is a formula as a whole or not at all: a lenient reader
would take `4\\sqrt(2)` for 4. Sizes are bounded, so that no formula takes long.
"""

from __future__ import annotations

import math
import re
from decimal import Context, Decimal, DivisionByZero, InvalidOperation, Overflow
from fractions import Fraction

MOST_CHARS = 200
_MOST_DEPTH = 30
_MOST_BITS = 60_000
_MOST_FACTORIAL = 3_000
_CONTEXT = Context(prec=50, Emax=20_000, Emin=-20_000, traps=[DivisionByZero, InvalidOperation, Overflow])
_PI = Decimal("3.14159265358979323846264338327950288419716939937510582")
_E = Decimal(1).exp(_CONTEXT)

Value = Fraction | Decimal


def calculate(text: str) -> tuple[Fraction, int] | None:
    """Calculate the formula that a text begins with.

    Returns:
        The value and the characters the formula takes; None when it begins with none, or with one that is too large.
    """
    if len(text) > MOST_CHARS or not _LOOKS_LIKE_ONE.search(text):
        return None
    reader = _Reader(text)
    try:
        value = reader.sum()
        return _exact(value), reader.start_of_rest
    except (_NoFormulaError, ArithmeticError, ValueError):
        return None


_LOOKS_LIKE_ONE = re.compile(r"[\d√π\\]")
_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+\.?\d*|\.\d+)|(?P<name>\\[A-Za-z]+|π|√|e(?![A-Za-z]))"
    r"|(?P<power>[⁰¹²³⁴-⁹]+)|(?P<sign>[-+*/^!(){}\[\]·÷]))"
)
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")
_TIMES = ("*", "·", "\\times", "\\cdot")
_DIVIDED = ("/", "÷", "\\div")
_CLOSERS = {"(": ")", "{": "}", "[": "]"}


class _NoFormulaError(Exception):
    pass


class _Reader:
    """Reads from left to right: a sum of products of powers of atoms."""

    def __init__(self, text: str) -> None:
        self.text, self.start_of_rest, self.depth = text, 0, 0
        self.kind, self.token, self.end = "", "", 0
        self._look()

    def sum(self) -> Value:
        value = self.product()
        while self.token in ("+", "-"):
            sign = self._take()
            value = _add(value, self.product(), -1 if sign == "-" else 1)
        return value

    def product(self) -> Value:
        value = self.signed()
        while True:
            if self.token in _TIMES:
                self._take()
                value = _multiply(value, self.signed())
            elif self.token in _DIVIDED:
                self._take()
                value = _divide(value, self.signed())
            elif self.kind == "name" or self.text.startswith("(", self.start_of_rest):
                value = _multiply(value, self.power())  # 2π, 3(4 + 1), but not "7 (7)"
            else:
                return value

    def signed(self) -> Value:
        if self.token in ("-", "+"):
            sign = self._take()
            value = self.signed()
            return _multiply(Fraction(-1), value) if sign == "-" else value
        return self.power()

    def power(self) -> Value:
        base = self.atom()
        while self.token == "!":
            self._take()
            base = _factorial(base)
        if self.kind == "power":
            return _power(base, Fraction(int(self._take().translate(_SUPERSCRIPTS))))
        if self.token == "^":
            self._take()
            return _power(base, self.signed())
        return base

    def atom(self) -> Value:
        if self.kind == "number":
            number = Fraction(self._take().replace(",", ""))
            if self.token in ("\\frac", "\\dfrac", "\\tfrac") and number.denominator == 1:
                return number + _exact(self.atom())  # a mixed number
            return number
        name = self._take()
        if name in _CLOSERS:
            return self._inside(name)
        if name in ("\\frac", "\\dfrac", "\\tfrac"):
            return _divide(self._group(), self._group())
        if name in ("√", "\\sqrt"):
            degree = self._inside(self._take()) if self.token == "[" and name == "\\sqrt" else Fraction(2)
            return _power(self.atom(), _divide(Fraction(1), degree))
        if name in ("π", "\\pi"):
            return _PI
        if name == "e":
            return _E
        raise _NoFormulaError

    def _group(self) -> Value:
        if self.token != "{":
            raise _NoFormulaError
        return self.atom()

    def _inside(self, opener: str) -> Value:
        self.depth += 1
        if self.depth > _MOST_DEPTH:
            raise _NoFormulaError
        value = self.sum()
        if self._take() != _CLOSERS[opener]:
            raise _NoFormulaError
        self.depth -= 1
        return value

    def _take(self) -> str:
        token, self.start_of_rest = self.token, self.end
        if not token:
            raise _NoFormulaError
        self._look()
        return token

    def _look(self) -> None:
        match = _TOKEN.match(self.text, self.end)
        self.kind, self.token = (match.lastgroup or "", match[match.lastgroup or 0]) if match else ("", "")
        self.end = match.end() if match else self.end


def _add(a: Value, b: Value, sign: int) -> Value:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a + sign * b
    return _CONTEXT.add(_decimal(a), _CONTEXT.multiply(Decimal(sign), _decimal(b)))


def _multiply(a: Value, b: Value) -> Value:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a * b
    return _CONTEXT.multiply(_decimal(a), _decimal(b))


def _divide(a: Value, b: Value) -> Value:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a / b
    return _CONTEXT.divide(_decimal(a), _decimal(b))


def _power(base: Value, exponent: Value) -> Value:
    if isinstance(base, Fraction) and isinstance(exponent, Fraction):
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        if bits * abs(exponent) > _MOST_BITS:
            raise _NoFormulaError
        if exponent.denominator == 1:
            return base ** int(exponent)
        if exponent.denominator == 2 and base >= 0:
            top, bottom = math.isqrt(base.numerator), math.isqrt(base.denominator)
            if Fraction(top, bottom) ** 2 == base:
                return Fraction(top, bottom) ** int(exponent * 2)
        is_small = 0 <= base < 10**15 and abs(exponent) < 1 and exponent.denominator <= 10
        root = round(float(base) ** float(exponent)) if is_small else 0
        if root and Fraction(root) ** exponent.denominator == base**exponent.numerator:
            return Fraction(root)
    return _CONTEXT.power(_decimal(base), _decimal(exponent))


def _factorial(value: Value) -> Value:
    if not isinstance(value, Fraction) or value.denominator != 1 or not 0 <= value <= _MOST_FACTORIAL:
        raise _NoFormulaError
    return Fraction(math.factorial(int(value)))


def _decimal(value: Value) -> Decimal:
    if isinstance(value, Decimal):
        return value
    return _CONTEXT.divide(Decimal(value.numerator), Decimal(value.denominator))


def _exact(value: Value) -> Fraction:
    return Fraction(value)
