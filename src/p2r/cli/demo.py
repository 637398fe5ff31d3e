"""`p2r demo`: the same small model looks once, at random places, where it wants to, and where the evidence is."""

from __future__ import annotations

import os
import platform
import shlex
import time
from collections.abc import Mapping, Sequence
from datetime import date
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, TaskID

from p2r.benchmarks import Benchmark, Facts
from p2r.benchmarks.needles import TRAINING_SEEDS, Needles
from p2r.boxes import localize
from p2r.cli.guard import print_error
from p2r.cli.options import EngineArgs, read_engine_args
from p2r.cli.screen import make_console, print_summaries, progress
from p2r.dialogue import Model
from p2r.errors import count_nouns, mask_secrets
from p2r.evaluation.asking import Tally
from p2r.evaluation.evaluate import evaluate
from p2r.evaluation.metrics import Summary, summarize
from p2r.evaluation.scoring import ScoredRun
from p2r.evaluation.tables import show_share
from p2r.files import check_folder, explain_write_errors
from p2r.models.load import load_model
from p2r.modes import Mode
from p2r.report.evaluation.page import build_report
from p2r.report.evaluation.sections import Section
from p2r.report.kit.page import Headline, write_page
from p2r.report.kit.trace_view import find_strange_labels
from p2r.types import Sample

NUM_AT_ONCE = 16
TITLE = "One look, or two?"
REPORT_FILE, IMAGE_FILE = "report.html", "image.png"
DIRECT, OWN, ORACLE = "direct", "p2r", "oracle"
MODES: Sequence[Mode] = (DIRECT, "random", OWN, ORACLE)
MAX_CARDS = 120
PLAIN = "plain"
"""The pattern of an object that has none, which looks the same in one look and in two."""


def demo(
    num_samples: Annotated[int, typer.Option(min=1, help="Ask this many questions.")] = 240,
    seed: Annotated[
        int, typer.Option(min=0, max=TRAINING_SEEDS - 1, help="Make other images and questions with another seed.")
    ] = 0,
    out: Annotated[Path, typer.Option(help="Write the report and an image to try into this folder.")] = Path(
        "out/demo"
    ),
    model: Annotated[str, typer.Option(help="Ask another model, named as in `p2r ask`.")] = "nano",
    engine_args: EngineArgs = None,
) -> None:
    """Watch a small vision-language model fail with one look and answer with two. Writes one HTML file.

    Questions are about *needles*: cluttered images made on the spot, in which small objects carry a pattern that is
    too fine for the model's pixel budget and readable in a crop. Every question is asked four ways, which differ only
    in where the boxes come from.

    **Examples**

    - `p2r demo`

    - `p2r demo --num-samples 30 --seed 7 --out out/seven`
    """
    start = time.perf_counter()
    messages = make_console(stderr=True)
    check_folder(out)
    samples = Needles(seed=seed, num_samples=num_samples)
    messages.print(f"loading {mask_secrets(model)}", markup=False)
    answerer = load_model(model, engine_args=read_engine_args(engine_args))
    with progress(messages) as bars:
        runs = _ask_in_every_mode(answerer, samples, seed, bars)
    console = make_console()
    print_summaries(console, [(mode, summarize(run)) for mode, run in runs.items()])
    section = Section(
        benchmark="needles",
        runs=tuple(runs.values()),
        names=tuple(runs),
        primary=list(runs).index(OWN),
        images={sample.id: sample.image for sample in samples},
        budget=answerer.profile.budget,
    )
    asked = f" --model {mask_secrets(model)}" if model != "nano" else ""
    command = f"p2r demo --num-samples {num_samples} --seed {seed}{asked}"
    headline = Headline(
        title=TITLE,
        lede=_write_lede(summarize(runs[OWN]), summarize(runs[DIRECT])),
        facts=_list_facts(answerer, samples, seed),
        footer=f"Made by `{command}` in {time.perf_counter() - start:.0f} seconds on {date.today().isoformat()}.",
        row_name="Mode",
    )
    example, is_telling = _find_example(samples, runs)
    page = build_report([section], headline, example=example.id if is_telling else None, max_cards=MAX_CARDS)
    write_page(out / REPORT_FILE, page)
    with explain_write_errors(out):
        example.image.load().save(out / IMAGE_FILE)
    console.print(f"\nreport: {out / REPORT_FILE}", markup=False, soft_wrap=True)
    console.print(f"try:    {_write_ask_command(example, out / IMAGE_FILE)}", markup=False, soft_wrap=True)
    failures = [failure for run in runs.values() for failure in run.failures]
    if failures:
        print_error(
            f"{count_nouns(len(failures), 'answer')} failed, the first because {failures[0].message}", failures[0].hint
        )
        raise typer.Exit(1)


