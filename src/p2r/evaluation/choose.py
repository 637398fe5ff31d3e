"""Which samples of a benchmark are asked: all, a draw of them, or one shard."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from p2r.benchmarks.base import Benchmark
from p2r.errors import ConfigError, count_nouns
from p2r.modes import PERCEIVING, Mode, prepare_samples
from p2r.types import Sample


def choose_samples(
    benchmark: Benchmark, mode: Mode, *, limit: int | None = None, seed: int = 0, shard: str | None = None
) -> list[Sample]:
    """The samples that a run asks, as its mode asks them. Loads no model.

    Args:
        limit: at most this many, drawn by `seed`.
        shard: "i/n" for the i-th of n parts.

    Raises:
        ConfigError: the benchmark cannot be asked in this mode, or nothing is left to ask.
    """
    if benchmark.scored_by == "box" and mode not in PERCEIVING:
        raise ConfigError(
            f"{benchmark.name} is scored by the perceiver's boxes, and the mode {mode!r} has none",
            hint="use the mode p2r, or oracle and random as references",
        )
    samples = list(benchmark)
    if limit is not None and limit < len(samples):
        samples = draw_limit(samples, limit, seed)
        if not samples:
            raise ConfigError(
                f"a limit of {limit} is less than one question of {benchmark.name} with all its rotations",
                hint=f"give a larger `limit`; {benchmark.name} has {count_nouns(len(benchmark), 'sample')}",
            )
    if shard is not None:
        samples = take_shard(samples, shard)
        if not samples:
            raise ConfigError(f"the shard {shard} of {benchmark.name} is empty", hint="make fewer shards")
    return prepare_samples(mode, samples, seed)


def draw_limit(samples: Sequence[Sample], limit: int, seed: int) -> list[Sample]:
    """Draw at most `limit` samples at random, whole questions together, in the order of the benchmark.

    The first ones would be of one category in most benchmarks.
    """
    questions: dict[tuple[str, str], set[str]] = {}
    for sample in samples:
        questions.setdefault((sample.cluster, "" if sample.cluster else sample.id), set()).add(sample.id)
    drawn = list(questions.values())
    random.Random(f"limit:{seed}").shuffle(drawn)
    kept: set[str] = set()
    for ids in drawn:
        if len(kept) + len(ids) <= limit:
            kept |= ids
    return [sample for sample in samples if sample.id in kept]


def take_shard(samples: Sequence[Sample], shard: str) -> list[Sample]:
    """The samples of one shard "i/n", i from 1. Questions and images stay whole.

    Raises:
        ConfigError: the shard has another form, or i is not within 1 to n.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", shard)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ConfigError(f"{shard!r} is not a shard", hint="write i/n, such as 1/4 for the first of four")
    number, count = int(match[1]), int(match[2])
    return [sample for group in _group(samples)[number - 1 :: count] for sample in group]


def group_neighbors(samples: Sequence[Sample]) -> list[Sample]:
    """Samples of one question or one image next to each other, in the order of the first of them."""
    return [sample for group in _group(samples) for sample in group]


def _group(samples: Sequence[Sample]) -> list[list[Sample]]:
    groups: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        key = ("cluster", sample.cluster) if sample.cluster else ("image", sample.image.uri)
        groups.setdefault(key, []).append(sample)
    return list(groups.values())
