"""Many samples asked with the same roles: streaming, resumable, and stopped when too much fails.

Both stages stream: a sample's second question goes out when its first is answered, whatever the others do, and the
memory of images is bounded. Samples of one image or question follow each other, so that a server's cache of images
meets them again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from p2r.benchmarks.base import name_fields
from p2r.errors import TooManyErrors
from p2r.evaluation.choose import group_neighbors
from p2r.evaluation.counts import count_unseen
from p2r.evaluation.prepare import Prepared
from p2r.evaluation.scoring import ScoredRun, score_run, score_trace
from p2r.pipeline import walk
from p2r.roles import Perceiver, Reasoner
from p2r.runs.clock import RunClock
from p2r.runs.evaluation import make_run, read_run, to_facts, write_facts
from p2r.runs.origin import write_origin
from p2r.runs.store import TraceStore
from p2r.types import Failure, Judge, Sample, Trace, Verdict
from p2r.walks import MOST_IMAGE_BYTES, walk_all

MIN_TRIED = 20
"""Answers before the share of failures means anything."""


@dataclass(slots=True)
class Tally:
    """A count of the samples that a run has asked so far.

    num_kept: answered before, by an earlier call.
    num_tried: asked by this call; num_failed of them failed, and of num_unseen a server altered images.
    num_judged: answers with a verdict, kept ones included; num_correct of them are right.
    """

    num_samples: int
    num_kept: int = 0
    num_tried: int = 0
    num_failed: int = 0
    num_unseen: int = 0
    num_judged: int = 0
    num_correct: int = 0
    failures: list[Failure] = field(default_factory=list[Failure])

    @property
    def num_done(self) -> int:
        return self.num_kept + self.num_tried

    @property
    def accuracy(self) -> float | None:
        """Share of right answers so far, read as the scorer `robust` reads them; None before the first verdict."""
        return self.num_correct / self.num_judged if self.num_judged else None

    def _count_verdict(self, verdict: Verdict | None) -> None:
        if verdict is not None:
            self.num_judged += 1
            self.num_correct += verdict.correct

    def count_kept(self, verdict: Verdict | None) -> None:
        self.num_kept += 1
        self._count_verdict(verdict)

    def count_tried(self, trace: Trace) -> None:
        self.num_tried += 1
        self.num_unseen += count_unseen(trace) > 0
        self._count_verdict(trace.verdict)
        if trace.failure is not None:
            self.num_failed += 1
            self.failures.append(trace.failure)


def explain_failures(failures: Sequence[Failure], num_tried: int) -> str:
    """Say how many answers failed, and why most of them did."""
    causes = Counter(failure.message for failure in failures)
    return f"{len(failures)} of {num_tried} answers failed, {explain_causes(causes)}"


def find_hint(failures: Sequence[Failure]) -> str:
    """Return the hint of the most frequent failure, with the fields of a row by name; "" when it has none."""
    cause = Counter(failure.message for failure in failures).most_common(1)[0][0]
    return name_fields(next(failure.hint for failure in failures if failure.message == cause))


def explain_causes(causes: Counter[str]) -> str:
    """Name the most frequent of several counted causes, and say how frequent it is."""
    cause, count = causes.most_common(1)[0]
    which = "all" if count == causes.total() else f"{count} of them"
    return f"{which} because {cause}"


async def ask_samples(
    samples: Sequence[Sample],
    perceiver: Perceiver,
    reasoner: Reasoner | None,
    *,
    store: TraceStore | None = None,
    judge_for: Callable[[Sample], Judge | None] = lambda _: None,
    judge_again: Callable[[Sample, Trace], Verdict | None] = lambda _, trace: trace.verdict,
    num_at_once: int = 8,
    most_image_bytes: int = MOST_IMAGE_BYTES,
    max_error_rate: float = 0.1,
    on_trace: Callable[[Trace], None] | None = None,
    on_progress: Callable[[Tally], None] | None = None,
) -> list[Trace]:
    """Ask what `store` has no answer to yet. What fails is neither right nor wrong, and is asked again next time.

    Args:
        reasoner: None when nobody reads its answer.
        store: where traces are kept; None keeps them in memory alone.
        judge_for: the judge of a sample.
        judge_again: the verdict on a stored trace, as it is read today.
        num_at_once, most_image_bytes: samples in flight, and the memory of their images; see `walk_all`.
        max_error_rate: share of failures, 0 to 1, above which the run stops once MIN_TRIED answers are there.
        on_trace: called with each new trace, after it is stored.
        on_progress: called at the beginning and after each new trace.

    Returns:
        The traces of all samples, stored ones first.

    Raises:
        TooManyErrors: with the most frequent cause.
        StorageError: a trace cannot be written.
    """
    tally = Tally(num_samples=len(samples))
    waiting: list[Sample] = []
    traces: list[Trace] = []
    for sample in group_neighbors(samples):
        trace = store.find(sample) if store is not None else None
        if trace is None or not _is_same_image(trace.image, sample.image.uri):
            waiting.append(sample)
        else:
            traces.append(trace)
            tally.count_kept(judge_again(sample, trace))

    async def walk_one(sample: Sample) -> Trace:
        return await walk(sample, perceiver, reasoner, judge_for(sample))

    if on_progress is not None:
        on_progress(tally)
    walks = walk_all(waiting, walk_one, num_at_once=num_at_once, most_image_bytes=most_image_bytes)
    async with aclosing(walks) as finished:
        async for trace in finished:
            if store is not None:
                store.append(trace)
            traces.append(trace)
            tally.count_tried(trace)
            if on_trace is not None:
                on_trace(trace)
            if on_progress is not None:
                on_progress(tally)
            if tally.num_tried >= MIN_TRIED and tally.num_failed > max_error_rate * tally.num_tried:
                raise TooManyErrors(
                    f"stopped: {explain_failures(tally.failures, tally.num_tried)}",
                    hint=f"{find_hint(tally.failures) or 'remove the cause'}; then repeat the call, which resumes; "
                    "or raise `max_error_rate`",
                )
    return traces


def _is_same_image(before: str, now: str) -> bool:
    """Compare the names of two images: folders may move, and one inside a file of questions has no name of its own."""
    names = [PurePath(uri.partition("?")[0]).name for uri in (before, now)]
    return names[0] == names[1] or "#" in before or "#" in now


async def ask_prepared(
    prepared: Prepared,
    folder: Path | None,
    *,
    max_error_rate: float = 0.1,
    num_at_once: int = 16,
    most_image_bytes: int = MOST_IMAGE_BYTES,
    on_progress: Callable[[Tally], None] | None = None,
) -> ScoredRun:
    """Ask what is missing in `folder`, or everything where there is none; see `evaluate`."""
    clock = RunClock(folder)

    def judge_again(sample: Sample, trace: Trace) -> Verdict | None:
        return score_trace(trace, to_facts(sample), prepared.settings).verdicts.get("robust")

    def count(tally: Tally) -> None:
        clock.count(tally.num_tried, tally.num_unseen)
        if on_progress is not None:
            on_progress(tally)

    async def ask(store: TraceStore | None) -> list[Trace]:
        with clock:
            return await ask_samples(
                prepared.samples,
                prepared.perceiver,
                prepared.reasoner,
                store=store,
                judge_for=prepared.judge_for,
                judge_again=judge_again,
                num_at_once=num_at_once,
                most_image_bytes=most_image_bytes,
                max_error_rate=max_error_rate,
                on_progress=count,
            )

    if folder is None:
        traces = await ask(None)
        wall_s = clock.session.seconds if clock.session else None
        return score_run(make_run(prepared.samples, traces, prepared.settings, wall_s=wall_s, origin=prepared.origin))
    with TraceStore(folder, prepared.settings, origin=prepared.origin) as store:
        write_facts(folder, prepared.samples)
        if prepared.origin is not None:
            write_origin(folder, prepared.origin)
        await ask(store)
    return score_run(read_run(folder))
