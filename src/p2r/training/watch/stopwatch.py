"""Seconds of a step by part. On a GPU a part ends when its kernels have finished."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager

import torch


class Stopwatch:
    """Adds up the seconds of each part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Generator[None, None, None]:
        """Time the block; parts do not overlap."""
        began = time.perf_counter()
        yield
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began

    @property
    def total(self) -> float:
        return sum(self.seconds.values())
