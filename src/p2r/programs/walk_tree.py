"""Walks the syntax tree of a program: numbers, texts, lists, images, and the functions that are offered.

Every value has a kind that is known here, and a size below a limit. A name with dots is looked up in the table of what
is offered as a whole; no attribute of any object is read.
"""

# pyright: reportUnknownLambdaType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportUnknownParameterType=false

from __future__ import annotations

import ast
from collections import ChainMap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial, reduce
from typing import TypeAlias

from p2r.programs.values import (
    Offered,
    OwnFunction,
    ProgramError,
    Toolbox,
    Value,
    assign,
    change_sign,
    check_value,
    compare,
    do_arithmetic,
    format_value,
    is_true,
    list_items,
    pick,
    put,
)

Names: TypeAlias = "ChainMap[str, Value]"

MOST_STEPS = 200_000
MOST_CALLS = 20
"""The most calls of a program's own functions within each other."""


class _Broken(Exception):
    """A loop is left (`is_last`), or continues with its next item."""

    def __init__(self, *, is_last: bool) -> None:
        self.is_last = is_last


class _Returned(Exception):
    def __init__(self, value: Value) -> None:
        self.value = value


@dataclass(slots=True)
class Walker:
    """Walks programs one after another; `names` is what they have assigned.

    narrow: functions and comprehensions see none of the program's own names but their own, as under an `exec` with
        separate globals and locals.
    """

    toolbox: Toolbox
    names: dict[str, Value] = field(default_factory=dict[str, Value])
    narrow: bool = False
    _steps: int = 0
    _calls: int = 0

    def walk(self, tree: ast.Module) -> None:
        """Carry out a program. Raises ProgramError, and whatever an offered function raises."""
        self._steps = self._calls = 0
        try:
            self._do_all(tree.body, ChainMap(self.names))
        except (_Broken, _Returned) as left:
            raise ProgramError("what is left is neither a loop nor a function") from left

    def _do_all(self, statements: Iterable[ast.stmt], names: Names) -> None:
        for statement in statements:
            self._do(statement, names)

    def _do(self, node: ast.stmt, names: Names) -> None:
        self._count_step()
        match node:
            case ast.Expr(value=value):
                self._value(value, names)
            case ast.Assign(targets=targets, value=value):
                found = self._value(value, names)
                for target in targets:
                    self._assign(target, found, names)
            case ast.AnnAssign(target=ast.Name() as target, value=ast.expr() as value):
                assign(target, self._value(value, names), names)
            case ast.AugAssign(target=target, op=op, value=value):
                owner = self._value(target, names)
                after = self._combine(op, owner, self._value(value, names))
                if isinstance(target, ast.Name) and isinstance(owner, self.toolbox.kinds):
                    self.toolbox.change(owner, (), after)
                else:
                    self._assign(target, after, names)
            case ast.If(test=test, body=body, orelse=orelse):
                self._do_all(body if is_true(self._value(test, names)) else orelse, names)
            case ast.For(target=target, iter=items, body=body, orelse=[]):
                self._loop((assign(target, item, names) for item in list_items(self._value(items, names))), body, names)
            case ast.While(test=test, body=body, orelse=[]):
                self._loop(iter(lambda: is_true(self._value(test, names)), False), body, names)
            case ast.With(items=[ast.withitem(context_expr=value, optional_vars=ast.Name() as target)], body=body):
                assign(target, self._value(value, names), names)
                self._do_all(body, names)
            case ast.Try(handlers=[ast.ExceptHandler(name=name, body=handler), *_]):
                try:
                    self._do_all(node.body, names)
                except (_Broken, _Returned):
                    raise
                except Exception as error:
                    names |= {name: str(error)[:500]} if name else {}
                    self._do_all(handler, names)
                else:
                    self._do_all(node.orelse, names)
                finally:
                    self._do_all(node.finalbody, names)
            case ast.FunctionDef(name=name, decorator_list=[]):
                names[name] = OwnFunction(node)
            case ast.Return(value=value):
                raise _Returned(None if value is None else self._value(value, names))
            case ast.Break() | ast.Continue():
                raise _Broken(is_last=isinstance(node, ast.Break))
            case ast.Import(names=aliases):
                for alias in aliases:
                    self.toolbox.find(alias.name)
                    first = alias.name.split(".")[0]
                    names[alias.asname or first] = Offered(alias.name if alias.asname else first)
            case ast.ImportFrom(module=str(module), names=aliases, level=0):
                for alias in aliases:
                    names[alias.asname or alias.name] = self.toolbox.find(f"{module}.{alias.name}")
            case ast.Pass():
                pass
            case _:
                raise ProgramError(f"a statement of the kind {type(node).__name__} is not offered here")

    def _loop(self, rounds: Iterable[object], body: list[ast.stmt], names: Names) -> None:
        for _ in rounds:
            try:
                self._do_all(body, names)
            except _Broken as broken:
                if broken.is_last:
                    break

    def _assign(self, target: ast.expr, value: Value, names: Names) -> None:
        """Give a value to names, or to a place of a list or an array."""
        if not isinstance(target, ast.Subscript):
            assign(target, value, names)
            return
        owner = self._value(target.value, names)
        change = self.toolbox.change if isinstance(owner, self.toolbox.kinds) else put
        change(owner, self._places(owner, target.slice, names), value)

    def _value(self, node: ast.expr, names: Names) -> Value:
        self._count_step()
        return check_value(self._evaluate(node, names), (*self.toolbox.kinds, Offered, OwnFunction))

    def _evaluate(self, node: ast.expr, names: Names) -> Value:
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                return names[name] if name in names else self.toolbox.find_ready(name)
            case ast.Attribute(value=inner, attr=attr):
                return self.toolbox.read(self._value(inner, names), attr)
            case ast.Tuple(elts=elts) | ast.List(elts=elts):
                values = self._values(elts, names)
                return tuple(values) if isinstance(node, ast.Tuple) else values
            case ast.Dict(keys=keys, values=values):
                pairs = [(self._value(key, names), value) for key, value in zip(keys, values, strict=True) if key]
                return {key: self._value(value, names) for key, value in pairs}
            case ast.BinOp(left=left, op=op, right=right):
                return self._combine(op, self._value(left, names), self._value(right, names))
            case ast.UnaryOp(op=op, operand=operand):
                return change_sign(op, self._value(operand, names))
            case ast.BoolOp(op=op, values=values):
                return self._choose(isinstance(op, ast.Or), values, names)
            case ast.Compare(left=left, ops=ops, comparators=others):
                return self._compare(self._value(left, names), ops, others, names)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return self._value(body if is_true(self._value(test, names)) else orelse, names)
            case ast.Subscript(value=inner, slice=place):
                return self._index(self._value(inner, names), place, names)
            case ast.JoinedStr(values=parts):
                return "".join(str(self._value(part, names)) for part in parts)
            case ast.FormattedValue(value=inner, conversion=-1 | 114 | 115 as way, format_spec=spec):
                found = self._value(inner, names)
                form = str(self._value(spec, names)) if spec else ""
                return format_value(repr(found) if way == ord("r") else found, form)
            case ast.Lambda():
                return OwnFunction(node)
            case ast.ListComp(elt=elt, generators=[generator]) | ast.GeneratorExp(elt=elt, generators=[generator]):
                return self._list(elt, generator, names)
            case ast.Call(func=func, args=args, keywords=keywords):
                given = {keyword.arg: self._value(keyword.value, names) for keyword in keywords if keyword.arg}
                if len(given) < len(keywords):
                    raise ProgramError("** in a call is not offered here")
                if isinstance(func, ast.Attribute):
                    owner = self._value(func.value, names)
                    method = self.toolbox.methods.get((type(owner), func.attr))
                    if method is not None:
                        return method(owner, *self._values(args, names), **given)
                    return self.call(self.toolbox.read(owner, func.attr), *self._values(args, names), **given)
                return self.call(self._value(func, names), *self._values(args, names), **given)
            case _:
                raise ProgramError(f"an expression of the kind {type(node).__name__} is not offered here")

    def _values(self, nodes: Iterable[ast.expr], names: Names) -> list[Value]:
        found: list[Value] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                found += list_items(self._value(node.value, names))
            else:
                found.append(self._value(node, names))
        return found

    def _list(self, elt: ast.expr, generator: ast.comprehension, names: Names) -> list[Value]:
        items = list_items(self._value(generator.iter, names))
        inner: Names = ChainMap({}) if self.narrow else names.new_child()
        found: list[Value] = []
        for item in items:
            assign(generator.target, item, inner)
            if all(is_true(self._value(test, inner)) for test in generator.ifs):
                found.append(self._value(elt, inner))
        return found

    def call(self, function: Value, /, *args: Value, **given: Value) -> Value:
        """Call an offered function, or one of the program's own. Raises ProgramError."""
        if isinstance(function, OwnFunction):
            return self._call_own(function, args, given)
        if not isinstance(function, Offered) or function.path not in self.toolbox.functions:
            raise ProgramError("what is called is not a function")
        if function.path == "map":
            mapped, *lists = args
            return [self.call(mapped, *items) for items in zip(*map(list_items, lists), strict=False)]
        if given.get("key") is not None and function.path in ("sorted", "min", "max"):
            given["key"] = partial(self.call, given["key"])
        return self.toolbox.functions[function.path](*args, **given)

    def _call_own(self, function: OwnFunction, args: tuple[Value, ...], given: Mapping[str, Value]) -> Value:
        if self._calls >= MOST_CALLS:
            raise ProgramError(f"more than {MOST_CALLS} calls within each other are not offered here")
        inner: Names = ChainMap({}) if self.narrow else ChainMap({}, self.names)
        inner |= function.bind(args, given, lambda default: self._value(default, ChainMap(self.names)))
        self._calls += 1
        try:
            if isinstance(function.node, ast.Lambda):
                return self._value(function.node.body, inner)
            self._do_all(function.node.body, inner)
        except _Returned as returned:
            return returned.value
        finally:
            self._calls -= 1
        return None

    def _combine(self, op: ast.operator, left: Value, right: Value) -> Value:
        if isinstance(left, self.toolbox.kinds) or isinstance(right, self.toolbox.kinds):
            return self.toolbox.combine(op, left, right)
        return do_arithmetic(op, left, right)

    def _choose(self, is_or: bool, nodes: list[ast.expr], names: Names) -> Value:
        found: Value = None
        for node in nodes:
            found = self._value(node, names)
            if is_true(found) == is_or:
                break
        return found

    def _compare(self, left: Value, ops: list[ast.cmpop], others: list[ast.expr], names: Names) -> bool:
        for op, node in zip(ops, others, strict=True):
            right = self._value(node, names)
            if not compare(op, left, right):
                return False
            left = right
        return True

    def _index(self, owner: Value, place: ast.expr, names: Names) -> Value:
        found = self._places(owner, place, names)
        return self.toolbox.index(owner, found) if isinstance(owner, self.toolbox.kinds) else reduce(pick, found, owner)

    def _places(self, owner: Value, place: ast.expr, names: Names) -> tuple[Value, ...]:
        is_split = isinstance(owner, (list, *self.toolbox.kinds))
        nodes = place.elts if isinstance(place, ast.Tuple) and is_split else [place]
        return tuple(self._place(node, names) for node in nodes)

    def _place(self, node: ast.expr, names: Names) -> Value:
        if not isinstance(node, ast.Slice):
            return self._value(node, names)
        ends = [None if end is None else self._value(end, names) for end in (node.lower, node.upper, node.step)]
        if not all(end is None or isinstance(end, int) for end in ends):
            raise ProgramError("the ends of a part are not whole numbers")
        return slice(*ends)

    def _count_step(self) -> None:
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise ProgramError(f"a program takes at most {MOST_STEPS:,} steps here")
