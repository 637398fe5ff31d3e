"""Commands that tests start, interrupt and kill."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path


def heed_ctrl_c() -> None:
    """A `preexec_fn`: a shell starts background jobs with SIGINT ignored, and their children would inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start_command(command: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_ctrl_c)


def finish(process: subprocess.Popen[str], *, longest_wait_s: float) -> str:
    """What it printed, when it ends well."""
    stdout, stderr = process.communicate(timeout=longest_wait_s)
    assert process.returncode == 0, stderr
    return stdout


def kill_many_times(
    folder: Path,
    start: Callable[[Path], subprocess.Popen[str]],
    draw_moment: Callable[[Path, random.Random], Callable[[], bool]],
    *,
    num_kills: int,
    most_kills_a_run: int,
    longest_delay_s: float,
    longest_wait_s: float,
) -> list[tuple[Path, str]]:
    """Runs that were killed at random moments, started again each time, and finished in the end.

    Args:
        start: begins the run of an output folder, or goes on with it.
        draw_moment: draws when a run that was just started is killed: its result says whether the moment has come.
        longest_delay_s: after the moment, for a part of which the run goes on.

    Returns:
        The folder of each run, and what its last call printed.
    """
    draw = random.Random(num_kills)
    finished: list[tuple[Path, str]] = []
    num_killed = 0
    while num_killed < num_kills:
        out = folder / f"killed{len(finished) + 1}"
        for _ in range(min(most_kills_a_run, num_kills - num_killed)):
            process = start(out)
            has_come, deadline = draw_moment(out, draw), time.monotonic() + longest_wait_s
            while process.poll() is None and not has_come():
                assert time.monotonic() < deadline
                time.sleep(0.0005)
            time.sleep(draw.random() * longest_delay_s)
            process.kill()
            process.communicate()
            if process.returncode == 0:  # it was done before the moment came
                break
            num_killed += 1
        finished.append((out, finish(start(out), longest_wait_s=longest_wait_s)))
    return finished
