"""The hint about columns that no layout has."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2r.benchmarks.row_layouts.load import unknown_layout


@pytest.mark.parametrize(
    ("columns", "is_for_ask"),
    [
        ({"image", "question", "options"}, True),
        ({"image", "question", "target"}, True),
        ({"image", "question", "answer", "x"}, False),
        ({"image", "text"}, False),
    ],
)
def test_questions_without_a_column_of_answers_are_sent_to_the_command_that_reads_them(
    columns: set[str], is_for_ask: bool
) -> None:
    assert ("p2r ask" in unknown_layout(Path("q.csv"), frozenset(columns)).hint) is is_for_ask
