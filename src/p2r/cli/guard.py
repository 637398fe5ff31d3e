"""Report errors and warnings to the user: one sentence and a hint, and a traceback only on request."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import ParamSpec, TextIO

import typer
from rich.console import Console

from p2r.cli.flags import find_flags, write_flags
from p2r.cli.interrupt import Received, sigterm_as_ctrl_c
from p2r.errors import ConfigError, FrameWarning, ModelError, P2RError, P2RWarning, mask_secrets
from p2r.signals import EXIT_OFFSET, describe_signal

Given = ParamSpec("Given")

DEBUG_VARIABLE = "P2R_DEBUG"
MODEL_VARIABLE = "P2R_MODEL"
"""The environment variable that names the model of `p2r ask` and `p2r eval` where --model does not."""

EXIT_MISUSE = 2
"""The exit code of a command that was called in a way that it does not take."""

_flags: ContextVar[Mapping[str, str]] = ContextVar("flags", default={})  # noqa: B039  # nothing changes it
"""The flags of the command that is running, by argument."""


class Misuse(ConfigError):
    """A command was called in a way that it does not take, which typer cannot see."""


def guarded(command: Callable[Given, None]) -> Callable[Given, None]:
    """Make a command print its errors to stderr and exit with a code. With P2R_DEBUG=1 errors are raised instead."""

    @wraps(command)
    def run(*args: Given.args, **kwargs: Given.kwargs) -> None:
        _flags.set(find_flags(command))
        try:
            with sigterm_as_ctrl_c(), warnings_as_lines():
                command(*args, **kwargs)
        except (Exception, KeyboardInterrupt) as error:
            if isinstance(error, (typer.Exit, typer.Abort, BrokenPipeError)):
                raise
            if os.environ.get(DEBUG_VARIABLE) == "1":
                raise
            _add_variable(error, kwargs.get("model"))
            raise typer.Exit(report(error)) from None

    return run


@contextmanager
def warnings_as_lines() -> Generator[None, None, None]:
    """Print each warning that this package gives or logs to stderr as one line, once."""
    said: set[str] = set()

    def say(text: str) -> None:
        if text not in said:
            said.add(text)
            _print_marked("[bold yellow]warning:[/] ", write_flags(text, _flags.get()))

    with warnings.catch_warnings():
        warnings.simplefilter("always", P2RWarning)
        warnings.simplefilter("ignore", FrameWarning)
        show_others = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if not issubclass(category, P2RWarning):
                show_others(message, category, filename, lineno, file, line)
            else:
                say(str(message))

        warnings.showwarning = show
        logged = _Logged(say)
        logger = logging.getLogger("p2r")
        logger.addHandler(logged)
        try:
            yield
        finally:
            logger.removeHandler(logged)


class _Logged(logging.Handler):
    """Hands on what the package logs as a warning."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(record.getMessage())


def run_script(main: Callable[[], None]) -> None:
    """Run a script outside the package, and report its errors as a command does."""
    try:
        main()
    except (P2RError, KeyboardInterrupt) as error:
        sys.exit(report(error))


def report(error: BaseException) -> int:
    """Print what went wrong, and return the exit code."""
    if isinstance(error, KeyboardInterrupt):
        return end_interrupted().exit_code
    if isinstance(error, P2RError):
        print_error(error.message, error.hint)
        return EXIT_MISUSE if isinstance(error, Misuse) else 1
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    print_error(
        f"sorry, something went wrong inside p2r ({what})",
        f"run it again with {DEBUG_VARIABLE}=1 to see where, and please report it",
    )
    return 1


def end_interrupted(kept: str = "", hint: str = "") -> typer.Exit:
    """Say after Ctrl-C or SIGTERM what is kept, and return the end of the command, to be raised."""
    print_error("; ".join(filter(None, (describe_signal(Received.sign), kept))), hint)
    return typer.Exit(EXIT_OFFSET + Received.sign)


def _add_variable(error: Exception | KeyboardInterrupt, model: object) -> None:
    """Name the environment variable that the model comes from, which the command does not show."""
    if isinstance(error, ModelError) and model is not None and model == os.environ.get(MODEL_VARIABLE):
        said = f"the environment variable {MODEL_VARIABLE} is {mask_secrets(str(model))}"
        error.hint = "; ".join(filter(None, (error.hint, said)))


def print_error(message: str, hint: str = "") -> None:
    """Print an error and its hint to stderr, with the command's flags in place of the arguments that they name."""
    message, hint = (write_flags(text, _flags.get()) for text in (message, hint))
    _print_marked("[bold red]error:[/] ", message)
    if hint:
        _print_marked("[bold]hint:[/] ", hint)


def _print_marked(mark: str, text: str) -> None:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(mark, end="")
    console.print(text, markup=False)
