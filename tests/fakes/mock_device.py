"""A 4B model on one H200, in arithmetic: what the mock server takes its time from.

A `Device` is advanced step by step like an engine with continuous batching: prompts wait for one of the slots; a step
takes waiting prompts up to a number of tokens and gives every running request one more token. A step costs the
arithmetic of its prompts (vision tower and language model, figures of docs/performance.md) or the reading of the
weights, whichever is longer, and then the reading of all running requests' keys and values. With the prefix cache on,
the part of a prompt (system, images in order, text) that an earlier prompt began with costs nothing, vision tower
included, until newer prompts push it out of memory.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

TERA = 1e12


@dataclass(frozen=True, slots=True)
class Hardware:
    """One H200 (dense bf16, half of the peak reached; 80% of the memory's bandwidth) with Qwen3-VL-4B's figures."""

    flops_per_s: float = 0.5 * 989 * TERA
    bytes_per_s: float = 0.8 * 4.8 * TERA
    weights_bytes: float = 8.9e9
    kv_bytes_per_token: float = 147e3
    kv_tokens: int = 750_000
    num_slots: int = 256
    step_tokens: int = 8192

    def prefill_s(self, num_tokens: int, num_cached: int = 0) -> float:
        """Language model: 16 TFLOP for 2048 tokens, 35 for 4096, a straight line and a square through both."""
        flops = 7.08e-3 * num_tokens + 3.58e-7 * ((num_cached + num_tokens) ** 2 - num_cached**2)
        return flops * TERA / self.flops_per_s

    def vision_s(self, num_tokens: int) -> float:
        """Vision tower of one image: 12 TFLOP for 2048 tokens, 37 for 4096."""
        return (2.69e-3 * num_tokens + 1.55e-6 * num_tokens**2) * TERA / self.flops_per_s

    def decode_s(self, num_context_tokens: int) -> float:
        """Reading the keys and values of all running requests once."""
        return num_context_tokens * self.kv_bytes_per_token / self.bytes_per_s

    @property
    def weights_s(self) -> float:
        return self.weights_bytes / self.bytes_per_s


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a prompt: equal keys are equal content."""

    key: str
    num_tokens: int
    is_image: bool


@dataclass(eq=False, slots=True)
class Job:
    """A request. `num_cached` tokens of its prompt were found in the prefix cache."""

    parts: tuple[Part, ...]
    num_output: int
    may_share: bool = True
    num_made: int = 0
    num_cached: int = 0

    @property
    def num_prompt(self) -> int:
        return sum(part.num_tokens for part in self.parts)


@dataclass(slots=True)
class Device:
    """Time is what `step` returns: nothing here looks at a clock."""

    hardware: Hardware = field(default_factory=Hardware)
    waiting: deque[Job] = field(default_factory=deque[Job])
    running: list[Job] = field(default_factory=list[Job])
    prefixes: OrderedDict[tuple[str, ...], int] = field(default_factory=OrderedDict)
    num_prefix_tokens: int = 0

    def add(self, job: Job) -> None:
        self.waiting.append(job)

    def step(self) -> tuple[float, list[Job]]:
        """(seconds, requests that ended). 0 seconds when there is nothing to do."""
        started, compute_s, room = list[Job](), 0.0, self.hardware.step_tokens - len(self.running)
        while self.waiting and len(self.running) + len(started) < self.hardware.num_slots:
            job = self.waiting[0]
            found = self._find_prefix(job)
            num_new = job.num_prompt - sum(part.num_tokens for part in job.parts[:found])
            if started and num_new > room:
                break
            room -= num_new
            job.num_cached = job.num_prompt - num_new
            compute_s += self.hardware.prefill_s(num_new, job.num_cached)
            compute_s += sum(self.hardware.vision_s(p.num_tokens) for p in job.parts[found:] if p.is_image)
            started.append(self.waiting.popleft())
        if not started and not self.running:
            return 0.0, []
        context = sum(job.num_prompt + job.num_made for job in self.running)
        seconds = max(compute_s, self.hardware.weights_s) + self.hardware.decode_s(context)
        for job in started:
            self._keep_prefixes(job)
        self.running += started
        for job in self.running:
            job.num_made += 1
        ended = [job for job in self.running if job.num_made >= job.num_output]
        self.running = [job for job in self.running if job.num_made < job.num_output]
        return seconds, ended

    def _find_prefix(self, job: Job) -> int:
        """How many of the job's first parts are known. The last part is always computed: it gives the first token."""
        if not job.may_share:
            return 0
        for count in range(len(job.parts) - 1, 0, -1):
            key = _key(job.parts[:count])
            if key in self.prefixes:
                for shorter in range(1, count + 1):
                    self.prefixes.move_to_end(_key(job.parts[:shorter]))
                return count
        return 0

    def _keep_prefixes(self, job: Job) -> None:
        if not job.may_share:
            return
        for count in range(1, len(job.parts) + 1):
            key = _key(job.parts[:count])
            if key not in self.prefixes:
                self.prefixes[key] = job.parts[count - 1].num_tokens
                self.num_prefix_tokens += job.parts[count - 1].num_tokens
            self.prefixes.move_to_end(key)
        while self.num_prefix_tokens > self.hardware.kv_tokens:
            self.num_prefix_tokens -= self.prefixes.popitem(last=False)[1]


def _key(parts: Sequence[Part]) -> tuple[str, ...]:
    return tuple(part.key for part in parts)
