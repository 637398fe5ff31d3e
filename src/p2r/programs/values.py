"""The values of a program and what may be done with them: each has a known kind, and a size below a limit."""

# pyright: reportUnknownLambdaType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportUnknownParameterType=false

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

Value: TypeAlias = Any
"""A value of a program: its kind is known only while the program is walked."""
MethodKey: TypeAlias = tuple[type[Any], str]
"""The kind of an object, and the name of its method."""

MOST_WEIGHT = 20_000
"""The most items of a list, with those of the lists in it, and the most characters of a text."""
MOST_BITS = 1_024

_FORMAT = re.compile(r"[<>^]?[+\- ]?0?\d{0,2},?(\.\d{1,2})?[a-zA-Z%]?")
_PERCENT = re.compile(r"%(%|[-+0 ]?\d{0,2}(\.\d{1,2})?[dsfeg])")
ARITHMETIC: Mapping[type[ast.operator], Callable[[Value, Value], Value]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
"""The operators that numbers and arrays share."""
_OPERATORS = {**ARITHMETIC, ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod}
_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Value, Value], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
}


class ProgramError(Exception):
    """Says what is wrong with a program, in words for the model."""


@dataclass(frozen=True, slots=True)
class Offered:
    """A module or a function of the table, by its full name."""

    path: str


@dataclass(frozen=True, slots=True)
class OwnFunction:
    """A function that the program defines."""

    node: ast.FunctionDef | ast.Lambda

    def bind(
        self, args: Sequence[Value], given: Mapping[str, Value], evaluate: Callable[[ast.expr], Value]
    ) -> dict[str, Value]:
        """Return the values of its arguments in a call; `evaluate` makes those left out. Raises ProgramError."""
        name, inputs = "the function" if isinstance(self.node, ast.Lambda) else self.node.name, self.node.args
        known = [argument.arg for argument in inputs.args]
        rest = inputs.vararg or inputs.kwarg or inputs.kwonlyargs or inputs.posonlyargs
        if rest or len(args) > len(known) or not set(given) <= set(known[len(args) :]):
            raise ProgramError(f"{name} is not called as it is defined")
        optional = zip(known[len(known) - len(inputs.defaults) :], inputs.defaults, strict=True)
        bound = {argument: evaluate(default) for argument, default in optional}
        bound |= dict(zip(known, args, strict=False)) | dict(given)
        if missing := [argument for argument in known if argument not in bound]:
            raise ProgramError(f"{name} is called without {missing[0]}")
        return bound


@dataclass(slots=True)
class Toolbox:
    """Holds what is offered to programs.

    functions: functions and constants by full name, such as "math.sqrt".
    methods: by the kind of their object and their name.
    properties: the same of what is read without a call.
    ready: names that stand for a full name without an import.
    kinds: the kinds of values beside numbers, texts and lists.
    combine: arithmetic with a value of one of `kinds`.
    index: a part of a value of one of `kinds`.
    change: gives a part of one another value; no places stand for all of it.
    """

    functions: Mapping[str, Value]
    methods: Mapping[MethodKey, Callable[..., Value]]
    properties: Mapping[MethodKey, Callable[[Value], Value]]
    ready: Mapping[str, str]
    kinds: tuple[type[Any], ...]
    combine: Callable[[ast.operator, Value, Value], Value]
    index: Callable[[Value, tuple[Value, ...]], Value]
    change: Callable[[Value, tuple[Value, ...], Value], None]

    def find(self, path: str) -> Value:
        """Return a constant, or the name of a function or module. Raises ProgramError."""
        if path in self.functions and not callable(self.functions[path]):
            return self.functions[path]
        if path in self.functions or any(name.startswith(f"{path}.") for name in self.functions):
            return Offered(path)
        raise ProgramError(f"{path} is not offered here")

    def find_ready(self, name: str) -> Value:
        """Return what a name stands for that the program has not assigned. Raises ProgramError."""
        if name in self.ready or name in self.functions:
            return self.find(self.ready.get(name, name))
        raise ProgramError(f"the name {name!r} is not defined")

    def read(self, owner: Value, attr: str) -> Value:
        """Return what is behind a dot. Raises ProgramError."""
        if isinstance(owner, Offered):
            return self.find(f"{owner.path}.{attr}")
        read = self.properties.get((type(owner), attr))
        if read is None:
            raise ProgramError(f"{type(owner).__name__}.{attr} is not offered here")
        return read(owner)


def check_value(value: Value, kinds: tuple[type[Any], ...]) -> Value:
    """Return a value of a known kind and size. Raises ProgramError.

    Args:
        kinds: the kinds of values beside numbers, texts, and lists.
    """
    if _weigh(value, kinds, MOST_WEIGHT) < 0:
        raise ProgramError("a value is larger than is offered here")
    return value


