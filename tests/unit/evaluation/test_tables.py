"""Tables as Markdown, LaTeX and JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p2r.errors import StorageError
from p2r.evaluation.tables import Table, find_text_columns, write_latex, write_markdown, write_tables

TABLE = Table(
    title="Accuracy: P2R_4B & more",
    columns=("", "n", "accuracy", "95% interval"),
    rows=(("single | FSP", "400", "92.3%", "88.7 - 96.0%"), ("[all] #1", "800", "-1.5", "-")),
    notes=('Intervals are "Wilson" at 5%.',),
)


def test_latex_escapes_what_it_would_read_as_a_command() -> None:
    text = write_latex([TABLE])
    assert r"\caption{Accuracy: P2R\_4B \& more}" in text
    assert r"single \textbar{} FSP & 400 & 92.3\% & 88.7 -- 96.0\% \\" in text
    assert "Intervals are ''Wilson'' at 5\\%." in text


def test_latex_keeps_a_bracket_after_a_line_break_from_being_an_argument() -> None:
    assert r"{}[all] \#1 & 800 & $-$1.5 & - \\" in write_latex([TABLE])


def test_latex_aligns_words_left_and_numbers_right() -> None:
    assert find_text_columns(TABLE) == [True, False, False, False]
    assert r"\begin{tabular}{lrrr}" in write_latex([TABLE])
    source = "needles:side_px=768,num_objects=2-3"
    assert find_text_columns(Table(title="t", columns=("", "source"), rows=(("a", source),))) == [True, True]
    assert find_text_columns(Table(title="t", columns=("", "gain"), rows=(("a", "-1.5 [-3.0, +0.1]"),))) == [
        True,
        False,
    ]


def test_every_environment_that_is_opened_is_closed() -> None:
    text = write_latex([TABLE, TABLE])
    for name in ("table", "tabular"):
        assert text.count(f"\\begin{{{name}}}") == text.count(f"\\end{{{name}}}") == 2
    assert text.count("\\toprule") == text.count("\\midrule") == text.count("\\bottomrule") == 2


@pytest.mark.parametrize("sign", list("\\{}$&#_%^~<>|"))
def test_no_special_sign_stays_bare(sign: str) -> None:
    table = Table(title="t", columns=("x",), rows=((f"a{sign}b",),))
    cell = write_latex([table]).split("\\midrule\n")[1].split(" \\\\")[0]
    assert cell.startswith("a\\") and cell.endswith("b") and len(cell) > 3


def test_files_of_all_three_kinds_hold_the_same_tables(tmp_path: Path) -> None:
    paths = write_tables(tmp_path / "new", "tables", [TABLE], {"run": {"mode": "p2r"}})
    assert [path.name for path in paths] == ["tables.md", "tables.tex", "tables.json"]
    assert paths[0].read_text() == write_markdown([TABLE])
    content = json.loads(paths[2].read_text())
    assert content["run"] == {"mode": "p2r"}
    assert Table.model_validate(content["tables"][0]) == TABLE


def test_a_folder_that_cannot_be_made_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        write_tables(tmp_path / "taken" / "below", "tables", [TABLE])


def test_a_name_is_no_markup() -> None:
    table = Table(title="t", columns=("run", "x"), rows=(("*a* <b>`", "1"),), kinds=(("published", "best"),))
    assert r"| *\*a\* \<b>\`* | **1** |" in write_markdown([table])
