"""Read the number that a text states.

`find_number` reads a reply ("8 because 3 + 5 = 8" is 8), `read_number` a text that has to be one number and no more.
Neither reads a date, a time, a telephone number, an address, a range, a list, a ratio or a bound.
"""

from __future__ import annotations

from p2r.answers.numbers.atoms import Number
from p2r.answers.numbers.find import FoundNumber, explain_refusal, find_number, read_number

__all__ = ["FoundNumber", "Number", "explain_refusal", "find_number", "read_number"]
