"""`p2r check`: is a benchmark fit to be run?"""

from __future__ import annotations

from typing import Annotated

import typer

from p2r.benchmarks import check_benchmark, load_benchmark
from p2r.cli.guard import print_error
from p2r.cli.options import BoxSource, ImageFolder, SkipBad, Split
from p2r.cli.screen import count_progress, make_console
from p2r.errors import count_nouns

MOST_SHOWN = 20


def check(
    benchmark: Annotated[
        str, typer.Argument(help="needles, needles:NAME=VALUE,..., NAME:PATH, a path, or a known hub id.")
    ],
    split: Split = None,
    boxes: BoxSource = None,
    images: ImageFolder = None,
    skip_bad: SkipBad = 0,
    decode_images: Annotated[bool, typer.Option(help="Decode every image in full.")] = True,
) -> None:
    """Prove that a benchmark is fit to be run: every right answer scores 1.0, every rotation is complete.

    Exit code 1 when something is wrong. Counts that differ from the published ones are reported and stop nothing.
    """
    messages = make_console(stderr=True)
    loaded = load_benchmark(benchmark, split=split, boxes=boxes, images=images, skip_bad=skip_bad)
    with count_progress(messages, loaded.name) as on_done:
        report = check_benchmark(
            loaded, decode_images=decode_images, on_progress=lambda done: on_done(done, len(loaded))
        )
    console = make_console()

    def say(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    say(f"{report.name}: {count_nouns(report.num_samples, 'sample')} from {loaded.source}")
    for category, count in loaded.categories.items():
        if category:
            say(f"  {category}: {count}")
    say(f"right answers that score 1.0: {report.num_answers}")
    say(f"boxes that come back as they were: {report.num_boxes}")
    say(f"images decoded: {report.num_images}")
    if report.num_with_key_words:
        say(f"with key words: {report.num_with_key_words}")
    if report.num_unjudged:
        say(f"without a right answer: {report.num_unjudged}")
    for name, sentences in (("differs", report.differences), ("note", loaded.notes), ("left out", report.left_out)):
        for sentence in sentences:
            say(f"{name}: {sentence}")
    say("not checked: whether prompts are too long for a model; `p2r train RECIPE --plan` names such rows")
    if report.passed:
        say("fit to be run")
        return
    for problem in report.problems[:MOST_SHOWN]:
        say(f"problem: {problem}")
    if len(report.problems) > MOST_SHOWN:
        say(f"... and {len(report.problems) - MOST_SHOWN} more")
    print_error(f"{loaded.source} is not fit to be run: {count_nouns(len(report.problems), 'problem')}")
    raise typer.Exit(1)
