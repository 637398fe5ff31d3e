"""`p2r eval`: benchmarks in one or several modes, resumable; every trace is kept."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, TaskID

from p2r.benchmarks import Benchmark
from p2r.cli.allocator import return_large_blocks, share_heaps
from p2r.cli.guard import end_interrupted, print_error
from p2r.cli.options import (
    DEFAULT_TIMEOUT_S,
    BoxFrame,
    BoxSource,
    CacheFolder,
    Device,
    Dtype,
    EngineArgs,
    Family,
    ImageChecking,
    ImageFolder,
    ImageMemoryGb,
    ImageTransport,
    JudgeSpec,
    Limit,
    Markdown,
    MaxErrorRate,
    MaxPixels,
    ModelSpec,
    Modes,
    NumAtOnce,
    PerceiverNewTokens,
    PerceiverProfile,
    PerceiverSpec,
    Profile,
    ReasonerNewTokens,
    RunFolder,
    Samples,
    Seed,
    Shard,
    SharePerception,
    Shuffles,
    SkipBad,
    Split,
    Temperature,
    TimeoutS,
    Wording,
    read_engine_args,
)
from p2r.cli.screen import make_console, print_tables, progress
from p2r.errors import mask_secrets
from p2r.evaluation.asking import Tally, explain_failures, find_hint
from p2r.evaluation.breakdowns import tabulate_first_boxes
from p2r.evaluation.compare import tabulate_runs
from p2r.evaluation.evaluate import evaluate_all
from p2r.evaluation.metrics import tabulate_summaries
from p2r.evaluation.prepare import Prepared
from p2r.evaluation.repeats import tabulate_repeats
from p2r.evaluation.scorecard import tabulate_accuracy
from p2r.models.load import runs_on_torch
from p2r.modes import BOX_MODES, read_mode
from p2r.walks import MOST_IMAGE_BYTES

EVAL_EXAMPLES = """
**Examples**

- `p2r eval needles --limit 60` (made on the spot, with the small model that ships with p2r)

- `p2r eval needles --mode direct --mode p2r --mode oracle --out runs/nano`

- `p2r eval needles:side_px=2048,noise=8,families=text+absent --limit 60` (larger, noisier, and other questions)

- `p2r eval hrbench_4k:data/hr_bench_4k.parquet --model http://localhost:8000/v1#P2R-4B --num-at-once 32`

