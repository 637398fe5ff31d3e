"""Asks a process of its own to run a chat's programs, and ends it when they take too long."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from PIL import Image

from p2r.errors import StorageError, ToolError, reason_of
from p2r.programs import child
from p2r.programs.canvas import Region

MOST_WAITED_S = 60.0
"""Seconds until the process is killed: those of the programs, and those that a busy machine takes to start it."""
_KEPT = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")
"""The part of the environment that Python may need to start."""
_slots = threading.BoundedSemaphore(max(2, os.cpu_count() or 1))


@dataclass(frozen=True, slots=True)
class Made:
    """An image that a program made. region: the part of the given image that it shows, as shares of its sides."""

    image: Image.Image
    region: Region | None


def ask_process(
    programs: Sequence[str], image: Image.Image, path: str, *, as_released: bool = False
) -> tuple[Made | str, ...]:
    """Return what the last of a chat's programs shows; see `run_programs`. May be called from several threads.

    Raises:
        ToolError: a program is wrong, or takes too long or too much memory.
        StorageError: the process cannot be started.
    """
    facts = {"programs": [*programs], "path": path, "as_released": as_released, "wh": image.size}
    with _slots, _start() as process:
        timer = threading.Timer(MOST_WAITED_S, process.kill)
        timer.start()
        assert process.stdin is not None and process.stdout is not None, "both are pipes"
        begun = b""
        try:
            child.write_head(process.stdin, facts)
            process.stdin.write(image.convert("RGB").tobytes())
            process.stdin.flush()
            begun = process.stdout.read(1)
            return _read_reply(process.stdout)
        except (OSError, ValueError) as error:
            process.kill()
            raise _explain(process.wait(), begun) from error
        finally:
            timer.cancel()
            process.kill()
            with contextlib.suppress(OSError):  # it may have ended before it read everything
                process.stdin.close()


def _start() -> subprocess.Popen[bytes]:
    env = {name: os.environ[name] for name in _KEPT if name in os.environ}
    command = [sys.executable, "-I", child.__file__, *(str(Path(entry).resolve()) for entry in sys.path)]
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=env | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
        )
    except OSError as error:
        raise StorageError(
            f"the process for a program of the model cannot be started: {reason_of(error)}",
            hint="free memory, or allow more processes",
        ) from error


def _read_reply(pipe: IO[bytes]) -> tuple[Made | str, ...]:
    """Read the reply. Raises ToolError, and ValueError where it ends early."""
    facts = child.read_head(pipe)
    if facts["error"]:
        raise ToolError(facts["error"])
    return tuple(
        part if isinstance(part, str) else Made(child.read_image(pipe, part["wh"]), _read_region(part["region"]))
        for part in facts["parts"]
    )


def _read_region(given: Sequence[float] | None) -> Region | None:
    if given is None:
        return None
    left, top, right, bottom = given
    return left, top, right, bottom


def _explain(code: int, begun: bytes) -> StorageError | ToolError:
    """Return the error of a process that ended without a reply."""
    if begun != child.BEGUN:
        return StorageError(
            "the process for a program of the model ended before it began", hint="free memory, or ask fewer at once"
        )
    if code == -getattr(signal, "SIGALRM", 14):
        return ToolError(f"the program ran for more than {child.MOST_SECONDS} seconds")
    return ToolError("the program ended its process: it needs too much memory, or nests too deeply")
