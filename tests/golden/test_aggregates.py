"""Tables agree with those of the public scripts, from the same answers."""

from __future__ import annotations

from typing import Any

import pytest

from p2r.answers import read_release
from p2r.evaluation.aggregate import Scored, aggregate_categories, make_release_table
from tests.golden.rows import read_rows

ROWS = read_rows("aggregates")


def score(sample: dict[str, Any]) -> float:
    answer = read_release(sample["processed_predicted_answer"] or "", tagged=False)
    return float(answer.letter == sample["ground_truth"])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_release_tables_agree(row: dict[str, Any]) -> None:
    scores = [score(sample) for sample in row["samples"]]
    assert scores == row["expected"]["per_sample_accuracy"]
    scored = [
        Scored(category=sample["question_type"], score=value, num_boxes=sample.get("bbox_count"))
        for sample, value in zip(row["samples"], scores, strict=True)
    ]
    assert make_release_table(scored) == row["expected"]["aggregate"]
    percents = {name: share.percent for name, share in aggregate_categories(scored).items()}
    assert percents == {name: cells["accuracy"] for name, cells in row["expected"]["aggregate"].items()}
