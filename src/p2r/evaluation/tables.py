"""Tables, and how they are written: here as Markdown, LaTeX and JSON; the command prints them on a terminal.

The LaTeX needs only the package booktabs; every table is an environment of its own with a caption. One with names above
its columns spans both columns of a page.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import JsonValue

from p2r.files import explain_write_errors, replace_file
from p2r.statistics import Interval
from p2r.types import Frozen

MISSING = "-"
LONGEST_NUMBER = 24
"""Letters of a cell that is taken for a number, although it does not begin with a digit."""
CellKind = Literal["", "best", "published"]


class Table(Frozen):
    """A table whose cells are ready to print. The first column names the row.

    A cell may have several lines. The first is its value, and the others say more about it.

    notes: sentences to print below: definitions, and limits of the numbers.
    above: what stands above the columns after the first, as (name, number of columns); () for nothing.
    headings: what stands above a row, by the row's index.
    kinds: of each cell; () where all are plain. The best value is bold, and a published one is in italics.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    above: tuple[tuple[str, int], ...] = ()
    headings: Mapping[int, str] = {}
    kinds: tuple[tuple[CellKind, ...], ...] = ()

    def kind(self, row: int, column: int) -> CellKind:
        """Return what a cell is."""
        return self.kinds[row][column] if self.kinds else ""

    @property
    def full_columns(self) -> tuple[str, ...]:
        """The columns with what stands above them, for where that has no line of its own."""
        names = [name for name, num in self.above for _ in range(num)]
        return (self.columns[0], *map(_join, names, self.columns[1:])) if names else self.columns


def write_markdown(tables: Sequence[Table]) -> str:
    """The tables one below the other, as GitHub renders them."""
    blocks: list[str] = []
    for table in tables:
        lines = [f"### {table.title}", ""]
        lines.append(_line(table.full_columns))
        lines.append("|" + "|".join(["---", *["---:"] * (len(table.columns) - 1)]) + "|")
        for index, row in enumerate(table.rows):
            if index in table.headings:
                lines.append(_line((f"**{table.headings[index]}**", *[""] * (len(row) - 1))))
            lines.append(_line([_mark_cell(cell, table.kind(index, k)) for k, cell in enumerate(row)]))
        lines += [f"\n{note}" for note in table.notes]
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def write_latex(tables: Sequence[Table]) -> str:
    """The tables one below the other, for papers."""
    blocks = ["% needs \\usepackage{booktabs}"]
    for table in tables:
        alignment = "".join("l" if is_text else "r" for is_text in find_text_columns(table))
        name = "table*" if table.above else "table"
        lines = [
            f"\\begin{{{name}}}",
            "\\centering",
            *(["\\footnotesize", "\\setlength{\\tabcolsep}{3pt}"] if table.above else []),
            f"\\caption{{{_escape_latex(table.title)}}}",
            f"\\begin{{tabular}}{{{alignment}}}",
            "\\toprule",
            *_latex_above(table),
            _latex_line(map(_latex_cell, table.columns)),
            "\\midrule",
            *_latex_rows(table),
            "\\bottomrule",
            "\\end{tabular}",
            *(f"\\par\\smallskip\\footnotesize {_escape_latex(note)}" for note in table.notes),
            f"\\end{{{name}}}",
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
    """Tell for each column whether it holds words: the first does, and any with a cell of several or long ones."""
    return [index == 0 or any(_is_text(row[index]) for row in table.rows) for index in range(len(table.columns))]


def _is_text(cell: str) -> bool:
    is_number = cell.lstrip("+-")[:1].isdigit()
    return (" " in cell or len(cell) > LONGEST_NUMBER) and not is_number


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


def _latex_above(table: Table) -> list[str]:
    """Return the line above the columns, with a rule below each of its names."""
    cells, rules, start = [""], list[str](), 2
    for name, num in table.above:
        cells.append(f"\\multicolumn{{{num}}}{{c}}{{{_escape_latex(name)}}}")
        rules += [f"\\cmidrule(lr){{{start}-{start + num - 1}}}"] if name else []
        start += num
    return [_latex_line(cells), "".join(rules)] if table.above else []


def _latex_rows(table: Table) -> list[str]:
    lines: list[str] = []
    for index, row in enumerate(table.rows):
        if index in table.headings:
            lines += ["\\midrule"] if index else []
            lines.append(f"\\multicolumn{{{len(row)}}}{{l}}{{\\textbf{{{_escape_latex(table.headings[index])}}}}} \\\\")
        lines.append(_latex_line(_latex_cell(cell, table.kind(index, k), k) for k, cell in enumerate(row)))
    return lines


def _latex_cell(cell: str, kind: CellKind = "", column: int = 1) -> str:
    """A cell. LaTeX would read a bracket at the beginning of a row as an argument of the line break before it."""
    first, *others = map(_escape_latex, cell.split("\n"))
    value = {"": first, "best": f"\\textbf{{{first}}}", "published": f"\\textit{{{first}}}"}[kind]
    if others:
        more = "".join(f"\\\\{{\\tiny {line}}}" for line in others)
        return f"\\shortstack[{'r' if column else 'l'}]{{{value}{more}}}"
    return ("{}" if value.startswith(("[", "*")) else "") + value


def _latex_line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + " \\\\"


def _mark_cell(cell: str, kind: CellKind) -> str:
    """A cell of Markdown, with its value marked. Names that somebody gave are not read as marks."""
    first, *others = re.sub(r"[<*`]", r"\\\g<0>", cell).split("\n")
    sign = {"": "", "best": "**", "published": "*"}[kind] if first != MISSING else ""
    return "<br>".join([f"{sign}{first}{sign}", *others])


def _join(above: str, column: str) -> str:
    return f"{above} {column}".strip()


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
