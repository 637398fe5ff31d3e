"""Tables agree with those of the public scripts, from the same answers."""

from __future__ import annotations

from typing import Any

import pytest

from p2r.answers import read_release
from p2r.evaluation.aggregate import Scored, aggregate, group_columns
from tests.golden.rows import read_rows

ROWS = read_rows("aggregates")

Row = dict[str, Any]


def score(sample: Row) -> float:
    answer = read_release(sample["processed_predicted_answer"] or "", tagged=False)
    return float(answer.letter == sample["ground_truth"])


def make_release_table(samples: list[Row]) -> dict[str, dict[str, float]]:
    """What the authors' release prints for V*, MME-RealWorld and each size of HR-Bench.

    "overall" and each category -> "accuracy" in per cent and, when any sample has boxes counted, "bbox_count", the mean
    over the samples that have; NaN in a category where none has.
    """
    if not samples:
        return {"overall": {"accuracy": 0.0}}
    counts_boxes = any(sample.get("bbox_count") is not None for sample in samples)
    names = sorted({sample["question_type"] for sample in samples})
    groups = {"overall": samples} | {name: [s for s in samples if s["question_type"] == name] for name in names}
    table: dict[str, dict[str, float]] = {}
    for name, group in groups.items():
        table[name] = {"accuracy": sum(map(score, group)) / len(group) * 100}
        if counts_boxes:
            counts = [sample["bbox_count"] for sample in group if sample.get("bbox_count") is not None]
            table[name]["bbox_count"] = sum(counts) / len(counts) if counts else float("nan")
    return table


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_release_tables_agree(row: Row) -> None:
    samples, expected = row["samples"], row["expected"]
    assert [score(sample) for sample in samples] == expected["per_sample_accuracy"]
    assert make_release_table(samples) == expected["aggregate"]
    columns = group_columns(samples, lambda sample: sample["question_type"], "categories")
    for name, column in columns.items():
        found = aggregate([Scored(score(sample)) for sample in column], "categories")
        accuracy = expected["aggregate"][name]["accuracy"]
        assert (found or 0.0) * 100 == pytest.approx(accuracy)
