"""`p2r study`: claims, the arms that test them, and what came of it; resumable."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table as RichTable
from rich.text import Text

from p2r.cli.guard import Misuse, end_interrupted, print_error
from p2r.cli.screen import make_console, print_tables
from p2r.cli.train import repeat_changes
from p2r.errors import StorageError, count_nouns
from p2r.evaluation.tables import write_tables
from p2r.report.kit.page import write_page
from p2r.studies.joblist import list_jobs
from p2r.studies.jobs import let_go
from p2r.studies.listing import tabulate_study
from p2r.studies.measure import Reader
from p2r.studies.page import build_study_page, make_headline
from p2r.studies.plan import tabulate_plan
from p2r.studies.quick import make_quick
from p2r.studies.run import STUDY_FILE, JobState, count_by_status, log_of, run_study
from p2r.studies.study import Study, load_study
from p2r.studies.trial import make_trial
from p2r.studies.verdicts import judge_claims

PAGE_NAME, TABLES_NAME = "study.html", "tables"
MOST_LINES = 24

STUDY_EXAMPLES = """
**Examples**

- `p2r study recipes/study/paper_in_miniature.toml --quick` (a small version, in about 15 minutes)

- `p2r study recipes/study/paper_in_miniature.toml --jobs 2`

- `p2r study recipes/study/paper_in_miniature.toml --resume` (continues what was stopped, or does what was added)

- `p2r study recipes/study/paper_in_miniature.toml --plan --trial` (minutes of each arm, as measured here)

