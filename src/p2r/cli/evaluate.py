"""`p2r eval`: benchmarks in one or several modes, resumable; every trace is kept."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from p2r.benchmarks import Benchmark, load_benchmark
from p2r.cli.allocator import return_large_blocks, share_heaps
from p2r.cli.guard import INTERRUPTED, print_error
from p2r.cli.jobs import Job, run_jobs
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
from p2r.dialogue import Model
from p2r.errors import ConfigError
from p2r.evaluation.evaluate import draw_limit, take_shard
from p2r.evaluation.scorecard import make_scorecard
from p2r.evaluation.scoring import score_run
from p2r.models.load import load_model, runs_on_torch
from p2r.modes import LOOKING, MODES, PERCEIVING, Mode, Roles, make_roles, prepare_samples, read_mode
from p2r.prompts import load_prompt_set
from p2r.roles import hash_roles
from p2r.runs.evaluation import read_run
from p2r.runs.origin import make_origin
from p2r.runs.store import Setting
from p2r.types import Sample
from p2r.walks import MOST_IMAGE_BYTES, Sharing, share_perception_of

DATA, RUN = "The benchmark", "The run"
WHOLE_NEEDLES = 400

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
            help="Judges free answers that are not in the target's words.", show_default=False, rich_help_panel=MODEL
        ),
    ] = None,
    mode: Annotated[
        list[str] | None, typer.Option(help=f"Repeat it. One of {', '.join(MODES)}. Default: p2r.", show_default=False)
    ] = None,
    prompts: Wording = "release",
    max_pixels: MaxPixels = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="At most so many samples, drawn by --seed.", show_default=False, rich_help_panel=DATA),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Of needles, --limit, random boxes and orders of options.", rich_help_panel=DATA)
    ] = 0,
    split: Annotated[str | None, typer.Option(help="Which part.", show_default=False, rich_help_panel=DATA)] = None,
    boxes: Annotated[
        Path | None, typer.Option(help="V*: the original release, for its boxes.", rich_help_panel=DATA)
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="MME-RealWorld: where image paths start.", rich_help_panel=DATA)
    ] = None,
    skip_bad: Annotated[
        int, typer.Option(min=0, help="Most unusable rows that are left out.", rich_help_panel=DATA)
    ] = 0,
    out: Annotated[Path, typer.Option(help="Runs go to OUT/BENCHMARK/MODE.", rich_help_panel=RUN)] = Path("runs"),
    shard: Annotated[
        str | None, typer.Option(help="i/n: only the i-th of n parts.", show_default=False, rich_help_panel=RUN)
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            help="Folder of replies that are not asked for again, shared by runs.",
            show_default=False,
            rich_help_panel=RUN,
        ),
    ] = None,
    share_perception: Annotated[
        Sharing, typer.Option(help="Which samples are looked at once for all of them.", rich_help_panel=RUN)
    ] = "same-prompt",
    max_error_rate: Annotated[
        float, typer.Option(min=0, max=1, help="Stop when a larger share of answers fails.", rich_help_panel=RUN)
    ] = 0.1,
    num_at_once: Annotated[int, typer.Option(min=1, help="Most samples in flight.", rich_help_panel=RUN)] = 16,
    image_memory_gb: Annotated[
        float, typer.Option(min=0, help="With less, fewer large images are in flight.", rich_help_panel=RUN)
    ] = MOST_IMAGE_BYTES / 1e9,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.", rich_help_panel=RUN)] = False,
    device: Device = None,
    dtype: Dtype = None,
    timeout_s: TimeoutS = DEFAULT_TIMEOUT_S,
    transport: ImageTransport = "auto",
) -> None:
    """Evaluate a model on benchmarks. The same command goes on where it was stopped."""
    if runs_on_torch(model):
        share_heaps()
    else:
        return_large_blocks()
    messages = make_console(stderr=True)
    modes: list[Mode] = [read_mode(name) for name in dict.fromkeys(mode or ["p2r"])]
    loaded = [
        load_benchmark(
            spec,
            split=split,
            seed=seed,
            num_samples=limit or WHOLE_NEEDLES,
            skip_bad=skip_bad,
            boxes=boxes,
            images=images,
        )
        for spec in benchmarks
    ]
    _check(loaded, modes)
    for benchmark in loaded:
        _print_remarks(messages, benchmark)
    chosen = [(benchmark, _choose(benchmark, limit, seed, shard)) for benchmark in loaded]
    prepared: list[tuple[Benchmark, Mode, list[Sample]]] = [
        (benchmark, one, prepare_samples(one, samples, seed)) for benchmark, samples in chosen for one in modes
    ]
    wording = load_prompt_set(prompts)

    def load(spec: str) -> Model:
        return load_model(
            spec,
            device=device,
            dtype=dtype,
            max_pixels=max_pixels,
            timeout_s=timeout_s,
            transport=transport,
            concurrency=num_at_once,
            cache=cache,
        )

    messages.print(f"loading {model}", markup=False)
    answerer = load(model)
    looker = load(perceiver_model) if perceiver_model and LOOKING & {*modes} else None
    judged = {benchmark.name for benchmark, samples in chosen if any(s.answer_form == "free_form" for s in samples)}
    judge = load(judge_model) if judge_model and judged else None
    origins = {
        benchmark.name: make_origin(
            spec,
            split=split,
            boxes=boxes,
            images=images,
            seed=seed,
            num_samples=limit or WHOLE_NEEDLES,
            skip_bad=skip_bad,
            budget=answerer.profile.budget,
        )
        for benchmark, spec in zip(loaded, benchmarks, strict=True)
    }
    jobs: list[Job] = []
    for benchmark, one, samples in prepared:
        perceiver, reasoner = make_roles(one, answerer, wording, perceiver_model=looker, seed=seed)
        roles = Roles(share_perception_of(perceiver, share_perception, samples), reasoner)
        settings: dict[str, Setting] = {
            "benchmark": benchmark.name,
            "benchmark_fingerprint": benchmark.fingerprint,
            "scored_by": benchmark.scored_by,
            "letters": benchmark.facts.letters,
            "mode": one,
            "model": model,
            "perceiver_model": perceiver_model if one in LOOKING else None,
            "prompts": prompts,
            "judge_model": judge_model if benchmark.name in judged else None,
            "prompt_fingerprint": wording.fingerprint,
            "roles": hash_roles(*roles),
            "max_pixels": max_pixels,
            "dtype": dtype,
            "limit": limit,
            "seed": seed,
            "shard": shard,
            "share_perception": share_perception if roles.perceiver.fingerprint != perceiver.fingerprint else None,
        }
        folder = out / benchmark.name / (one + (f".{shard.replace('/', '-of-')}" if shard else ""))
        jobs.append(
            Job(f"{benchmark.name} {one}", folder, benchmark, samples, roles, settings, origins[benchmark.name])
        )
    try:
        tallies = asyncio.run(
            run_jobs(jobs, messages, judge, wording, num_at_once, round(image_memory_gb * 1e9), max_error_rate)
        )
    except KeyboardInterrupt:
        print_error(f"interrupted; what was answered is kept in {out}", "the same command goes on from there")
        raise typer.Exit(INTERRUPTED) from None
    tables = [table for job in jobs for table in make_scorecard(score_run(read_run(job.folder)))[:1]]
    print_tables(tables, markdown=markdown)
    for job in jobs:
        messages.print(f"all figures: p2r score {job.folder}", markup=False, soft_wrap=True)
    failed = [(job, tally) for job, tally in zip(jobs, tallies, strict=True) if tally.num_failed]
    for job, tally in failed:
        print_error(f"{job.name}: {tally.explain()}", "the same command asks only those again")
    if failed:
        raise typer.Exit(1)


def _check(loaded: list[Benchmark], modes: list[Mode]) -> None:
    names = [benchmark.name for benchmark in loaded]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"{twice} is given twice", hint="evaluate each in a call of its own, with another --out")
    for benchmark in loaded:
        blind = [mode for mode in modes if mode not in PERCEIVING]
        if benchmark.scored_by == "box" and blind:
            raise ConfigError(
                f"{benchmark.name} is scored by the perceiver's boxes, and the mode {blind[0]!r} has none",
                hint="use --mode p2r, or oracle and random as references",
            )


def _choose(benchmark: Benchmark, limit: int | None, seed: int, shard: str | None) -> list[Sample]:
    samples = list(benchmark)
    if limit is not None and limit < len(samples):
        samples = draw_limit(samples, limit, seed)
        if not samples:
            raise ConfigError(
                f"--limit {limit} is less than one question of {benchmark.name} with all its rotations",
                hint=f"give a larger --limit; {benchmark.name} has {len(benchmark)} samples",
            )
    if shard is not None:
        samples = take_shard(samples, shard)
        if not samples:
            raise ConfigError(f"the shard {shard} of {benchmark.name} is empty", hint="make fewer shards")
    return samples


def _print_remarks(console: Console, benchmark: Benchmark) -> None:
    for difference in benchmark.differences:
        console.print(f"{benchmark.name}: {difference}", markup=False, soft_wrap=True)
    for bad in benchmark.left_out:
        console.print(f"{benchmark.name}: left out {bad.place}: {bad.reason}", markup=False, soft_wrap=True)
