"""Runs a command, and ends it when the process that wants it has gone, however that ended.

    python keeper.py RECORD COMMAND...

The trainer holds the other end of this program's standard input. The pipe closes when the trainer closes it, and also
when the trainer is killed; then the command is ended with everything that it has started. RECORD names the command
while it runs, so that a later call of the trainer knows a server that even this program could not end.

Only the standard library is imported, so that it starts at once, and without a search for p2r (`python -I`).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

PATIENCE_S = 15.0
"""Seconds that the command may take to end before it is killed."""
LOOK_EVERY_S = 0.1
LAST_CHARS = 600
SIGNALLED = 128
"""A shell adds this to the number of the signal that ended a command: `p2r.signals.EXIT_OFFSET`, written out."""


def keep(record: Path, command: list[str]) -> int:
    """Run a command until it ends, or standard input does; returns its exit code as a shell would."""
    signal.signal(signal.SIGTERM, _survive)  # a signal that is ignored would stay ignored in the command
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    facts = {"pid": process.pid, "group": os.getpgrp(), "started": started_at(process.pid), "command": command}
    with contextlib.suppress(OSError):  # a full disk: the command is watched all the same
        record.write_text(json.dumps(facts) + "\n", encoding="utf-8")
    try:
        while process.poll() is None:
            if select.select([sys.stdin], [], [], LOOK_EVERY_S)[0] and not os.read(sys.stdin.fileno(), 1):
                os.killpg(0, signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(PATIENCE_S)
                record.unlink(missing_ok=True)
                os.killpg(0, signal.SIGKILL)  # whatever is left of the group, this program included
    finally:
        record.unlink(missing_ok=True)
    return SIGNALLED - process.returncode if process.returncode < 0 else process.returncode


def start(
    record: Path, command: list[str], output: BinaryIO, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a command under a keeper, in a group of its own, with what it prints in `output`."""
    kept = [sys.executable, "-I", __file__, str(record), *command]
    return subprocess.Popen(kept, stdin=subprocess.PIPE, stdout=output, stderr=output, env=env, start_new_session=True)


def ask_to_end(process: subprocess.Popen[bytes]) -> None:
    """Close the input of a keeper that `start` has returned: it ends its command."""
    assert process.stdin is not None, "it was started with a pipe"
    process.stdin.close()


def end(process: subprocess.Popen[bytes]) -> None:
    """End a keeper's command and everything that it has started, and wait for it."""
    ask_to_end(process)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE_S + 2)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _survive(*_: object) -> None:
    """Do nothing: the end of the command is waited for."""


def last_words(output: Path, start: int = 0) -> str:
    """The end of what a command has written, in one line. start: the bytes that were there before."""
    try:
        text = output.read_bytes()[start:].decode("utf-8", errors="replace")
    except OSError:
        return "it wrote nothing"
    lines = [line.strip() for line in text[-LAST_CHARS:].splitlines() if line.strip()]
    return " | ".join(lines[-3:]) or "it wrote nothing"


def started_at(pid: int) -> str:
    """When a process began, which tells it from a later one of the same number; "" when there is none."""
    stat = Path(f"/proc/{pid}/stat")
    if stat.parent.parent.joinpath("self").exists():
        try:
            return stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
        except OSError:
            return ""
    found = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return found.stdout.strip()


def end_recorded(record: Path) -> bool:
    """End a command that a record names, if it still runs; tells whether it did."""
    try:
        facts = json.loads(record.read_text(encoding="utf-8"))
        pid, group, started = int(facts["pid"]), int(facts["group"]), str(facts["started"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    is_running = started != "" and started_at(pid) == started
    for sign in (signal.SIGTERM, signal.SIGKILL) if is_running else ():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, sign)
        deadline = time.monotonic() + PATIENCE_S
        while started_at(pid) == started and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY_S)
    record.unlink(missing_ok=True)
    return is_running


if __name__ == "__main__":
    sys.exit(keep(Path(sys.argv[1]), sys.argv[2:]))
