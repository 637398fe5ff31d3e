"""The screen: consoles, progress bars, tables and traces. Colored on a terminal, plain when piped."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table as RichTable
from rich.text import Text

from p2r.evaluation.metrics import Summary
from p2r.evaluation.tables import (
    MISSING,
    Table,
    find_text_columns,
    show_interval,
    show_number,
    show_share,
    write_markdown,
)
from p2r.modes import CAPTIONS, Mode
from p2r.report.trace import list_lines
from p2r.types import Trace

TRACE_STYLES: Mapping[str, str] = {"answer": "bold", "reply": "dim"}


def make_console(*, stderr: bool = False) -> Console:
    """A console that never colors numbers on its own, and does not wrap when piped."""
    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, soft_wrap=True, width=120)


def progress(console: Console, *, field: str = "", is_shown: bool = True) -> Progress:
    """Progress bars, shown only if `console` is a terminal. What is printed to a terminal meanwhile stays above them.

    Args:
        field: name of a task field whose text is shown beside the bar.
        is_shown: False to hide the bars on a terminal as well.
    """
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *([TextColumn(f"{{task.fields[{field}]}}")] if field else []),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        redirect_stdout=sys.stdout.isatty(),
        disable=not (is_shown and console.is_terminal),
    )


@contextmanager
def count_progress(console: Console, name: str) -> Generator[Callable[[int, int], None], None, None]:
    """One progress bar. Yields a function to be called with how much of how much is done."""
    with progress(console) as bars:
        task = bars.add_task(name, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def print_trace(console: Console, trace: Trace) -> None:
    """The answer, where it was found, what it cost, and the reply that it was read from."""
    grid = RichTable.grid(padding=(0, 2))
    grid.add_column(style="cyan", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in list_lines(trace):
        if name != "question":
            grid.add_row(name, Text(text, style=TRACE_STYLES.get(name.partition(" ")[0], "")))
    _print_trimmed(console, grid)


def print_tables(tables: Sequence[Table], *, markdown: bool = False) -> None:
    """Print tables to stdout, as Markdown if asked to."""
    if markdown:
        print(write_markdown(list(tables)), end="")
        return
    console = make_console()
    for number, table in enumerate(tables):
        if number:
            console.print()
        _print_table(console, table)


def print_summaries(console: Console, runs: Sequence[tuple[Mode, Summary]]) -> None:
    """Print a row per mode, narrow enough for 80 columns, and what the modes are."""
    table = RichTable(box=None, padding=(0, 1), collapse_padding=True, header_style="bold")
    table.add_column("mode", no_wrap=True)
    for name in ("n", "chance", "accuracy", "95% interval", "hit rate", "IoU", "boxes", "s/sample"):
        table.add_column(name, justify="right", no_wrap=True)
    for mode, summary in runs:
        speed = summary.samples_per_second
        table.add_row(
            mode,
            str(summary.num_judged),
            show_share(summary.chance),
            Text(show_share(summary.accuracy), style="bold"),
            show_interval(summary.interval) if summary.num_judged else MISSING,
            show_share(summary.hit_rate),
            show_number(summary.mean_iou),
            show_number(summary.mean_boxes),
            show_number(1 / speed if speed else None),
        )
    _print_trimmed(console, table)
    for mode, _ in runs:
        console.print(Text(f" {mode}: {CAPTIONS[mode]}", style="dim"))


def _print_table(console: Console, table: Table) -> None:
    console.print(Text(table.title, style="bold"))
    shown = RichTable(box=None, padding=(0, 1), collapse_padding=True, header_style="cyan")
    for column, is_text in zip(table.columns, find_text_columns(table), strict=True):
        shown.add_column(column, justify="left" if is_text else "right", overflow="fold")
    for row in table.rows:
        shown.add_row(*(Text(cell) for cell in row))
    _print_trimmed(console, shown)
    for note in table.notes:
        console.print(Text(note, style="dim"))


def _print_trimmed(console: Console, table: RichTable) -> None:
    """Print a table; piped, without the blanks at the ends of its lines that make it a rectangle."""
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as captured:
        console.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()), file=console.file)
