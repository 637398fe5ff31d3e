"""Tables, and how they are written: here as Markdown, LaTeX and JSON; the command prints them on a terminal.

The LaTeX needs only the package booktabs; every table is an environment of its own with a caption.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import JsonValue

from p2r.files import explain_write_errors, replace_file
from p2r.statistics import Interval
from p2r.types import Frozen

MISSING = "-"


class Table(Frozen):
    """A table whose cells are ready to print. The first column names the row.

    notes: sentences to print below: definitions, and limits of the numbers.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def write_markdown(tables: Sequence[Table]) -> str:
    """The tables one below the other, as GitHub renders them."""
    blocks: list[str] = []
    for table in tables:
        lines = [f"### {table.title}", ""]
        lines.append(_line(table.columns))
        lines.append("|" + "|".join(["---", *["---:"] * (len(table.columns) - 1)]) + "|")
        lines += [_line(row) for row in table.rows]
        lines += [f"\n{note}" for note in table.notes]
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def write_latex(tables: Sequence[Table]) -> str:
    """The tables one below the other, for papers."""
    blocks = ["% needs \\usepackage{booktabs}"]
    for table in tables:
        alignment = "".join("l" if is_text else "r" for is_text in find_text_columns(table))
        lines = [
            "\\begin{table}",
            "\\centering",
            f"\\caption{{{_escape_latex(table.title)}}}",
            f"\\begin{{tabular}}{{{alignment}}}",
            "\\toprule",
            _latex_line(table.columns),
            "\\midrule",
            *map(_latex_line, table.rows),
            "\\bottomrule",
            "\\end{tabular}",
            *(f"\\par\\smallskip\\footnotesize {_escape_latex(note)}" for note in table.notes),
            "\\end{table}",
        ]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def write_tables(
    folder: Path, name: str, tables: Sequence[Table], facts: Mapping[str, JsonValue] | None = None
) -> list[Path]:
    """Write NAME.md, NAME.tex and NAME.json into `folder`, which is made when missing.

    Args:
        facts: other keys of the JSON, beside "tables".

    Returns:
        The three paths.

    Raises:
        StorageError: a file cannot be written.
    """
    content = {**(facts or {}), "tables": [table.model_dump(mode="json") for table in tables]}
    texts = {
        ".md": write_markdown(tables),
        ".tex": write_latex(tables),
        ".json": json.dumps(content, indent=2, ensure_ascii=False) + "\n",
    }
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for suffix, text in texts.items():
            replace_file(folder / (name + suffix), text)
    return [folder / (name + suffix) for suffix in texts]


def find_text_columns(table: Table) -> list[bool]:
    """Tell for each column whether it holds words: the first does, and so does one with a cell of several words."""
    return [
        index == 0 or any(" " in row[index] and not row[index][:1].isdigit() for row in table.rows)
        for index in range(len(table.columns))
    ]


def show_share(share: float | None) -> str:
    return MISSING if share is None else f"{100 * share:.1f}%"


def show_interval(interval: Interval | None) -> str:
    return MISSING if interval is None else f"{100 * interval.low:.1f} - {100 * interval.high:.1f}%"


def show_number(value: float | None, digits: int = 2) -> str:
    return MISSING if value is None else f"{value:,.{digits}f}"


_LATEX = {
    "\\": "\\textbackslash{}", "&": "\\&", "%": "\\%", "$": "\\$", "#": "\\#", "_": "\\_", "{": "\\{", "}": "\\}",
    "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "\\textless{}", ">": "\\textgreater{}",
    "|": "\\textbar{}", '"': "''", "±": "\\ensuremath{\\pm}", "×": "\\ensuremath{\\times}",
}  # fmt: skip


def _escape_latex(text: str) -> str:
    escaped = re.sub(r"\s+", " ", "".join(_LATEX.get(sign, sign) for sign in text))
    return re.sub(r"^-(?=\d)", "$-$", escaped.replace(" - ", " -- "))


def _latex_line(cells: Sequence[str]) -> str:
    """A row. LaTeX would read a bracket at its beginning as an argument of the line break before it."""
    line = " & ".join(map(_escape_latex, cells))
    return ("{}" if line.startswith(("[", "*")) else "") + line + " \\\\"


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