def _ask_in_every_mode(model: Model, samples: Needles, seed: int, bars: Progress) -> dict[Mode, ScoredRun]:
    """One mode after the other, so that each has the machine to itself; after a few untimed questions to warm up."""
    facts = Facts("needles", len(samples))
    evaluate(Benchmark(samples[:NUM_AT_ONCE], facts), model, mode="direct", max_error_rate=1.0)
    runs: dict[Mode, ScoredRun] = {}
    for mode in MODES:
        advance = partial(_show_progress, bars, bars.add_task(mode, total=len(samples)))
        runs[mode] = evaluate(
            Benchmark(samples, facts),
            model,
            mode=mode,
            seed=seed,
            num_at_once=NUM_AT_ONCE,
            max_error_rate=1.0,
            on_progress=advance,
        )
    return runs


def _show_progress(bars: Progress, task: TaskID, tally: Tally) -> None:
    bars.update(task, completed=tally.num_done)


def _write_lede(own: Summary, direct: Summary) -> str:
    """The result in words."""
    if own.accuracy is None or direct.accuracy is None:
        return "No question could be judged; the cards below say why."
    chance = f" Blind guessing reaches {show_share(own.chance)}." if own.chance is not None else ""
    return (
        f"Asked with one look at the whole image, the model answers {show_share(direct.accuracy)} of "
        f"{count_nouns(direct.num_judged, 'question')} correctly. When it first says where to look and then reads what "
        f"it boxed at full resolution, it gets {show_share(own.accuracy)} right.{chance}"
    )


def _find_example(samples: Sequence[Sample], runs: Mapping[Mode, ScoredRun]) -> tuple[Sample, bool]:
    """The question that shows best what the second look changes, and whether it turned wrong into right.

    Best: an open question about two patterns that can be seen in the crops (an object without one looks the same in
    both looks), which the oracle has right as well, with boxes on the evidence, and with objects that the labels and
    the reply name. The first question where none is answered by the second look alone.
    """
    best, best_rank = samples[0], (False,) * 7
    for sample, direct, own, oracle in zip(samples, runs[DIRECT].rows, runs[OWN].rows, runs[ORACLE].rows, strict=True):
        before, after, known = (row.verdicts.get("robust") for row in (direct, own, oracle))
        fit, labels = localize(own.trace.boxes, sample.gold_boxes), {box.label for box in own.trace.boxes}
        reply = own.trace.reasoning.text if own.trace.reasoning else ""
        rank = (
            before is not None and after is not None and after.correct > before.correct,
            not sample.options,
            PLAIN not in (sample.target or "") and PLAIN not in sample.question,
            bool(known and known.correct),
            not find_strange_labels(own.trace) and len(labels) == len(own.trace.boxes),
            all(label in reply for label in labels),
            fit.hit_all and len(sample.gold_boxes) == 2,
            fit.mean_iou_of_gold,
        )
        if rank > best_rank:
            best, best_rank = sample, rank
    return best, best_rank[0]


def _write_ask_command(sample: Sample, image: Path) -> str:
    """The command that asks this question again."""
    options = ["--options", ",".join(sample.options)] if sample.options else []
    return shlex.join(["p2r", "ask", str(image), sample.question, *options])


def _list_facts(model: Model, samples: Needles, seed: int) -> tuple[tuple[str, str], ...]:
    """List what was measured, and on which machine."""
    budget, side_px = model.profile.budget, samples.knobs.side_px
    versions = [f"Python {platform.python_version()}"]
    versions += [f"{name} {version(name)}" for name in ("torch", "transformers") if find_spec(name)]
    return (
        ("Model", model.name),
        ("Questions", f"{count_nouns(len(samples), 'needle')}, seed {seed}"),
        ("Images", f"{side_px:,} × {side_px:,} pixels"),
        ("Budget", f"{budget.max_pixels:,} pixels: {budget.max_pixels // budget.factor**2:,} visual tokens an image"),
        ("Machine", f"{os.cpu_count()} cores, {platform.machine()}"),
        ("Versions", ", ".join(versions)),
    )
