"""`p2r report`: runs as one HTML file, and their tables as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from p2r.benchmarks import Benchmark, load_benchmark
from p2r.cli.output import make_console
from p2r.errors import ConfigError
from p2r.evaluation.scoring import ScoredRun, score_run
from p2r.evaluation.stored import read_run
from p2r.evaluation.tables import write_tables
from p2r.report.build import Story, build_report, write_lede
from p2r.report.chapters import Chapter, find_run_folders, list_tables, make_chapters
from p2r.report.gallery import MAX_CARDS
from p2r.report.page import write_page

PICTURES = "Where the pictures are"
TABLES_NAME = "tables"

REPORT_EXAMPLES = """
**Examples**

- `p2r report runs` (every run below that folder)

- `p2r report runs/vstar/direct runs/vstar/p2r --out vstar.html --tables paper/`

- `p2r report runs/hrbench_4k --benchmark hrbench_4k:/data/hr_bench_4k.parquet` (the data have moved)
"""


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...", help="Folders that `p2r eval` wrote, or one above them. The first is compared with."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The page.")] = Path("report.html"),
    tables: Annotated[
        Path | None, typer.Option(help="Folder for all tables as Markdown, LaTeX and JSON.", show_default=False)
    ] = None,
    title: Annotated[str | None, typer.Option(help="Headline.", show_default=False)] = None,
    show: Annotated[
        str | None,
        typer.Option(help="Name of the run whose boxes and crops come first. Default: p2r.", show_default=False),
    ] = None,
    max_cards: Annotated[int, typer.Option(min=0, help="Most questions with pictures; figures count all.")] = MAX_CARDS,
    benchmark: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME:PATH, when the data lie elsewhere now. Repeat it.", show_default=False, rich_help_panel=PICTURES
        ),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Which part.", show_default=False, rich_help_panel=PICTURES)] = None,
    images: Annotated[
        Path | None, typer.Option(help="MME-RealWorld: where image paths start.", rich_help_panel=PICTURES)
    ] = None,
) -> None:
    """Runs side by side as one HTML file that opens anywhere: figures, charts, and every question with its pictures."""
    messages = make_console(stderr=True)
    scored = [score_run(read_run(folder)) for folder in find_run_folders(runs)]
    found = _load_benchmarks(benchmark or [], scored, split, images)
    chapters = make_chapters(scored, benchmarks=found, primary=show)
    for chapter in chapters:
        if chapter.problem:
            messages.print(chapter.problem, markup=False, soft_wrap=True)
    with _make_progress(messages) as progress:
        task = progress.add_task("pictures", total=None)
        html = build_report(
            chapters,
            _make_story(chapters, title),
            max_cards=max_cards,
            on_card=lambda done, total: progress.update(task, completed=done, total=total),
        )
    write_page(out, html)
    print(out)
    if tables is not None:
        for path in write_tables(
            tables, TABLES_NAME, [table for chapter in chapters for table in list_tables(chapter)]
        ):
            print(path)


def _load_benchmarks(
    specs: Sequence[str], runs: Sequence[ScoredRun], split: str | None, images: Path | None
) -> dict[str, Benchmark]:
    """Benchmarks named by the caller, by name; otherwise as the runs say they were loaded."""
    names = {str(run.run.settings.get("benchmark")): run.run for run in runs}
    origins = {name: run.origin for name, run in names.items()}
    found: dict[str, Benchmark] = {}
    for spec in specs:
        origin = origins.get(spec.partition(":")[0])
        loaded = load_benchmark(
            spec,
            split=split or (origin.split if origin else None),
            seed=origin.seed if origin else 0,
            num_samples=origin.num_samples if origin else 0,
            skip_bad=origin.skip_bad if origin else 0,
            images=images,
            check_images=False,
        )
        if loaded.name not in names:
            raise ConfigError(
                f"{spec!r} is {loaded.name}, which none of these runs was asked", hint=f"runs of: {', '.join(names)}"
            )
        found[loaded.name] = loaded
    return found


def _make_story(chapters: Sequence[Chapter], title: str | None) -> Story:
    runs = [run.run for chapter in chapters for run in chapter.runs]
    days = sorted(session.started[:10] for run in runs for session in run.sessions)
    models = dict.fromkeys(str(run.settings.get("model")) for run in runs)
    facts = [
        ("Benchmarks", ", ".join(chapter.benchmark for chapter in chapters)),
        ("Models", ", ".join(models)),
        ("Runs", str(len(runs))),
        ("Answers", f"{sum(len(run.traces) for run in runs):,}"),
    ]
    prompts = dict.fromkeys(str(run.settings.get("prompts")) for run in runs if run.settings.get("prompts"))
    facts += [("Wording", ", ".join(prompts))] if prompts else []
    facts += [("Asked", days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}")] if days else []
    default = " and ".join(chapter.benchmark for chapter in chapters) if len(chapters) < 4 else "Evaluation"
    folders = " ".join(str(run.folder) for run in runs)
    return Story(
        title=title or default,
        lede=write_lede(chapters),
        facts=tuple(facts),
        footer=f"Made by `p2r report` from {folders}.",
    )


def _make_progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
