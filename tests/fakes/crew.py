"""The processes of a run as threads of this one, which tell each other things through memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from p2r.training.engines.local.distributed import World

Result = TypeVar("Result")
LONGEST_WAIT_S = 60.0


def run_crew(size: int, work: Callable[[World], Result]) -> list[Result]:
    """What `work` returns in each process. One that waits for what never comes raises BrokenBarrierError."""
    barrier, board = threading.Barrier(size, timeout=LONGEST_WAIT_S), [[] for _ in range(size)]

    class Member(World):
        __slots__ = ()

        def tell(self, told: Sequence[Any]) -> list[list[Any]]:
            board[self.rank] = [*told]
            barrier.wait()
            parts = [*board]
            barrier.wait()
            return parts

        def gather(self, own: Sequence[Any]) -> list[Any]:
            parts = self.tell(own)
            return [part[k] for k in range(max(map(len, parts))) for part in parts if k < len(part)]

        def add_up(self, values: Sequence[float]) -> list[float]:
            return [sum(column) for column in zip(*self.tell(values), strict=True)]

        def deal(self, own: Sequence[Any], targets: Sequence[int]) -> list[Any]:
            return [item for item, to in zip(self.gather(own), targets, strict=True) if to == self.rank]

        def wait(self) -> None:
            barrier.wait()

    def run(rank: int) -> Result:
        try:
            return work(Member(rank, size))
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        done = [pool.submit(run, rank) for rank in range(size)]
    for each in done:  # the first cause, not what it broke
        if each.exception() is not None and not isinstance(each.exception(), threading.BrokenBarrierError):
            each.result()
    return [each.result() for each in done]