- `p2r study recipes/study/paper_4b.toml --plan --tflops 400 --rows 10000` (hours without a GPU, the data or the model)
"""


def study(
    path: Annotated[str, typer.Argument(metavar="STUDY", help="The TOML file of a study.")],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="A.B=C", help="Change a setting of the study. Repeatable.", show_default=False),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the study in its folder.")] = False,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Train and ask so many arms side by side.")] = 1,
    quick: Annotated[
        bool, typer.Option("--quick", help="Run the small version that the study describes, in a folder of its own.")
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print the jobs, and what each arm costs. Nothing is trained.")
    ] = False,
    trial: Annotated[
        bool,
        typer.Option(
            "--trial", help="With --plan: measure two steps of each kind of phase and a few questions on this machine."
        ),
    ] = False,
    tflops: Annotated[
        float | None,
        typer.Option(
            "--tflops",
            min=0.001,
            metavar="N",
            help="With --plan: estimate hours as if a GPU sustained N x 10^12 operations a second.",
            show_default=False,
        ),
    ] = None,
    rows: Annotated[
        int | None,
        typer.Option(
            "--rows",
            min=1,
            help="With --plan: assume so many rows where those of a recipe are not on this machine.",
            show_default=False,
        ),
    ] = None,
    page_only: Annotated[
        bool, typer.Option("--page-only", help="Write the page and the tables of what is there. Nothing is run.")
    ] = False,
) -> None:
    """Train and ask all arms of a study, and judge the claims that it states.

    Each job is a command of its own, whose output is in the folder logs/. The same command with --resume continues a
    study that was stopped, and runs only what is missing.
    """
    settings = load_study(path, changes or ())
    settings = make_quick(settings) if quick else settings
    _check_flags(plan=plan, trial=trial, tflops=tflops, rows=rows, page_only=page_only, resume=resume)
    if plan:
        _plan(settings, trial=trial, tflops=tflops, rows=rows)
        return
    if page_only and not (settings.out / STUDY_FILE).exists():
        raise StorageError(f"{settings.out} holds no study", hint="leave out `page_only` to run it")
    command = shlex.join(["p2r", "study", path, *repeat_changes(changes), *(["--quick"] * quick)])
    console = make_console(stderr=True)
    states: Sequence[JobState] = ()
    try:
        if not page_only:
            with _Board(console) as board:
                states = run_study(settings, resume=resume, num_jobs=jobs, on_change=board.show)
    except KeyboardInterrupt:
        raise end_interrupted(f"what is done is kept in {settings.out}", "continue it with `resume=True`") from None
    page = _write(settings, command, console)
    _tell_failed(settings, states)
    print(page)
    if any(state.status in ("failed", "blocked") for state in states):
        blocked = count_by_status(states).get("blocked", 0)
        waiting = (
            f"; {count_nouns(blocked, 'job that needs it was', 'jobs that need them were')} left" if blocked else ""
        )
        print_error(f"some jobs failed{waiting}", "mend the cause, and continue with `resume=True`")
        raise typer.Exit(1)


def _check_flags(
    *, plan: bool, trial: bool, tflops: float | None, rows: int | None, page_only: bool, resume: bool
) -> None:
    """Refuse flags that do not go together, which typer cannot see."""
    given = {"--trial": trial, "--tflops": tflops is not None, "--rows": rows is not None}
    for flag, is_given in given.items():
        if is_given and not plan:
            raise Misuse(f"{flag} says how to plan, and nothing is planned", hint="add `plan`")
    if tflops is not None and not math.isfinite(tflops):
        raise Misuse(
            f"--tflops is {tflops:g}: it must be finite", hint="a GPU sustains some hundreds, such as `tflops=400`"
        )
    if plan and (page_only or resume):
        flag = "--page-only" if page_only else "--resume"
        raise Misuse(f"--plan runs nothing, and {flag} has no use beside it", hint="leave out one of them")


def _plan(settings: Study, *, trial: bool, tflops: float | None, rows: int | None) -> None:
    """Print what a study would take, after a trial if one is asked for."""
    tried = make_trial(settings) if trial else None
    states: Sequence[JobState] = ()
    if tried is not None:
        try:
            with _Board(make_console(stderr=True)) as board:
                states = run_study(tried, resume=True, on_change=board.show)
        except KeyboardInterrupt:
            raise end_interrupted(f"what is done is kept in {tried.out}", "the same command continues it") from None
    print_tables(tabulate_plan(settings, rows=rows, tflops=tflops))
    if tried is not None:
        _tell_failed(tried, states)
    if any(state.status != "finished" for state in states):
        print_error("a part of the trial failed", "mend the cause; the same command does what is left")
        raise typer.Exit(1)


def _tell_failed(settings: Study, states: Sequence[JobState]) -> None:
    for state in states:
        if state.status == "failed":
            print_error(f"{state.job.name} failed: {state.reason}", f"see {log_of(settings.out, state.job)}")


def _write(settings: Study, command: str, console: Console) -> Path:
    """Write the page and the tables, and print the claims."""
    path = settings.out / PAGE_NAME
    with console.status("Reading the answers, and making the page and the tables"):
        reader = Reader(settings)
        judged = judge_claims(settings, reader)
        tables = tabulate_study(settings, reader, judged)
        looked = let_go([(job, job.look()) for job in list_jobs(settings)])
        headline = make_headline(settings, judged, f"{command} --page-only", [progress for _, progress in looked])
        write_page(path, build_study_page(settings, reader, judged, tables, headline, looked))
        write_tables(settings.out, TABLES_NAME, tables.list_all())
    print_tables(tables.claims)
    print(headline.lede)
    for problem in headline.problems:
        console.print(problem, markup=False, soft_wrap=True)
    console.print(f"all tables: {settings.out / TABLES_NAME}.md, .tex and .json", markup=False, soft_wrap=True)
    return path


class _Board:
    """A table of the jobs on a terminal; elsewhere a line when a job begins or ends."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._told: dict[str, str] = {}

    def __enter__(self) -> _Board:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def show(self, states: Sequence[JobState]) -> None:
        for state in states:
            before = self._told.get(state.job.name)
            if state.status != before:
                self._told[state.job.name] = state.status
                if before is not None or state.status in ("running", "failed"):
                    reason = f": {state.reason}" if state.status == "failed" and state.reason else ""
                    self._console.print(f"{state.job.name}: {state.status}{reason}", markup=False, soft_wrap=True)
        if self._console.is_terminal:
            self._live.update(_draw_board(states), refresh=True)


def _draw_board(states: Sequence[JobState]) -> RichTable:
    """Draw the number of jobs by status, those that run, and the next ones."""
    counts = ", ".join(f"{count} {status}" for status, count in count_by_status(states).items())
    table = RichTable(box=None, padding=(0, 1), title=Text(counts), title_justify="left", show_header=False)
    running = [state for state in states if state.status == "running"]
    others = [state for state in states if state.status in ("waiting", "failed", "blocked")]
    for state in [*running, *others][:MOST_LINES]:
        done = state.progress
        total = "" if done.total is None else f" of {done.total}"
        table.add_row(Text(state.job.name), Text(state.status), Text(f"{done.done}{total}" if done.done else ""))
    return table