- `p2r eval vstar:data/vstar_bench --model hongxingli/P2R-4B --shard 1/4`, and then `p2r merge`
"""


def evaluate_benchmarks(
    benchmarks: Annotated[
        list[str],
        typer.Argument(
            metavar="BENCHMARK...", help="needles, needles:NAME=VALUE,..., NAME:PATH, a path, or a known hub id."
        ),
    ],
    model: ModelSpec = "nano",
    perceiver_model: PerceiverSpec = None,
    judge_model: JudgeSpec = None,
    mode: Modes = None,
    prompts: Wording = "release",
    profile: Profile = None,
    perceiver_profile: PerceiverProfile = None,
    family: Family = None,
    frame: BoxFrame = None,
    max_pixels: MaxPixels = None,
    perceiver_new_tokens: PerceiverNewTokens = None,
    reasoner_new_tokens: ReasonerNewTokens = None,
    limit: Limit = None,
    samples: Samples = 1,
    shuffles: Shuffles = 1,
    temperature: Temperature = 0.0,
    seed: Seed = 0,
    split: Split = None,
    boxes: BoxSource = None,
    images: ImageFolder = None,
    skip_bad: SkipBad = 0,
    out: RunFolder = Path("runs"),
    shard: Shard = None,
    cache: CacheFolder = None,
    share_perception: SharePerception = "same-prompt",
    max_error_rate: MaxErrorRate = 0.1,
    num_at_once: NumAtOnce = 16,
    image_memory_gb: ImageMemoryGb = MOST_IMAGE_BYTES / 1e9,
    markdown: Markdown = False,
    device: Device = None,
    dtype: Dtype = None,
    timeout_s: TimeoutS = DEFAULT_TIMEOUT_S,
    transport: ImageTransport = "auto",
    image_check: ImageChecking = "auto",
    engine_args: EngineArgs = None,
) -> None:
    """Evaluate a model on benchmarks. The same command resumes a run that was stopped."""
    if runs_on_torch(model):
        share_heaps()
    else:
        return_large_blocks()
    messages = make_console(stderr=True)
    try:
        with progress(messages, field="accuracy") as bars:
            runs = evaluate_all(
                benchmarks,
                model,
                modes=[read_mode(name) for name in mode or ["p2r"]],
                out=out,
                perceiver_model=perceiver_model,
                judge_model=judge_model,
                prompts=prompts,
                limit=limit,
                samples=samples,
                shuffles=shuffles,
                temperature=temperature,
                seed=seed,
                shard=shard,
                split=split,
                boxes=boxes,
                images=images,
                skip_bad=skip_bad,
                share_perception=share_perception,
                max_error_rate=max_error_rate,
                num_at_once=num_at_once,
                most_image_bytes=round(image_memory_gb * 1e9),
                profile=profile,
                perceiver_profile=perceiver_profile,
                family=family,
                frame=frame,
                max_pixels=max_pixels,
                perceiver_new_tokens=perceiver_new_tokens,
                reasoner_new_tokens=reasoner_new_tokens,
                device=device,
                dtype=dtype,
                timeout_s=timeout_s,
                transport=transport,
                image_check=image_check,
                engine_args=read_engine_args(engine_args),
                cache=cache,
                on_loaded=_Remarks(messages, model).print,
                on_progress=_Bars(bars).move,
            )
    except KeyboardInterrupt:
        raise end_interrupted(f"what was answered is kept in {out}", "the same command resumes") from None
    by_benchmark = groupby(runs, lambda run: run.settings.benchmark)
    found = [list(own) for _, own in by_benchmark]
    tables = [tabulate_runs(own) if len(own) > 1 else tabulate_accuracy(own[0]) for own in found]
    if len(found) > 1:
        tables.append(tabulate_summaries(runs, names=[f"{run.settings.benchmark} {run.settings.mode}" for run in runs]))
    tables += filter(None, (tabulate_repeats(run) for run in runs))
    boxed = [run for run in runs if run.settings.scored_by == "box" and run.settings.mode in BOX_MODES]
    tables += [tabulate_first_boxes(run) for run in boxed]
    print_tables(tables, markdown=markdown)
    for run in runs:
        messages.print(f"all metrics: p2r score {run.folder}", markup=False, soft_wrap=True)
    failed = [run for run in runs if run.failures]
    for run in failed:
        print_error(
            f"{run.settings.benchmark} {run.settings.mode}: {explain_failures(run.failures, len(run.traces))}",
            "; ".join(filter(None, (find_hint(run.failures), "the same command asks only those again"))),
        )
    if failed:
        raise typer.Exit(1)


class _Bars:
    """A progress bar per run."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def move(self, prepared: Prepared, tally: Tally) -> None:
        name = f"{prepared.settings.benchmark} {prepared.settings.mode}"
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=None, accuracy="")
        if tally.num_kept and not tally.num_tried:
            kept = f"{tally.num_kept} of {tally.num_samples}"
            self._bars.console.print(f"{name}: resuming, {kept} are answered already", markup=False)
        accuracy = "" if tally.accuracy is None else f"{tally.accuracy:.1%} of {tally.num_judged}"
        failed = f", {tally.num_failed} failed" if tally.num_failed else ""
        self._bars.update(
            self._tasks[name], total=tally.num_samples, completed=tally.num_done, accuracy=accuracy + failed
        )


class _Remarks:
    """Says, when all is checked, which model is loaded now, and then what is notable about each benchmark."""

    def __init__(self, console: Console, model: str) -> None:
        self._console = console
        self._lines = [f"loading {mask_secrets(model)}"]

    def print(self, benchmark: Benchmark) -> None:
        self._lines += [f"{benchmark.name}: {remark}" for remark in (*benchmark.differences, *benchmark.notes)]
        self._lines += [f"{benchmark.name}: left out {bad.place}: {bad.reason}" for bad in benchmark.left_out]
        for line in self._lines:
            self._console.print(line, markup=False, soft_wrap=True)
        self._lines.clear()