def _weigh(value: Value, kinds: tuple[type[Any], ...], left: int) -> int:
    """Return what is left of a weight after a value; the rest is not looked at once nothing is left."""
    if isinstance(value, int):
        return left - 1 if value.bit_length() <= MOST_BITS else -1
    if isinstance(value, str):
        return left - 1 - len(value)
    if isinstance(value, (list, tuple, dict)):
        items = [*value.keys(), *value.values()] if isinstance(value, dict) else cast("Sequence[Value]", value)
        left -= 1
        for item in items:
            if left < 0:
                break
            left = _weigh(item, kinds, left)
        return left
    if value is None or isinstance(value, (float, *kinds)):
        return left - 1
    raise ProgramError(f"values of the kind {type(value).__name__} are not offered here")


def is_true(value: Value) -> bool:
    """Tell whether a plain value counts as true. Raises ProgramError for an image."""
    if isinstance(value, (int, float, str, list, tuple, dict)) or value is None:
        return bool(cast(object, value))
    raise ProgramError("an image is neither true nor false")


def list_items(value: Value) -> list[Value]:
    """Return the items of a list or a text. Raises ProgramError."""
    if isinstance(value, (list, tuple, str, dict)):
        return [*cast("Sequence[Value]", value)]
    raise ProgramError("what is gone through is not a list")


def do_arithmetic(op: ast.operator, left: Value, right: Value) -> Value:
    """Combine two numbers, two texts, or two lists. Raises ProgramError."""
    if isinstance(op, ast.Pow):
        return raise_power(left, right)
    do = _OPERATORS.get(type(op))
    kinds = {type(left), type(right)}
    if do is not None and kinds <= {int, float, bool}:
        return do(left, right)
    if isinstance(op, ast.Add) and len(kinds) == 1 and kinds <= {str, list, tuple}:
        return left + right
    if isinstance(op, ast.Mod) and isinstance(left, str) and "%" not in _PERCENT.sub("", left):
        return left % right
    if isinstance(op, ast.BitOr) and kinds == {str}:  # constants of cv2, which are names here
        return left + right
    if isinstance(op, ast.Mult) and len(kinds) == 2 and int in kinds and kinds <= {int, str, list, tuple}:
        many, times = (right, left) if isinstance(left, int) else (left, right)
        if times > 0 and len(many) * times > MOST_WEIGHT:
            raise ProgramError("a value is larger than is offered here")
        return many * times
    raise ProgramError(f"{type(op).__name__} of {_kind(left)} and {_kind(right)} is not offered here")


def raise_power(base: Value, exponent: Value) -> Value:
    """Raise a number to a power. Raises ProgramError when the result is too large."""
    if not all(isinstance(number, (int, float)) for number in (base, exponent)):
        raise ProgramError("a power of something other than numbers")
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * abs(exponent) > MOST_BITS:
        raise ProgramError("a power is larger than is offered here")
    return base**exponent


def change_sign(op: ast.unaryop, value: Value) -> Value:
    """Apply a sign, or `not`. Raises ProgramError."""
    if isinstance(op, ast.Not):
        return not is_true(value)
    if not isinstance(value, (int, float)) or isinstance(op, ast.Invert):
        raise ProgramError(f"{type(op).__name__} of {_kind(value)} is not offered here")
    return -value if isinstance(op, ast.USub) else +value


def compare(op: ast.cmpop, left: Value, right: Value) -> bool:
    """Compare two values as Python does."""
    return bool(_COMPARISONS[type(op)](left, right))


def format_value(value: Value, form: str) -> str:
    """Write a value by a format, such as ".2f". Raises ProgramError for other formats."""
    if not form:
        return str(value)
    if not _FORMAT.fullmatch(form) or not isinstance(value, (int, float, str)):
        raise ProgramError(f"the format {form[:20]!r} is not offered here")
    return format(value, form)


def pick(value: Value, index: Value) -> Value:
    """Return an item of a list, or a part of it. Raises ProgramError."""
    if isinstance(value, (list, tuple, str, dict)):
        return cast("Sequence[Value]", value)[index]
    raise ProgramError(f"{_kind(value)} has no items")


def put(value: Value, places: Sequence[Value], item: Value) -> None:
    """Give an item to a place of a list or a dict. Raises ProgramError."""
    *outer, place = places
    for each in outer:
        value = pick(value, each)
    if not isinstance(value, dict) and not (isinstance(value, list) and isinstance(place, int)):
        raise ProgramError(f"an item of {_kind(value)} cannot be given a value")
    value[place] = item


def assign(target: ast.expr, value: Value, names: MutableMapping[str, Value]) -> None:
    """Give a value to a name, or its items to several. Raises ProgramError."""
    match target:
        case ast.Name(id=name):
            names[name] = value
        case ast.Tuple(elts=elts) | ast.List(elts=elts):
            items = list_items(value)
            if len(items) != len(elts):
                raise ProgramError(f"the values do not fit the names: {len(items)} for {len(elts)}")
            for each, item in zip(elts, items, strict=True):
                assign(each, item, names)
        case _:
            raise ProgramError("only names can be given values here")


def _kind(value: Value) -> str:
    return "nothing" if value is None else type(value).__name__
