"""Ctrl-C, and SIGTERM, by which SLURM, Kubernetes and `docker stop` end a command: it says what is kept.

SIGTERM is handled as Ctrl-C is, so that whatever a command does about one it does about the other; only what is said
and the exit code differ. A training handles both itself while it runs.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType


class Received:
    """The signal that ends the command."""

    sign = signal.SIGINT


@contextmanager
def sigterm_as_ctrl_c() -> Generator[None, None, None]:
    """Let SIGTERM raise KeyboardInterrupt. Outside the main thread Python allows no handlers: nothing is done."""
    Received.sign = signal.SIGINT
    is_ours = threading.current_thread() is threading.main_thread()
    if not is_ours or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _take_sigterm)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _take_sigterm(_: int, frame: FrameType | None) -> None:
    Received.sign = signal.SIGTERM
    on_ctrl_c = signal.getsignal(signal.SIGINT)  # asyncio's own, while it runs
    if not callable(on_ctrl_c):  # a shell ignores Ctrl-C in commands in the background
        on_ctrl_c = signal.default_int_handler
    on_ctrl_c(signal.SIGINT, frame)
