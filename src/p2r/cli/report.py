"""`p2r report`: runs and answered questions as one HTML page, and the tables of runs as files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from p2r.benchmarks import Benchmark, load_benchmark
from p2r.benchmarks.load import names_file
from p2r.cli.run_places import Unreadable, find_runs, name_folders, split_names
from p2r.cli.screen import count_progress, make_console
from p2r.config import DataSettings
from p2r.errors import ConfigError
from p2r.evaluation.scoring import ScoredRun, score_run
from p2r.evaluation.tables import Table, write_latex, write_markdown, write_tables
from p2r.report.asked.page import build_asked_report
from p2r.report.evaluation.gallery import MAX_CARDS
from p2r.report.evaluation.page import build_report, write_lede
from p2r.report.evaluation.paper_tables import lay_out
from p2r.report.evaluation.sections import Section, list_comparisons, list_tables, make_sections
from p2r.report.evaluation.systems import find_systems, needs_names
from p2r.report.kit.page import Headline, write_page
from p2r.report.training.groups import MAX_GROUPS
from p2r.report.training.page import build_training_report, list_training_facts, write_training_lede
from p2r.report.training.tables import list_training_tables, name_training_runs
from p2r.runs.asked import read_asked
from p2r.runs.evaluation import read_run
from p2r.runs.training import TrainingRun, read_training_run

IMAGES = "Where the images are"
TABLES_NAME = "tables"
PAGES = (EVALUATION, TRAINING, ASKED) = ("evaluation", "training", "asked")
PAGE_SUFFIXES = ("", ".html", ".htm")
TABLE_SUFFIXES = {".md": write_markdown, ".tex": write_latex}

REPORT_EXAMPLES = """
**Examples**

- `p2r report runs` (every run below this folder)

- `p2r report runs/vstar/direct runs/vstar/p2r --out vstar.html --tables paper/`

- `p2r report DeepEyes-7B=runs/deepeyes P2R-4B=runs/p2r --out table.tex` (these systems, as in the paper's tables)

- `p2r report runs/seed0 runs/seed1 runs/seed2` (training runs, drawn in the same charts)

- `p2r report runs/people` (questions that `p2r ask` answered)

- `p2r report runs/hrbench_4k --benchmark hrbench_4k:/data/hr_bench_4k.parquet` (the data have moved)
"""


def report(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Folders that `p2r eval`, `p2r train` or `p2r ask` wrote, or one above them. All evaluations are "
            "compared with the first. NAME=RUN names the system that was evaluated.",
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="File for the page: .html, or .md or .tex for the tables that compare runs.")
    ] = Path("report.html"),
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
    is_page = _check_suffix(out)
    places = split_names(runs)
    found = find_runs(list(places))
    given = name_folders(places, found)
    unreadable = Unreadable()
    scored = unreadable.read_each(found.evaluated, lambda folder: score_run(read_run(folder)))
    training = unreadable.read_each(found.trained, read_training_run)
    asked = unreadable.read_each(found.asked, read_asked)
    if not (scored or training or asked):
        raise unreadable.errors[0]
    if asked and not (scored or training or is_page):
        raise ConfigError(f"{out}: questions have a page, and no tables", hint="let `out` end in .html")
    problems = unreadable.describe()
    names = _name_pages(out, [name for name, any_of in zip(PAGES, (scored, training, asked), strict=True) if any_of])
    if scored:
        systems = find_systems(scored, given)
        names_of = {id(run): system.name for system in systems for run in system.runs.values()}
        sections = make_sections(
            scored,
            benchmarks=_load_benchmarks(benchmark or [], scored, split, images),
            primary=show,
            names=[names_of[id(run)] for run in scored] if given or needs_names(scored) else None,
        )
        compared = lay_out(systems)
        headline = replace(_make_headline(sections, title), problems=problems)
        if is_page:
            with count_progress(make_console(stderr=True), "images") as on_done:
                text = build_report(sections, headline, systems=compared, max_cards=max_cards, on_done=on_done)
        else:
            text = _write_tables(out, headline, [*compared, *(t for each in sections for t in list_comparisons(each))])
        missing = [section.problem for section in sections if section.problem and is_page]
        made = [*compared, *(table for each in sections for table in list_tables(each))]
        _write(names[EVALUATION], text, missing, tables, TABLES_NAME, made)
    if training:
        data = _move_rows(training, [] if scored else benchmark or [], split, images)
        headline = replace(_make_training_headline(training, title), problems=() if scored else problems)
        if is_page:
            with count_progress(make_console(stderr=True), "images") as on_done:
                text, missing = build_training_report(
                    training, headline, data=data, max_groups=min(max_cards, MAX_GROUPS), on_done=on_done
                )
        else:
            text, missing = _write_tables(out, headline, list_training_tables(training)), []
        _write(names[TRAINING], text, missing, tables, TRAINING, list_training_tables(training))
    if asked and is_page:
        with count_progress(make_console(stderr=True), "images") as on_done:
            html = build_asked_report(
                asked,
                title=title,
                problems=() if scored or training else problems,
                max_cards=max_cards,
                on_done=on_done,
            )
        _write(names[ASKED], html, [], None, ASKED, [])


def _check_suffix(out: Path) -> bool:
    """Tell whether a page is to be written; else tables are.

    Raises:
        ConfigError: the file's ending names neither.
    """
    if out.suffix not in (*PAGE_SUFFIXES, *TABLE_SUFFIXES):
        raise ConfigError(
            f"{out} ends in {out.suffix}, which is not a form of report",
            hint="let `out` end in .html for the page, or in .md or .tex for tables; a page is printed as a PDF",
        )
    return out.suffix in PAGE_SUFFIXES


def _write_tables(out: Path, headline: Headline, tables: Sequence[Table]) -> str:
    """The text of a file of tables, below the headline."""
    sentences = [headline.lede, *headline.problems]
    if out.suffix == ".md":
        return "\n\n".join([f"# {headline.title}", *filter(None, sentences), write_markdown(tables)])
    return "\n".join([*(f"% {text}" for text in (headline.title, *filter(None, sentences))), write_latex(tables)])


def _name_pages(out: Path, kinds: Sequence[str]) -> dict[str, Path]:
    """The page of each kind: the first has the name that was given, and the others say in theirs what they show."""
    return {
        kind: out if index == 0 else out.with_name(f"{out.stem}-{kind}{out.suffix}") for index, kind in enumerate(kinds)
    }


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
            split=split or (origin.split if origin and not names_file(spec) else None),
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
    kept = None if names_file(specs[0]) else before.split
    moved = {"source": specs[0], "split": split or kept, "images": images or before.images}
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
