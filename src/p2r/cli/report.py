"""`p2r report`: runs as one HTML page, and their tables as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from p2r.benchmarks import Benchmark, load_benchmark
from p2r.cli.screen import count_progress, make_console
from p2r.config import DataSettings
from p2r.errors import ConfigError
from p2r.evaluation.scoring import ScoredRun, score_run
from p2r.evaluation.tables import Table, write_tables
from p2r.report.evaluation.gallery import MAX_CARDS
from p2r.report.evaluation.page import build_report, write_lede
from p2r.report.evaluation.sections import Section, find_run_folders, list_run_folders, list_tables, make_sections
from p2r.report.kit.page import Headline, write_page
from p2r.report.training.groups import MAX_GROUPS
from p2r.report.training.page import build_training_report, list_training_facts, write_training_lede
from p2r.report.training.tables import list_training_tables, name_training_runs
from p2r.runs.evaluation import read_run
from p2r.runs.training import TrainingRun, find_training_folders, read_training_run

IMAGES = "Where the images are"
TABLES_NAME, TRAINING_NAME = "tables", "training"

REPORT_EXAMPLES = """
**Examples**

- `p2r report runs` (every run below this folder)

- `p2r report runs/vstar/direct runs/vstar/p2r --out vstar.html --tables paper/`

- `p2r report runs/seed0 runs/seed1 runs/seed2` (training runs, drawn in the same charts)

- `p2r report runs/hrbench_4k --benchmark hrbench_4k:/data/hr_bench_4k.parquet` (the data have moved)
"""


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Folders that `p2r eval` or `p2r train` wrote, or one above them. All are compared with the first.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="File for the page.")] = Path("report.html"),
    tables: Annotated[
        Path | None, typer.Option(help="Folder for all tables, as Markdown, LaTeX and JSON.", show_default=False)
    ] = None,
    title: Annotated[str | None, typer.Option(help="Headline of the page.", show_default=False)] = None,
    show: Annotated[
        str | None,
        typer.Option(help="Name of the run whose boxes and crops are shown first. Default: p2r.", show_default=False),
    ] = None,
    max_cards: Annotated[
        int, typer.Option(min=0, help="Most questions shown with images. Metrics count all questions.")
    ] = MAX_CARDS,
    benchmark: Annotated[
        list[str] | None,
        typer.Option(
            help="Where the data are now, as NAME:PATH. Repeat it for several benchmarks.",
            show_default=False,
            rich_help_panel=IMAGES,
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split of the data to load.", show_default=False, rich_help_panel=IMAGES)
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Folder that MME-RealWorld's image paths start from.", rich_help_panel=IMAGES),
    ] = None,
) -> None:
    """Show runs side by side in one HTML page: metrics, charts, and every question with its images."""
    messages = make_console(stderr=True)
    evaluated, trained = _find_runs(runs)
    if evaluated:
        scored = [score_run(read_run(folder)) for folder in evaluated]
        sections = make_sections(
            scored, benchmarks=_load_benchmarks(benchmark or [], scored, split, images), primary=show
        )
        problems = [section.problem for section in sections if section.problem]
        with count_progress(messages, "images") as on_done:
            html = build_report(sections, _make_headline(sections, title), max_cards=max_cards, on_done=on_done)
        _write(out, html, problems, tables, TABLES_NAME, [table for each in sections for table in list_tables(each)])
    if trained:
        training = [read_training_run(folder) for folder in trained]
        data = _move_rows(training, [] if evaluated else benchmark or [], split, images)
        headline = _make_training_headline(training, title)
        with count_progress(messages, "images") as on_done:
            html, problems = build_training_report(
                training, headline, data=data, max_groups=min(max_cards, MAX_GROUPS), on_done=on_done
            )
        page = out.with_name(f"{out.stem}-{TRAINING_NAME}{out.suffix}") if evaluated else out
        _write(page, html, problems, tables, TRAINING_NAME, list_training_tables(training))


def _find_runs(places: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Folders of evaluation runs, and of training runs. Raises StorageError for a place that holds neither."""
    below = {place: find_training_folders(place) for place in places}
    others = [place for place in places if list_run_folders(place) or not below[place]]
    trained = [folder for found in below.values() for folder in found]
    return find_run_folders(others), list(dict.fromkeys(trained))


def _write(
    page: Path, html: str, problems: Sequence[str], folder: Path | None, name: str, tables: Sequence[Table]
) -> None:
    """Write the page and its tables, and print what is wrong with its images."""
    messages = make_console(stderr=True)
    for problem in problems:
        messages.print(problem, markup=False, soft_wrap=True)
    write_page(page, html)
    print(page)
    if folder is not None:
        for path in write_tables(folder, name, tables):
            print(path)


def _load_benchmarks(
    specs: Sequence[str], runs: Sequence[ScoredRun], split: str | None, images: Path | None
) -> dict[str, Benchmark]:
    """The benchmarks that the caller gives, by name. What they leave open is loaded as the runs say."""
    names = {run.settings.benchmark: run for run in runs}
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
                f"{spec!r} is {loaded.name}, which none of these runs was asked",
                hint=f"these are runs of {', '.join(names)}",
            )
        found[loaded.name] = loaded
    return found


def _move_rows(
    runs: Sequence[TrainingRun], specs: Sequence[str], split: str | None, images: Path | None
) -> DataSettings | None:
    """Return where the rows of all runs are now; None for where their recipes say."""
    if not specs:
        return None
    if len(specs) > 1:
        raise ConfigError(
            f"{', '.join(specs)}: a training run takes its rows from one place", hint="give `benchmark` once"
        )
    before = runs[0].recipe.data
    moved = {"source": specs[0], "split": split or before.split, "images": images or before.images}
    return before.model_copy(update=moved)


def _make_training_headline(runs: Sequence[TrainingRun], title: str | None) -> Headline:
    return Headline(
        title=title or f"Training: {', '.join(name_training_runs(runs)) if len(runs) < 4 else f'{len(runs)} runs'}",
        lede=write_training_lede(runs),
        facts=list_training_facts(runs),
        footer=f"Made by `p2r report` from {' '.join(str(run.folder) for run in runs)}.",
    )


def _make_headline(sections: Sequence[Section], title: str | None) -> Headline:
    runs = [run for section in sections for run in section.runs]
    days = sorted(session.started[:10] for run in runs for session in run.sessions)
    models = dict.fromkeys(run.settings.model for run in runs)
    facts = [
        ("Benchmarks", ", ".join(section.benchmark for section in sections)),
        ("Models", ", ".join(models)),
        ("Runs", str(len(runs))),
        ("Answers", f"{sum(len(run.traces) for run in runs):,}"),
    ]
    prompts = dict.fromkeys(run.settings.prompts for run in runs if run.settings.prompts)
    facts += [("Wording", ", ".join(prompts))] if prompts else []
    facts += [("Asked", days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}")] if days else []
    default = " and ".join(section.benchmark for section in sections) if len(sections) < 4 else "Evaluation"
    folders = " ".join(str(run.folder) for run in runs)
    return Headline(
        title=title or default,
        lede=write_lede(sections),
        facts=tuple(facts),
        footer=f"Made by `p2r report` from {folders}.",
    )
