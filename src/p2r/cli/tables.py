"""Tables on a terminal, or as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from p2r.cli.output import make_console
from p2r.evaluation.tables import Table, find_text_columns, write_markdown


def print_tables(tables: Sequence[Table], *, markdown: bool = False) -> None:
    """Print to stdout."""
    if markdown:
        print(write_markdown(list(tables)), end="")
        return
    console = make_console()
    for number, table in enumerate(tables):
        if number:
            console.print()
        _print(console, table)


def _print(console: Console, table: Table) -> None:
    console.print(Text(table.title, style="bold"))
    shown = RichTable(box=None, padding=(0, 1), collapse_padding=True, header_style="cyan")
    for column, is_text in zip(table.columns, find_text_columns(table), strict=True):
        shown.add_column(column, justify="left" if is_text else "right", overflow="fold")
    for row in table.rows:
        shown.add_row(*(Text(cell) for cell in row))
    console.print(shown)
    for note in table.notes:
        console.print(Text(note, style="dim"))
