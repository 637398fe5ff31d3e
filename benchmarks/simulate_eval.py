"""Compute how long an evaluation in two stages takes, from the mock server's device and four cores, without a clock.

A `Walk` is one sample: two requests, and the image work before each. Both functions return seconds of the device.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

from tests.fakes.mock_device import Device, Job, Part

BATCH_SIZE, NUM_CORES = 256, 4


@dataclass(frozen=True, slots=True)
class ImageWork:
    """Seconds that one core works before each stage."""

    first_s: float
    second_s: float


@dataclass(frozen=True, slots=True)
class Request:
    parts: tuple[Part, ...]
    num_output: int

    def to_job(self, *, may_share: bool) -> Job:
        return Job(self.parts, self.num_output, may_share)


@dataclass(frozen=True, slots=True)
class Walk:
    perceive: Request
    reason: Request


def simulate_barrier(walks: Sequence[Walk], work: ImageWork) -> float:
    """Simulate batches with one stage after the other in each, without a prefix cache. Image work uses all cores."""
    stages: list[tuple[float, Callable[[Walk], Request]]] = [
        (work.first_s, lambda walk: walk.perceive),
        (work.second_s, lambda walk: walk.reason),
    ]
    total_s = 0.0
    for start in range(0, len(walks), BATCH_SIZE):
        batch = walks[start : start + BATCH_SIZE]
        for seconds, choose in stages:
            total_s += seconds * len(batch) / NUM_CORES
            device = Device()
            for walk in batch:
                device.add(choose(walk).to_job(may_share=False))
            while step_s := device.step()[0]:
                total_s += step_s
    return total_s


def simulate_stream(walks: Sequence[Walk], work: ImageWork, num_at_once: int) -> float:
    """Simulate `num_at_once` independent walks in flight, with the prefix cache."""
    device, now_s, tickets = Device(), 0.0, count()
    cores = [0.0] * NUM_CORES  # when each is free
    prepared: list[tuple[float, int, Walk, bool]] = []  # when, ticket, walk, whether it is the second stage
    owners: dict[Job, tuple[Walk, bool]] = {}
    waiting, num_left, num_running = iter(walks), len(walks), 0

    def prepare(walk: Walk, *, is_second: bool) -> None:
        begin_s = max(heapq.heappop(cores), now_s)
        ready_s = begin_s + (work.second_s if is_second else work.first_s)
        heapq.heappush(cores, ready_s)
        heapq.heappush(prepared, (ready_s, next(tickets), walk, is_second))

    while num_left:
        while num_running < num_at_once and (walk := next(waiting, None)) is not None:
            prepare(walk, is_second=False)
            num_running += 1
        while prepared and prepared[0][0] <= now_s:
            _, _, walk, is_second = heapq.heappop(prepared)
            job = (walk.reason if is_second else walk.perceive).to_job(may_share=True)
            owners[job] = walk, is_second
            device.add(job)
        step_s, ended = device.step()
        now_s = now_s + step_s if step_s else prepared[0][0]
        for job in ended:
            walk, is_second = owners.pop(job)
            if is_second:
                num_left, num_running = num_left - 1, num_running - 1
            else:
                prepare(walk, is_second=True)
    return now_s
