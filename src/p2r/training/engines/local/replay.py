"""A computation on a GPU that is recorded once and replayed: a CUDA graph.

A step of generation is some 80 small operations in each layer, and Python takes longer to launch them than the GPU to
compute them. A recorded step is launched as a whole.
"""

# torch is typed in part:
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import torch

T = TypeVar("T")


class Replay(Generic[T]):
    """Calls a function, and from the second call on replays what it did on the GPU."""

    def __init__(self) -> None:
        self._place: Hashable = None
        self._recorded: tuple[torch.cuda.CUDAGraph, T] | None = None

    def __call__(self, function: Callable[[], T], place: Hashable) -> T:
        """Call it, or replay it.

        Args:
            function: does the same on the same memory each time, and asks the host for nothing.
            place: changes when the memory has moved, which is then recorded again.

        Returns:
            Its result. A replay writes into the one before, which has to be read by then.
        """
        if place != self._place:
            # The first call is not recorded: in it kernels are loaded, and libraries take their own memory.
            self._place, self._recorded = place, None
            return function()
        if self._recorded is None:
            graph = torch.cuda.CUDAGraph()
            # Other threads may use the GPU meanwhile.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                result = function()
            self._recorded = graph, result
        graph, result = self._recorded
        graph.replay()
        return result
