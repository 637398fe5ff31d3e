"""`p2r score`, `p2r merge` and `p2r compare`: results of stored runs, without asking anything again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer
from pydantic import JsonValue

from p2r.answers import Scorer
from p2r.cli.screen import make_console, print_tables
from p2r.errors import ConfigError
from p2r.evaluation.compare import compare_runs, name_runs, tabulate_contrasts, tabulate_runs
from p2r.evaluation.repeats import list_repeats
from p2r.evaluation.scorecard import find_disagreements, make_scorecard
from p2r.evaluation.scoring import score_run
from p2r.evaluation.tables import write_tables
from p2r.runs.evaluation import read_run
from p2r.runs.merge import merge_runs

SCORES_NAME = "scores"


def score(
    run: Annotated[Path, typer.Argument(help="Folder that `p2r eval` or `p2r merge` wrote.")],
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
) -> None:
    """Score a run from its stored replies: every scorer, rotations, boxes, what went wrong, and cost.

    Writes scores.md, scores.tex and scores.json into the run's folder.
    """
    scored = score_run(read_run(run))
    tables = make_scorecard(scored)
    facts = {"run": scored.settings.model_dump(mode="json"), "disagreements": find_disagreements(scored)}
    write_tables(run, SCORES_NAME, tables, cast("dict[str, JsonValue]", facts))
    print_tables(tables, markdown=markdown)


def merge(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="Folders of the shards.")],
    out: Annotated[Path, typer.Option(help="Write the whole run into this new folder.")],
) -> None:
    """Join the shards of one run in a new folder."""
    if len(runs) < 2:
        raise ConfigError("one run cannot be merged", hint="give two or more: `p2r merge RUN RUN --out WHOLE`")
    messages = make_console(stderr=True)
    for note in merge_runs([read_run(folder) for folder in runs], out):
        messages.print(note, markup=False, soft_wrap=True)
    print(out)


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN RUN...", help="Folders of runs. The others are compared with the first."),
    ],
    scorer: Annotated[Scorer, typer.Option(help="Read the answers with this scorer.")] = "robust",
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
) -> None:
    """Compare runs on the same samples, with exact tests and a verdict in words."""
    if len(runs) < 2:
        raise ConfigError("one run cannot be compared", hint="give two or more: `p2r compare RUN RUN`")
    scored = [score_run(read_run(folder)) for folder in runs]
    lacking = next((run for run in scored if scorer not in (*run.scorers, *run.peers)), None)
    if lacking is not None:
        raise ConfigError(
            f"the scorer {scorer!r} does not apply to {lacking.folder}",
            hint=f"use {' or '.join((*lacking.scorers, *lacking.peers))}",
        )
    names = name_runs(scored)
    contrasts, notes = compare_runs(scored, scorer=scorer, names=names)
    repeats = [table for run, name in zip(scored, names, strict=True) for table in list_repeats(run, name)]
    tables = [tabulate_runs(scored, scorer=scorer, names=names), *repeats, tabulate_contrasts(contrasts, notes)]
    print_tables(tables, markdown=markdown)
    print()
    for contrast in contrasts:
        print(f"{contrast.second} against {contrast.first}, {contrast.column}: {contrast.verdict}")
