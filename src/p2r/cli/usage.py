"""Mistakes in the way that a command is called, in the form of every other error: one sentence, and a hint.

typer finds most of them, and pydantic checks the values for it. Its messages leave out the value, or what to do.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Protocol, cast

import typer

from p2r.cli.guard import EXIT_MISUSE, print_error
from p2r.errors import excerpt, explain_fault, reason_of


class _Parameter(Protocol):
    """An option or an argument of typer, which keeps their classes to itself."""

    name: str | None
    opts: list[str]
    default: object
    param_type_name: str


_UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])  # typer does not name it in public
_CHOICES = re.compile(r"^(?:Value error, )?(?P<value>.*) is not one of (?P<known>.*?)\.?$", re.DOTALL)
_EXTRA = re.compile(r"^Got unexpected extra arguments? ?\(?s?\)? ?\((?P<words>.*)\)$", re.DOTALL)
_COMMAND = re.compile(r"^No such command '(?P<name>.*?)'\.", re.DOTALL)


@contextmanager
def explaining_misuse(called: str, commands: Iterable[str] = ()) -> Generator[None, None, None]:
    """Print what typer finds wrong with a call, and end with exit code 2.

    Args:
        called: the command as it is called, such as "p2r eval".
        commands: the names among which one that is unknown is looked for.
    """
    try:
        yield
    except _UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # the help itself
            raise
        print_error(*explain_misuse(error, called, commands))
        raise typer.Exit(EXIT_MISUSE) from None


def explain_misuse(error: typer.BadParameter, called: str, commands: Iterable[str] = ()) -> tuple[str, str]:
    """Return a sentence that names what was given, and a hint. See `explaining_misuse`."""
    read_help = f"`{called} -h` shows how it is called"
    parameter = cast("_Parameter | None", getattr(error, "param", None))
    if parameter is not None:
        return _explain_value(error, parameter, called)
    text = str(getattr(error, "message", error))
    if name := cast("str | None", getattr(error, "option_name", None)):
        near = cast("Iterable[str] | None", getattr(error, "possibilities", None))
        return _explain_option(name, text, near or (), called)
    if found := _COMMAND.match(text):
        guess = _guess(found["name"], commands)
        return f"there is no command {excerpt(found['name'])}", f"{guess}`p2r -h` lists the commands"
    if found := _EXTRA.match(text):
        return f"{excerpt(found['words'])} is more than the command takes", f"{read_help}; quote what has blanks in it"
    return text[:1].lower() + text[1:].rstrip("."), read_help


def _explain_value(error: typer.BadParameter, parameter: _Parameter, called: str) -> tuple[str, str]:
    """Explain the value of an option or an argument, or that it has none."""
    is_option = parameter.param_type_name == "option"
    name = next((each for each in parameter.opts if each.startswith("--")), parameter.opts[0])
    if not is_option:
        name = str(getattr(parameter, "metavar", None) or name.upper()).partition("...")[0]
    if type(error).__name__ == "MissingParameter":
        return f"{name} is missing", f"`{called} -h` says what to give and shows examples"
    if found := _CHOICES.match(error.message):
        return f"{name} is {found['value']}, which is not one of its choices", f"give {name} one of {found['known']}"
    value, rule = _read_cause(error)
    hint = f"`{called} -h` says what {name} is for"
    if is_option:
        default = parameter.default
        hint += f"; without {name} it is {default}" if _is_plain(default) else f"; or leave {name} out"
    return (f"{name} is {value}: {rule}" if value else f"{name}: {rule}"), hint


def _read_cause(error: typer.BadParameter) -> tuple[str, str]:
    """Return the value as it was typed, quoted where it is not a number, and what it must be."""
    from pydantic import ValidationError  # typer has imported it by now; `p2r --help` does not

    cause = error.__cause__
    if not isinstance(cause, ValidationError):
        return "", reason_of(Exception(error.message)).rstrip(".")
    fault = cause.errors()[0]
    given = str(fault["input"])
    return given if _is_number(given) else excerpt(given), explain_fault({**fault, "loc": ()})


def _explain_option(name: str, text: str, near: Iterable[str], called: str) -> tuple[str, str]:
    if text.startswith("No such option"):
        return f"there is no option {name}", f"{_guess(name, near)}`{called} -h` lists the options"
    if text.endswith("does not take a value."):
        return f"{name} takes no value", f"give {name} alone"
    says = f"`{called} -h` says what {name} is for"
    return (f"{name} needs a value" if "requires" in text else text[:1].lower() + text[1:].rstrip(".")), says


def _guess(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]}? " if near else ""


def _is_plain(value: object) -> bool:
    return isinstance(value, (int, float, str)) and value != "" and not isinstance(value, bool)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
