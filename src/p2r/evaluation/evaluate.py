"""Ask a benchmark in one mode and keep every trace: streaming, resumable, and stopped when too much fails.

Both stages stream: a sample's second question goes out when its first is answered, whatever the others do, and the
images in memory are bounded. Rows of the same image or question stand next to each other, so that a server's
cache of images meets them again.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from p2r.benchmarks.base import ScoredBy
from p2r.dialogue import Model
from p2r.errors import ConfigError, TooManyErrors
from p2r.judges import BoxJudge, judge_for
from p2r.modes import Roles
from p2r.pipeline import walk
from p2r.prompts import PromptSet
from p2r.runs.store import TraceStore
from p2r.types import Judge, Sample, Trace
from p2r.walks import MOST_IMAGE_BYTES, walk_all

MIN_TRIED = 20
"""Answers before the share of failures means anything."""


@dataclass(slots=True)
class Tally:
    """How far a run is.

    num_kept: answered before, by an earlier call.
    num_tried: asked by this call; num_failed of them failed.
    """

    num_samples: int
    num_kept: int = 0
    num_tried: int = 0
    num_failed: int = 0
    num_judged: int = 0
    num_correct: int = 0
    causes: Counter[str] = field(default_factory=Counter[str])

    @property
    def accuracy(self) -> float | None:
        return self.num_correct / self.num_judged if self.num_judged else None

    def count(self, trace: Trace) -> None:
        if trace.verdict is not None:
            self.num_judged += 1
            self.num_correct += trace.verdict.correct
        if trace.failure is not None:
            self.num_failed += 1
            self.causes[trace.failure.message] += 1

    def explain(self) -> str:
        """How many failed, and why most of them did."""
        return f"{self.num_failed} of {self.num_tried} answers failed, {explain_causes(self.causes)}"


def explain_causes(causes: Counter[str]) -> str:
    """Why most of what failed did; `causes` counts each."""
    cause, count = causes.most_common(1)[0]
    which = "all" if count == causes.total() else f"{count} of them"
    return f"{which} because {cause}"


async def evaluate(
    samples: Sequence[Sample],
    roles: Roles,
    store: TraceStore,
    *,
    scored_by: ScoredBy = "answer",
    judge_model: Model | None = None,
    judge_prompts: PromptSet | None = None,
    num_at_once: int = 8,
    most_image_bytes: int = MOST_IMAGE_BYTES,
    max_error_rate: float = 0.1,
    on_progress: Callable[[Tally], None] | None = None,
) -> Tally:
    """Ask what `store` has no answer to yet. What fails is neither right nor wrong, and is asked again next time.

    Args:
        scored_by: with "box" the reasoner is not asked, because nobody reads its answer.
        judge_model, judge_prompts: judges free answers whose words are not the target's, asked in this wording.
        num_at_once, most_image_bytes: samples under way, and the memory of their images; see `walk_all`.
        max_error_rate: share of failures, 0 to 1, above which the run stops once MIN_TRIED answers are there.
        on_progress: called after every answer.

    Raises:
        TooManyErrors: with the most frequent cause.
        StorageError: a trace cannot be written.
    """
    perceiver, reasoner = roles.perceiver, None if scored_by == "box" else roles.reasoner
    tally = Tally(num_samples=len(samples))
    waiting: list[Sample] = []
    for sample in group_neighbors(samples):
        if (trace := store.find(sample)) is None:
            waiting.append(sample)
        else:
            tally.num_kept += 1
            tally.count(trace)

    async def walk_one(sample: Sample) -> Trace:
        return await walk(sample, perceiver, reasoner, choose_judge(sample, scored_by, judge_model, judge_prompts))

    if on_progress is not None:
        on_progress(tally)
    walks = walk_all(waiting, walk_one, num_at_once=num_at_once, most_image_bytes=most_image_bytes)
    async with aclosing(walks) as traces:
        async for trace in traces:
            store.append(trace)
            tally.num_tried += 1
            tally.count(trace)
            if on_progress is not None:
                on_progress(tally)
            if tally.num_tried >= MIN_TRIED and tally.num_failed > max_error_rate * tally.num_tried:
                raise TooManyErrors(
                    f"stopped: {tally.explain()}",
                    hint="remove the cause and run the same command, which goes on; or raise --max-error-rate",
                )
    return tally


def choose_judge(
    sample: Sample, scored_by: ScoredBy, model: Model | None = None, prompts: PromptSet | None = None
) -> Judge | None:
    """The judge of a sample, None when it says neither the right answer nor where the evidence is."""
    if scored_by == "box":
        return BoxJudge() if sample.gold_boxes else None
    return judge_for(sample, model, prompts) if sample.target is not None else None


def group_neighbors(samples: Sequence[Sample]) -> list[Sample]:
    """Rows of one question or one image together, in the order of the first of them."""
    return [sample for group in _group(samples) for sample in group]


def take_shard(samples: Sequence[Sample], shard: str) -> list[Sample]:
    """The samples of one shard "i/n", i from 1. Questions and images stay whole.

    Raises:
        ConfigError: not of that form, or i is not within 1 to n.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", shard)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ConfigError(f"{shard!r} is no shard", hint="write i/n, such as 1/4 for the first of four")
    number, count = int(match[1]), int(match[2])
    return [sample for group in _group(samples)[number - 1 :: count] for sample in group]


def draw_limit(samples: Sequence[Sample], limit: int, seed: int) -> list[Sample]:
    """At most `limit` samples drawn at random, whole questions together, in the order of the benchmark.

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


def _group(samples: Sequence[Sample]) -> list[list[Sample]]:
    groups: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        key = ("cluster", sample.cluster) if sample.cluster else ("image", sample.image.uri)
        groups.setdefault(key, []).append(sample)
    return list(groups.values())
