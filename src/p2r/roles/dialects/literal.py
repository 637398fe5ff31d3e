"""Read a Python literal in which numbers may be computed from numbers.

Authors' scripts evaluate what a model wrote, which would run any program. This only reads it.
"""

from __future__ import annotations

import ast

from p2r.errors import ToolError
from p2r.roles.dialects.base import LARGEST_NUMBER

LONGEST_CHARS = 10_000


def read_literal(text: str) -> object:
    """Return the value of a literal. Raises ToolError for anything else."""
    try:
        if len(text) > LONGEST_CHARS:
            raise ValueError
        return _value(ast.parse(text.strip(), mode="eval").body)
    except (ValueError, SyntaxError, ArithmeticError, RecursionError, MemoryError) as error:
        raise ToolError("the call cannot be read") from error


def _value(node: ast.expr | None) -> object:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_value(item) for item in items]
        case ast.Dict(keys=keys, values=values):
            return {str(_value(key)): _value(value) for key, value in zip(keys, values, strict=True)}
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_number(operand)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _number(left) + _number(right)
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            return _number(left) - _number(right)
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return _number(left) * _number(right)
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return _number(left) / _number(right)
        case _:
            raise ValueError


def _number(node: ast.expr) -> float:
    value = _value(node)
    if not isinstance(value, (int, float)) or abs(value) > LARGEST_NUMBER:
        raise ValueError
    return value
