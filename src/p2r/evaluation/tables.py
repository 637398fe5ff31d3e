"""Tables of figures, and how they are written: as Markdown here, on a terminal by the command."""

from __future__ import annotations

from p2r.evaluation.statistics import Interval
from p2r.types import Frozen

MISSING = "-"


class Table(Frozen):
    """Cells are texts, ready to print; the first column names the row, the others are numbers.

    notes: sentences below: definitions, and what limits the figures.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def write_markdown(tables: list[Table]) -> str:
    """Tables one below the other, as GitHub shows them."""
    blocks: list[str] = []
    for table in tables:
        lines = [f"### {table.title}", ""]
        lines.append(_line(table.columns))
        lines.append("|" + "|".join(["---", *["---:"] * (len(table.columns) - 1)]) + "|")
        lines += [_line(row) for row in table.rows]
        lines += [f"\n{note}" for note in table.notes]
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def show_share(share: float | None) -> str:
    return MISSING if share is None else f"{100 * share:.1f}%"


def show_interval(interval: Interval | None) -> str:
    return MISSING if interval is None else f"{100 * interval.low:.1f} - {100 * interval.high:.1f}%"


def show_number(value: float | None, digits: int = 2) -> str:
    return MISSING if value is None else f"{value:,.{digits}f}"


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
