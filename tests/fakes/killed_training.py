"""A run that nobody disturbs, and the same run killed and resumed; to be called in a `Fork`.

Runs are forked, so that torch is imported once; the parent computes nothing. A killed process sends itself SIGKILL as
soon as a chosen step is in the metrics, before the step's checkpoint. With several processes that is the first one, and
the others are killed, too. All runs are written to FOLDER/run, because traces name folders; the first one is then moved
to FOLDER/whole.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from p2r.config import Recipe
from p2r.runs.training_log import Step
from p2r.training.engines.local.distributed import join_world
from p2r.training.train import run_phases
from p2r.training.watch.watcher import Watcher
from tests.fakes.tiny_training import make_recipe


class Case(TypedDict):
    """changes: of the recipe. kills: (phase, step) after which the run is killed, one after the other."""

    changes: list[str]
    processes: int
    kills: list[tuple[str, int]]


def kill_and_resume(folder: Path, case: Case) -> None:
    """Leave the undisturbed run in FOLDER/whole and the other one in FOLDER/run."""
    recipe = make_recipe(folder / "run", case["changes"])
    assert run(recipe, case["processes"], None, resume=False) == {0}
    recipe.out.rename(folder / "whole")
    for number, kill in enumerate(case["kills"]):
        ends = run(recipe, case["processes"], kill, resume=number > 0)
        # One that waits for another fails when that is killed.
        assert -signal.SIGKILL in ends and ends <= {-signal.SIGKILL, 1}, f"not killed after {kill}: {ends}"
    assert run(recipe, case["processes"], None, resume=True) == {0}


def run(recipe: Recipe, num_processes: int, kill: Sequence[object] | None, *, resume: bool) -> set[int]:
    """Train in forked processes; returns their exit statuses."""
    with socket.create_server(("localhost", 0)) as server:
        port = server.getsockname()[1]
    children = [fork(recipe, rank, num_processes, port, kill, resume=resume) for rank in range(num_processes)]
    ends: set[int] = set()
    while children:
        child, status = os.wait()
        children.remove(child)
        end = os.waitstatus_to_exitcode(status)
        if end and children:
            for other in children:
                os.kill(other, signal.SIGKILL)
        ends.add(end)
    return ends


def fork(recipe: Recipe, rank: int, size: int, port: int, kill: Sequence[object] | None, *, resume: bool) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        if size > 1:
            places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_PORT": port}
            os.environ.update({"MASTER_ADDR": "localhost", **{name: str(value) for name, value in places.items()}})

        def die(row: Step, num_steps: int) -> None:
            if kill is not None and (row.phase, row.step) == tuple(kill):
                os.kill(os.getpid(), signal.SIGKILL)

        with join_world() as world:
            asyncio.run(run_phases(recipe, Watcher(step=die), resume=resume, world=world))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
