"""`p2r eval`: benchmarks in one or several modes, resumable; every trace is kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from p2r.benchmarks import Benchmark, load_benchmark
from p2r.cli.allocator import return_large_blocks, share_heaps
from p2r.cli.guard import INTERRUPTED, print_error
from p2r.cli.options import (
    DEFAULT_TIMEOUT_S,
    BoxSource,
    CacheFolder,
    Device,
    Dtype,
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
    PerceiverSpec,
    RunFolder,
    Seed,
    Shard,
    SharePerception,
    SkipBad,
    Split,
    TimeoutS,
    Wording,
)
from p2r.cli.screen import make_console, print_tables, progress
from p2r.errors import ConfigError
from p2r.evaluation.asking import Tally, explain_failures
from p2r.evaluation.choose import choose_samples
from p2r.evaluation.compare import tabulate_runs
from p2r.evaluation.evaluate import evaluate
from p2r.evaluation.prepare import NUM_NEEDLES
from p2r.evaluation.scorecard import tabulate_accuracy
from p2r.evaluation.scoring import ScoredRun
from p2r.models.load import load_model, runs_on_torch
from p2r.modes import LOOKING, Mode, read_mode
from p2r.prompts import load_prompt_set
from p2r.walks import MOST_IMAGE_BYTES

EVAL_EXAMPLES = """
**Examples**

- `p2r eval needles --limit 60` (made on the spot, with the small model that ships with p2r)

- `p2r eval needles --mode direct --mode p2r --mode oracle --out runs/nano`

- `p2r eval hrbench_4k:data/hr_bench_4k.parquet --model http://localhost:8000/v1#P2R-4B --num-at-once 32`

- `p2r eval vstar:data/vstar_bench --model hongxingli/P2R-4B --shard 1/4`, and then `p2r merge`
"""


def evaluate_benchmarks(
    benchmarks: Annotated[
        list[str], typer.Argument(metavar="BENCHMARK...", help="needles, NAME:PATH, a path, or a known hub id.")
    ],
    model: ModelSpec = "nano",
    perceiver_model: PerceiverSpec = None,
    judge_model: JudgeSpec = None,
    mode: Modes = None,
    prompts: Wording = "release",
    max_pixels: MaxPixels = None,
    limit: Limit = None,
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
) -> None:
    """Evaluate a model on benchmarks. The same command resumes a run that was stopped."""
    if runs_on_torch(model):
        share_heaps()
    else:
        return_large_blocks()
    messages = make_console(stderr=True)
    modes: list[Mode] = [read_mode(name) for name in dict.fromkeys(mode or ["p2r"])]
    data = partial(load_benchmark, split=split, seed=seed, skip_bad=skip_bad, boxes=boxes, images=images)
    loaded = [data(spec, num_samples=limit or NUM_NEEDLES) for spec in benchmarks]
    _check_names(loaded)
    for benchmark in loaded:
        _print_remarks(messages, benchmark)
    draw = partial(choose_samples, limit=limit, seed=seed, shard=shard)
    chosen = [sample for benchmark in loaded for one in modes for sample in draw(benchmark, one)]
    wording = load_prompt_set(prompts)
    messages.print(f"loading {model}", markup=False)
    load = partial(
        load_model,
        device=device,
        dtype=dtype,
        max_pixels=max_pixels,
        timeout_s=timeout_s,
        transport=transport,
        concurrency=num_at_once,
        cache=cache,
    )
    answerer = load(model)
    looker = load(perceiver_model) if perceiver_model and LOOKING & {*modes} else None
    is_judged = any(sample.answer_form == "free_form" for sample in chosen)
    judge = load(judge_model) if judge_model and is_judged else None
    ask = partial(
        evaluate,
        model=answerer,
        out=out,
        perceiver_model=looker,
        judge_model=judge,
        prompts=wording,
        limit=limit,
        seed=seed,
        shard=shard,
        share_perception=share_perception,
        max_error_rate=max_error_rate,
        num_at_once=num_at_once,
        most_image_bytes=round(image_memory_gb * 1e9),
    )
    runs: list[ScoredRun] = []
    try:
        with progress(messages, field="accuracy") as bars:
            for benchmark in loaded:
                runs += [ask(benchmark, mode=one, on_progress=_add_bar(bars, benchmark, one)) for one in modes]
    except KeyboardInterrupt:
        print_error(f"interrupted; what was answered is kept in {out}", "the same command resumes")
        raise typer.Exit(INTERRUPTED) from None
    by_benchmark = [[run for run in runs if run.settings.benchmark == benchmark.name] for benchmark in loaded]
    print_tables(
        [tabulate_runs(found) if len(found) > 1 else tabulate_accuracy(found[0]) for found in by_benchmark],
        markdown=markdown,
    )
    for run in runs:
        messages.print(f"all metrics: p2r score {run.folder}", markup=False, soft_wrap=True)
    failed = [run for run in runs if run.failures]
    for run in failed:
        print_error(
            f"{run.settings.benchmark} {run.settings.mode}: {explain_failures(run.failures, len(run.traces))}",
            "the same command asks only those again",
        )
    if failed:
        raise typer.Exit(1)


def _add_bar(bars: Progress, benchmark: Benchmark, mode: Mode) -> Callable[[Tally], None]:
    """Add the bar of one run, and return what moves it."""
    name = f"{benchmark.name} {mode}"
    task = bars.add_task(name, total=None, accuracy="")

    def move(tally: Tally) -> None:
        if tally.num_kept and not tally.num_tried:
            kept = f"{tally.num_kept} of {tally.num_samples}"
            bars.console.print(f"{name}: resuming, {kept} are answered already", markup=False)
        accuracy = "" if tally.accuracy is None else f"{tally.accuracy:.1%} of {tally.num_judged}"
        failed = f", {tally.num_failed} failed" if tally.num_failed else ""
        bars.update(task, total=tally.num_samples, completed=tally.num_done, accuracy=accuracy + failed)

    return move


def _check_names(benchmarks: list[Benchmark]) -> None:
    names = [benchmark.name for benchmark in benchmarks]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"{twice} is given twice", hint="evaluate each in a call of its own, with another --out")


def _print_remarks(console: Console, benchmark: Benchmark) -> None:
    for difference in benchmark.differences:
        console.print(f"{benchmark.name}: {difference}", markup=False, soft_wrap=True)
    for bad in benchmark.left_out:
        console.print(f"{benchmark.name}: left out {bad.place}: {bad.reason}", markup=False, soft_wrap=True)
