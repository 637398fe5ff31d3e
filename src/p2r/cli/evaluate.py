"""`p2r eval`: benchmarks in one or several modes, resumable; every trace is kept."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from p2r.benchmarks import Benchmark, load_benchmark
from p2r.cli.allocator import return_large_blocks, share_heaps
from p2r.cli.guard import INTERRUPTED, print_error
from p2r.cli.options import (
    DEFAULT_TIMEOUT_S,
    MODEL,
    Device,
    Dtype,
    ImageTransport,
    MaxPixels,
    ModelSpec,
    PerceiverSpec,
    TimeoutS,
    Wording,
)
from p2r.cli.screen import make_console, print_tables
from p2r.errors import ConfigError
from p2r.evaluation.asking import Tally, explain_failures
from p2r.evaluation.choose import choose_samples
from p2r.evaluation.compare import tabulate_runs
from p2r.evaluation.evaluate import evaluate
from p2r.evaluation.prepare import NUM_NEEDLES
from p2r.evaluation.scorecard import tabulate_accuracy
from p2r.evaluation.scoring import ScoredRun
from p2r.models.load import load_model, runs_on_torch
from p2r.modes import LOOKING, MODES, Mode, read_mode
from p2r.prompts import load_prompt_set
from p2r.walks import MOST_IMAGE_BYTES, Sharing

DATA, RUN = "The benchmark", "The run"

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
    judge_model: Annotated[
        str | None,
        typer.Option(
            help="Model that judges free answers whose words are not the target's.",
            show_default=False,
            rich_help_panel=MODEL,
        ),
    ] = None,
    mode: Annotated[
        list[str] | None,
        typer.Option(help=f"One of {', '.join(MODES)}; repeat it for several. Default: p2r.", show_default=False),
    ] = None,
    prompts: Wording = "release",
    max_pixels: MaxPixels = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, help="Ask at most this many samples, drawn by --seed.", show_default=False, rich_help_panel=DATA
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(min=0, help="Seed for needles, --limit, random boxes and option orders.", rich_help_panel=DATA),
    ] = 0,
    split: Annotated[
        str | None,
        typer.Option(
            help="Name of the part to load, where a benchmark has several.", show_default=False, rich_help_panel=DATA
        ),
    ] = None,
    boxes: Annotated[
        Path | None, typer.Option(help="V*: folder of the original release, for its boxes.", rich_help_panel=DATA)
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="MME-RealWorld: folder that image paths start from.", rich_help_panel=DATA)
    ] = None,
    skip_bad: Annotated[
        int, typer.Option(min=0, help="Leave out up to this many unusable rows.", rich_help_panel=DATA)
    ] = 0,
    out: Annotated[Path, typer.Option(help="Folder for runs, each in OUT/BENCHMARK/MODE.", rich_help_panel=RUN)] = Path(
        "runs"
    ),
    shard: Annotated[
        str | None,
        typer.Option(help="Ask only the i-th of n parts, written i/n.", show_default=False, rich_help_panel=RUN),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            help="Folder of replies, shared by runs: what it holds is not asked again.",
            show_default=False,
            rich_help_panel=RUN,
        ),
    ] = None,
    share_perception: Annotated[
        Sharing, typer.Option(help="Samples that share one look.", rich_help_panel=RUN)
    ] = "same-prompt",
    max_error_rate: Annotated[
        float, typer.Option(min=0, max=1, help="Stop when more than this share of answers fails.", rich_help_panel=RUN)
    ] = 0.1,
    num_at_once: Annotated[
        int, typer.Option(min=1, help="Ask up to this many samples at once.", rich_help_panel=RUN)
    ] = 16,
    image_memory_gb: Annotated[
        float,
        typer.Option(min=0, help="Memory for images; less keeps fewer large images in flight.", rich_help_panel=RUN),
    ] = MOST_IMAGE_BYTES / 1e9,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.", rich_help_panel=RUN)] = False,
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
    runs: list[ScoredRun] = []
    try:
        with _make_progress(messages) as progress:
            for benchmark in loaded:
                for one in modes:
                    run = evaluate(
                        benchmark,
                        answerer,
                        mode=one,
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
                        on_progress=_Bar(progress, f"{benchmark.name} {one}"),
                    )
                    runs.append(run)
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


class _Bar:
    """A bar of one run, with the accuracy so far."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress, self._name = progress, name
        self._task = progress.add_task(name, total=None, accuracy="")

    def __call__(self, tally: Tally) -> None:
        if tally.num_kept and not tally.num_tried:
            kept = f"{tally.num_kept} of {tally.num_samples}"
            self._progress.console.print(f"{self._name}: resuming, {kept} are answered already", markup=False)
        accuracy = "" if tally.accuracy is None else f"{tally.accuracy:.1%} of {tally.num_judged}"
        failed = f", {tally.num_failed} failed" if tally.num_failed else ""
        self._progress.update(self._task, total=tally.num_samples, completed=tally.num_done, accuracy=accuracy + failed)


def _make_progress(console: Console) -> Progress:
    """Bars on stderr with the accuracy so far and the time left."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[accuracy]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


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
