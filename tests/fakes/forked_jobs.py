"""`p2r` as it is, but a study's jobs are forks of this process: torch is imported once, and not by each of them."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO
from unittest.mock import patch

from p2r.cli.app import main
from p2r.models.local import model  # noqa: F401  # before a fork, with all that it takes
from p2r.training import (
    keeper,
    train,  # noqa: F401
)


class Fork:
    """What a study asks of the process that it starts."""

    def __init__(self, command: Sequence[str], output: BinaryIO, env: Mapping[str, str]) -> None:
        self.stdin = io.BytesIO()
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            _become(command, output, env)

    def poll(self) -> int | None:
        return self.wait(options=os.WNOHANG)

    def wait(self, timeout: float | None = None, options: int = 0) -> int | None:
        if self.returncode is None:
            done, status = os.waitpid(self.pid, options)
            self.returncode = os.waitstatus_to_exitcode(status) if done else None
        return self.returncode


def _become(command: Sequence[str], output: BinaryIO, env: Mapping[str, str]) -> None:
    """Run a command of p2r in this process, and end it."""
    code = 1
    try:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        os.environ.update(env)
        sys.argv = ["p2r", *command[command.index("p2r") + 1 :]]
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _start(record: Path, command: Sequence[str], output: BinaryIO, env: Mapping[str, str]) -> Fork:
    return Fork(command, output, env)


def run_study(place: Path, *arguments: str) -> None:
    """Run `p2r study` in a folder; to be called in a `Fork`."""
    os.chdir(place)
    sys.argv = ["p2r", "study", *arguments]
    with patch.object(keeper, "start", _start):
        main()
