"""What programs may call for numbers, texts, lists, and paths. Chance is the same in every process."""

# pyright: reportUnknownLambdaType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportUnknownParameterType=false

from __future__ import annotations

import math
import posixpath
import random
import re
import string
from collections.abc import Callable, Mapping

from p2r.programs.values import (
    MOST_WEIGHT,
    MethodKey,
    ProgramError,
    Value,
    format_value,
    is_true,
    list_items,
    raise_power,
)

MOST_DIGITS = 20
_FIELD = re.compile(r"\{\{|\}\}|\{(\w{0,50})(?::([^{}]*))?\}")


def count_up(*ends: Value) -> list[int]:
    """Return the numbers of a range as a list. Raises ProgramError for too many."""
    numbers = range(*ends)
    if len(numbers) > MOST_WEIGHT:
        raise ProgramError(f"a range has at most {MOST_WEIGHT:,} numbers here")
    return [*numbers]


def round_number(number: float, digits: int | None = None) -> Value:
    """Round a number."""
    if digits is not None and abs(digits) > MOST_DIGITS:
        raise ProgramError(f"numbers are rounded to at most {MOST_DIGITS} digits here")
    return round(number, digits)


def join_text(glue: str, parts: Value) -> str:
    """Join texts. Raises ProgramError where the result is too long."""
    parts = list_items(parts)
    if sum(len(part) + len(glue) for part in parts) > MOST_WEIGHT:
        raise ProgramError("a text is longer than is offered here")
    return glue.join(parts)


def replace_text(text: str, old: str, new: str) -> str:
    """Replace a part of a text. Raises ProgramError where the result is too long."""
    if len(text) + text.count(old) * len(new) > MOST_WEIGHT:
        raise ProgramError("a text is longer than is offered here")
    return text.replace(old, new)


def fill_text(text: str, *values: Value, **named: Value) -> str:
    """Fill the fields of a text, such as "{}", "{0:.2f}" or "{name}". Raises ProgramError for other fields."""
    number, made, end = 0, "", 0
    for field in _FIELD.finditer(text):
        made, end = made + text[end : field.start()], field.end()
        if field[0] in ("{{", "}}"):
            made += field[0][0]
            continue
        name = field[1] or f"{number}"
        number += not field[1]
        made += format_value(values[int(name)] if name.isdecimal() else named[name], field[2] or "")
        if len(made) > MOST_WEIGHT:
            raise ProgramError("a text is longer than is offered here")
    if re.search(r"[{}]", _FIELD.sub("", text)):
        raise ProgramError("the fields of a text are {}, {0}, {name}, and these with a format")
    return made + text[end:]


def pick_several(chance: random.Random, items: Value, k: int = 1) -> list[Value]:
    """Return items by chance."""
    return [chance.choice(list_items(items)) for _ in count_up(k)]


def make_functions() -> dict[str, Value]:
    """Return the functions by full name, with a new source of chance."""
    chance = random.Random(0)
    return {
        **{function.__name__: function for function in (len, str, int, float, abs, min, max, sum, any, all, divmod)},
        "list": list_items,
        "tuple": lambda items: tuple(list_items(items)),
        "dict": dict,
        "bool": is_true,
        "sorted": lambda items, key=None, reverse=False: sorted(items, key=key, reverse=reverse),
        "zip": lambda *lists: [*zip(*lists, strict=False)],
        "enumerate": lambda items, start=0: [*enumerate(items, start)],
        "range": count_up,
        "round": round_number,
        "pow": raise_power,
        "map": list_items,  # the walker does it, which can call
        **{f"math.{name}": getattr(math, name) for name in _MATH},
        "math.pow": lambda base, exponent: math.pow(base, exponent),
        "os.path.join": posixpath.join,
        "os.path.basename": posixpath.basename,
        "os.path.dirname": posixpath.dirname,
        "os.path.splitext": posixpath.splitext,
        "os.makedirs": lambda path, exist_ok=False, mode=0: None,
        "random.randint": chance.randint,
        "random.random": chance.random,
        "random.choice": lambda items: chance.choice(list_items(items)),
        "random.choices": lambda items, k=1: pick_several(chance, items, k),
        **{f"string.{name}": getattr(string, name) for name in ("ascii_letters", "ascii_lowercase", "digits")},
        "string.ascii_uppercase": string.ascii_uppercase,
        "time.time": lambda: 1e9,
        "uuid.uuid4": lambda: f"{chance.getrandbits(128):032x}",
        **{f"{name}.__name__": name for name in _UNUSED},
        **{f"typing.{name}": name for name in ("List", "Tuple", "Dict", "Optional")},
    }


_MATH = (
    *("pi", "e", "sqrt", "floor", "ceil", "fabs", "exp", "log", "log10", "log2", "hypot", "gcd", "degrees", "radians"),
    *("sin", "cos", "tan", "asin", "acos", "atan", "atan2", "trunc", "isclose", "dist", "inf"),
)
_TEXT_METHODS = (
    *("lower", "upper", "title", "capitalize", "strip", "lstrip", "rstrip", "startswith", "endswith", "split"),
    *("count", "find", "index", "isdigit", "isalpha"),
)
_UNUSED = ("re", "json", "sys", "datetime", "typing", "collections", "itertools")
"""Modules that programs import out of habit; nothing of them is offered."""
METHODS: Mapping[MethodKey, Callable[..., Value]] = {
    **{(str, name): getattr(str, name) for name in _TEXT_METHODS},
    (str, "join"): join_text,
    (str, "replace"): replace_text,
    (str, "format"): fill_text,
    **{(list, name): getattr(list, name) for name in ("append", "extend", "insert", "pop", "remove", "index", "count")},
    (list, "sort"): lambda items, reverse=False: items.sort(reverse=reverse),
    (list, "reverse"): list.reverse,
    (dict, "items"): lambda pairs: [*pairs.items()],
    (dict, "keys"): lambda pairs: [*pairs],
    (dict, "values"): lambda pairs: [*pairs.values()],
    (dict, "get"): lambda pairs, key, default=None: pairs.get(key, default),
}
