"""`p2r leakage`: is a benchmark in the training data?"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from p2r.benchmarks import Benchmark, load_benchmark
from p2r.cli.screen import count_progress, make_console, print_tables
from p2r.errors import P2RError
from p2r.evaluation.tables import Table
from p2r.files import explain_write_errors, replace_file
from p2r.leakage.find import LeakageReport, find_leakage, tabulate

FOUND = 3
"""Exit code when anything is shared; 1 is an error."""

MOST_SHOWN = 20

LEAKAGE_EXAMPLES = """
**Examples**

- `p2r leakage p2r10k:data/P2R-10k vstar:data/vstar_bench`

- `p2r leakage my_questions.jsonl data/hr_bench_8k.parquet --out leakage.json`
"""


def leakage(
    train: Annotated[str, typer.Argument(help="Training data: NAME:PATH, a path, or a known hub id.")],
    bench: Annotated[str, typer.Argument(help="The benchmark, given in the same way.")],
    train_split: Annotated[str | None, typer.Option(help="Split of TRAIN to load.", show_default=False)] = None,
    split: Annotated[str | None, typer.Option(help="Split of BENCH to load.", show_default=False)] = None,
    train_images: Annotated[Path | None, typer.Option(help="Folder that TRAIN's image paths start from.")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder that BENCH's image paths start from.")] = None,
    skip_bad: Annotated[int, typer.Option(min=0, help="Leave out at most so many unusable rows of each.")] = 0,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Images hashed at the same time. Default: one per core.", show_default=False),
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the whole report as JSON.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Write the whole report to this file, as JSON.", show_default=False)
    ] = None,
) -> None:
    """Find what TRAIN and BENCH share: the same images, look-alikes, crops, and questions.

    Exit code 0 when nothing is shared, 3 when something is, 1 on an error.
    """
    messages = make_console(stderr=True)
    # each image is opened once, below; the report lists those that do not open
    with _naming_train():
        first = load_benchmark(train, split=train_split, images=train_images, skip_bad=skip_bad, check_images=False)
    second = load_benchmark(bench, split=split, images=images, skip_bad=skip_bad, check_images=False)
    for loaded in (first, second):
        for remark in (*loaded.notes, *(f"left out {bad.place}: {bad.reason}" for bad in loaded.left_out)):
            messages.print(f"{loaded.name}: {remark}", markup=False, soft_wrap=True)
    with count_progress(messages, "images and questions") as on_done:
        report = find_leakage(
            first,
            second,
            names=(_name(train, first), _name(bench, second)),
            num_workers=workers or os.cpu_count() or 1,
            on_progress=on_done,
        )
    if out is not None:
        with explain_write_errors(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            replace_file(out, report.model_dump_json(indent=2) + "\n")
    if json_output:
        print(report.model_dump_json(indent=2))
    else:
        _show(report)
    if not report.is_clean:
        raise typer.Exit(FOUND)


@contextmanager
def _naming_train() -> Generator[None, None, None]:
    """Name the arguments of TRAIN in errors, where loading names those of a benchmark."""
    try:
        yield
    except P2RError as error:
        for name in ("split", "images"):
            error.message = error.message.replace(f"`{name}`", f"`train_{name}`")
            error.hint = error.hint.replace(f"`{name}`", f"`train_{name}`")
        raise


def _show(report: LeakageReport) -> None:
    tables = [tabulate(report)]
    if report.pairs:
        rest = len(report.pairs) - MOST_SHOWN
        rows = [(pair.kind, pair.train_id, pair.bench_id, f"{pair.score:g}") for pair in report.pairs[:MOST_SHOWN]]
        notes = (f"... and {rest} more: --json or --out FILE",) if rest > 0 else ()
        tables.append(Table(title="Pairs", columns=("kind", "train", "bench", "score"), rows=tuple(rows), notes=notes))
    if report.unread:
        unread = [(entry.side, entry.image, entry.reason) for entry in report.unread[:MOST_SHOWN]]
        tables.append(Table(title="Not compared", columns=("side", "image", "reason"), rows=tuple(unread)))
    print_tables(tables)


def _name(spec: str, benchmark: Benchmark) -> str:
    return benchmark.name if spec.partition(":")[0] == benchmark.name else f"{benchmark.name} ({Path(spec).name})"
