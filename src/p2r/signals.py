"""Signals that end a command: what is said then, and the exit code."""

from __future__ import annotations

from signal import SIGINT, SIGTERM, Signals

EXIT_OFFSET = 128
"""A process that a signal ends has the signal's number and this as its exit code, as shells count."""
INTERRUPTED, TERMINATED = EXIT_OFFSET + SIGINT, EXIT_OFFSET + SIGTERM
"""Exit codes after Ctrl-C and after SIGTERM."""


def as_exit_code(returncode: int) -> int:
    """Return what a shell makes of Python's return code, which is negative where a signal ended the process."""
    return EXIT_OFFSET - returncode if returncode < 0 else returncode


def describe_signal(sign: Signals) -> str:
    """Say what happened."""
    return "interrupted" if sign == SIGINT else f"asked to end by {sign.name}"
