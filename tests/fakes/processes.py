"""Commands that tests start, interrupt and kill.

A fresh Python takes six seconds of a processor to import torch, transformers and our training, more than most commands
of tests take for all else. So one process imports them, computes nothing, and is forked.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        *("p2r.cli.app", "p2r.cli.train", "p2r.models.local.model", "p2r.training.train"),
        "transformers.models.qwen3_vl.modeling_qwen3_vl",
    ]
)
REFEREE = str(Path(sys.prefix) / "referee")
"""On the path of tests, and not on that of a command, see `stock_torchvision`."""


class Fork:
    """A function that runs in a process of its own; to be asked what a `subprocess.Popen` is."""

    def __init__(self, function: Callable[..., object], *args: object) -> None:
        with tempfile.NamedTemporaryFile(delete=False) as out, tempfile.NamedTemporaryFile(delete=False) as err:
            self._files = Path(out.name), Path(err.name)
        self._process = FORKS.Process(target=_run, args=(*self._files, function, args))
        self._process.start()
        assert self._process.pid
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, sign: signal.Signals) -> None:
        os.kill(self.pid, sign)

    def kill(self) -> None:
        self._process.kill()

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end, and kill it after too long a wait; returns what it wrote to stdout and stderr."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            self._process.kill()  # Python would wait for it at its own end
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0, *(path.read_bytes() for path in self._files))
        out, err = (path.read_text(encoding="utf-8") for path in self._files)
        for path in self._files:
            path.unlink(missing_ok=True)
        return out, err


def fork_command(*arguments: str) -> Fork:
    """Start `p2r` with arguments."""
    return Fork(_p2r, arguments)


def run_world(num_processes: int, function: Callable[..., object], *args: object, longest_wait_s: float) -> None:
    """Call a function in so many processes, with the variables that torchrun sets. All must end well."""
    with socket.create_server(("localhost", 0)) as server:
        world = {"WORLD_SIZE": num_processes, "MASTER_ADDR": "localhost", "MASTER_PORT": server.getsockname()[1]}
    forks = [Fork(_join, {**world, "RANK": rank, "LOCAL_RANK": rank}, function, args) for rank in range(num_processes)]
    deadline = time.monotonic() + longest_wait_s
    while None in (codes := [fork.poll() for fork in forks]) and not any(codes) and time.monotonic() < deadline:
        time.sleep(0.05)
    for fork in forks:  # whoever is left waits for one that failed
        fork.kill()
    said = "".join(fork.communicate()[1] for fork in forks)
    assert not any(codes) and None not in codes, said[-4000:]


def heed_ctrl_c() -> None:
    """A `preexec_fn`: a shell starts background jobs with SIGINT ignored, and their children would inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def finish(process: Fork | subprocess.Popen[str], *, longest_wait_s: float) -> str:
    """What it printed, when it ends well."""
    stdout, stderr = process.communicate(timeout=longest_wait_s)
    assert process.returncode == 0, stderr
    return stdout


def kill_many_times(
    folder: Path,
    start: Callable[[Path], Fork],
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


def _run(out: Path, err: Path, function: Callable[..., object], args: tuple[object, ...]) -> None:
    for path, number in ((out, 1), (err, 2)):
        with path.open("ab", buffering=0) as file:
            os.dup2(file.fileno(), number)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a terminal's foreground process has
    if REFEREE in sys.path:
        sys.path.remove(REFEREE)
    function(*args)


def _join(place: Mapping[str, object], function: Callable[..., object], args: tuple[object, ...]) -> None:
    os.environ.update({name: str(value) for name, value in place.items()})
    function(*args)


def _p2r(arguments: tuple[str, ...]) -> None:
    from p2r.cli.app import main

    sys.argv = ["p2r", *arguments]
    main()
