"""Evaluate a model on a benchmark from Python, with the settings of `p2r eval`.

run = evaluate("needles", "nano", limit=60)
print(run.scorecard())
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from p2r.benchmarks import Benchmark
from p2r.dialogue import Model
from p2r.evaluation.asking import Tally, ask_samples
from p2r.evaluation.prepare import Prepared, check_error_rate, prepare
from p2r.evaluation.scoring import ScoredRun, score_run, score_trace
from p2r.loop import run_blocking
from p2r.models.server.transport import Transport
from p2r.modes import Mode
from p2r.prompts import PromptSet
from p2r.runs.clock import RunClock
from p2r.runs.evaluation import make_run, read_run, to_facts, write_facts
from p2r.runs.origin import write_origin
from p2r.runs.store import TraceStore
from p2r.types import Sample, Trace, Verdict
from p2r.walks import MOST_IMAGE_BYTES, Sharing


def evaluate(
    benchmark: str | Path | Benchmark,
    model: str | Model = "nano",
    *,
    mode: Mode = "p2r",
    out: str | Path | None = None,
    perceiver_model: str | Model | None = None,
    judge_model: str | Model | None = None,
    prompts: str | Path | PromptSet = "release",
    limit: int | None = None,
    seed: int = 0,
    shard: str | None = None,
    split: str | None = None,
    boxes: str | Path | None = None,
    images: str | Path | None = None,
    skip_bad: int = 0,
    share_perception: Sharing = "same-prompt",
    max_error_rate: float = 0.1,
    num_at_once: int = 16,
    most_image_bytes: int = MOST_IMAGE_BYTES,
    max_pixels: int | None = None,
    device: str | None = None,
    dtype: str | None = None,
    timeout_s: float = 300.0,
    transport: Transport = "auto",
    cache: str | Path | None = None,
    on_progress: Callable[[Tally], None] | None = None,
) -> ScoredRun:
    """Ask a benchmark in one mode and score the answers. Works inside a running event loop, too.

    Several modes or benchmarks are several calls; give them a loaded model and a loaded benchmark to load each once.

    Args:
        benchmark: "needles", NAME:PATH, a path or a known hub id; or a loaded one.
        model: answers, and says where to look; named as in `load_model`, or loaded.
        mode: a name from `p2r.modes.MODES`.
        out: the folder to which `p2r eval --out` writes: the run goes to OUT/BENCHMARK/MODE, and a call with the same
            settings asks only what is missing or failed there. None keeps the run in memory.
        perceiver_model: says where to look in place of `model`.
        judge_model: judges free answers whose words are not the target's.
        prompts: a shipped set ("release", "paper"), a folder, or a loaded set.
        limit: at most this many samples, drawn by `seed`; of needles the first ones.
        seed: seed for needles, `limit`, random boxes and option orders.
        shard: "i/n" for the i-th of n parts.
        split, boxes, images, skip_bad: as in `load_benchmark`.
        share_perception: which samples share one look.
        max_error_rate: share of failures, 0 to 1, above which the run stops.
        num_at_once, most_image_bytes: samples in flight, and the memory of their images.
        max_pixels, device, dtype, timeout_s, transport, cache: as in `load_model`; not for loaded models.
        on_progress: called with the tally so far, from another thread, at the beginning and after every answer.

    Returns:
        The run with its scores, as `p2r score` would read it from its folder.

    Raises:
        ConfigError: a setting is not usable, or the settings do not go together.
        DataError: the benchmark cannot be loaded.
        ModelError: a model cannot be loaded. (A failed answer does not raise; it is counted apart.)
        StorageError: `out` holds a run with other settings, or cannot be written.
        TooManyErrors: more failures than `max_error_rate`; what was answered is kept in `out`.
    """
    check_error_rate(max_error_rate)
    prepared = prepare(
        benchmark,
        model,
        mode=mode,
        perceiver_model=perceiver_model,
        judge_model=judge_model,
        prompts=prompts,
        limit=limit,
        seed=seed,
        shard=shard,
        split=split,
        boxes=boxes,
        images=images,
        skip_bad=skip_bad,
        share_perception=share_perception,
        num_at_once=num_at_once,
        max_pixels=max_pixels,
        device=device,
        dtype=dtype,
        timeout_s=timeout_s,
        transport=transport,
        cache=cache,
    )
    folder = None if out is None else Path(out).expanduser() / prepared.name
    return run_blocking(
        ask_prepared(
            prepared,
            folder,
            max_error_rate=max_error_rate,
            num_at_once=num_at_once,
            most_image_bytes=most_image_bytes,
            on_progress=on_progress,
        )
    )


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
        clock.count(tally.num_tried)
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
    with TraceStore(folder, prepared.settings) as store:
        write_facts(folder, prepared.samples)
        if prepared.origin is not None:
            write_origin(folder, prepared.origin)
        await ask(store)
    return score_run(read_run(folder))
