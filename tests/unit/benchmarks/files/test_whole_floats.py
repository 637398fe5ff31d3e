"""Whole numbers that pandas wrote as floats become whole again only where that is certain."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2r.benchmarks.files.table_file import read_table
from tests.fakes.benchmark_files import write_parquet

NAN = float("nan")
CASES = {
    "one cell is empty": ({"A": [1, 2], "C": [1.0, NAN]}, {"A": ["1", "2"], "C": ["1", ""]}),
    "no cell is empty": ({"C": [1.0, 2.0]}, {"C": ["1.0", "2.0"]}),
    "a fraction": ({"C": [0.5, 2.0, NAN]}, {"C": ["0.5", "2.0", ""]}),
    "another option has decimals": ({"A": ["1.0", "2.0"], "C": [3.0, NAN]}, {"A": ["1.0", "2.0"], "C": ["3.0", ""]}),
    "another option has a fraction": ({"A": [0.5, NAN], "C": [3.0, NAN]}, {"A": ["0.5", ""], "C": ["3.0", ""]}),
    "other columns do not matter": ({"x": [0.5, 1.5], "C": [3.0, NAN]}, {"x": ["0.5", "1.5"], "C": ["3", ""]}),
    "a target": ({"target": [-3.0, NAN, 10.0]}, {"target": ["-3", "", "10"]}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_floats_become_whole_where_that_is_certain(tmp_path: Path, kind: str, case: str) -> None:
    columns, expected = CASES[case]
    length = len(next(iter(columns.values())))
    rows = [{"id": k} | {name: values[k] for name, values in columns.items()} for k in range(length)]
    path = tmp_path / f"t.{kind}"
    if kind == "csv":
        lines = [",".join("" if value != value else str(value) for value in row.values()) for row in rows]
        path.write_text("\n".join([",".join(rows[0]), *lines]))
    else:
        write_parquet(path, rows)
    read = read_table(path).rows
    found = {name: ["" if not row.has(name) else str(row.values[name]) for row in read] for name in columns}
    assert found == expected
