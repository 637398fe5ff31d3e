"""Choices written in V*'s three layouts come back as they were, through the product's own loader."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from p2r.benchmarks import load_benchmark
from p2r.benchmarks.needles import Needles
from p2r.benchmarks.needles.knobs import Knobs
from p2r.benchmarks.options import join_question
from p2r.benchmarks.vstar_write import write_vstar, write_vstar_lmms, write_vstar_tsv
from p2r.errors import DataError
from p2r.images.load import read_size
from p2r.types import LETTERS, Box, Sample

NEEDLES = list(Needles(seed=9, num_samples=6, knobs=Knobs(forms=("choice",))))


def right_option(sample: Sample) -> str:
    return sample.options[LETTERS.index(sample.target or "")]


def check_same(found: list[Sample], written: list[Sample], *, same_order: bool = True) -> None:
    assert len(found) == len(written)
    for one, other in zip(found, written, strict=True):
        assert one.question == join_question(other.question.partition("\n(A)")[0], one.options)
        assert (one.options, one.target) == (other.options, other.target) or not same_order
        assert sorted(one.options) == sorted(other.options) and right_option(one) == right_option(other)
        assert read_size(one.image) == read_size(other.image)
        assert one.answer_form == "choice"


def close(boxes: tuple[Box, ...], others: tuple[Box, ...], size: tuple[int, int]) -> bool:
    corners = zip((b.to_pixels(*size) for b in boxes), (b.to_pixels(*size) for b in others), strict=True)
    labels = [b.label for b in boxes] == [b.label for b in others]
    return labels and all(abs(p - q) <= 1 for pair in corners for p, q in zip(*pair, strict=True))


def test_the_original_layout_comes_back_with_its_boxes(tmp_path: Path) -> None:
    assert write_vstar(NEEDLES, tmp_path) == 6
    found = {sample.id: sample for sample in load_benchmark(f"vstar:{tmp_path}")}
    ordered = [
        found[f"{'relative_position' if s.category == 'relation' else 'direct_attributes'}/sa_{k}"]
        for k, s in enumerate(NEEDLES)
    ]
    check_same(ordered, NEEDLES, same_order=False)
    for one, other in zip(ordered, NEEDLES, strict=True):
        assert close(one.gold_boxes, other.gold_boxes, read_size(other.image))


def test_the_original_states_the_right_option_first_and_the_list_keeps_the_order(tmp_path: Path) -> None:
    write_vstar(NEEDLES, tmp_path)
    listed = [json.loads(line) for line in (tmp_path / "test_questions.jsonl").read_text("utf-8").splitlines()]
    for row, sample in zip(listed, NEEDLES, strict=True):
        stored = json.loads((tmp_path / row["image"]).with_suffix(".json").read_text("utf-8"))
        assert stored["options"][0] == right_option(sample) and row["label"] == sample.target
        lines = row["text"].split("\n")
        assert lines[0] == sample.question
        assert lines[1] == f"(A) {sample.options[0]}"
        assert lines[-1] == "Answer with the option's letter from the given choices directly."
    assert [row["question_id"] for row in listed] == ["0", "1", "2", "3", "4", "5"]


@pytest.mark.parametrize(
    ("write", "name"), [(write_vstar_lmms, "test-00000-of-00001.parquet"), (write_vstar_tsv, "VStarBench.tsv")]
)
def test_the_tables_come_back_in_their_order(
    write: Callable[[list[Sample], Path], int], name: str, tmp_path: Path
) -> None:
    assert write(NEEDLES, tmp_path / "new" / name) == 6
    found = list(load_benchmark(f"vstar:{tmp_path / 'new' / name}"))
    check_same(found, NEEDLES)
    assert [sample.id for sample in found] == ["0", "1", "2", "3", "4", "5"]
    assert {sample.category for sample in found} == {"direct_attributes", "relative_position"}


def test_boxes_join_the_table_that_was_written_beside_them(tmp_path: Path) -> None:
    write_vstar(NEEDLES, tmp_path / "original")
    write_vstar_lmms(NEEDLES, tmp_path / "t.parquet")
    found = load_benchmark(f"vstar:{tmp_path / 't.parquet'}", boxes=tmp_path / "original")
    for one, other in zip(found, NEEDLES, strict=True):
        assert close(one.gold_boxes, other.gold_boxes, read_size(other.image))


def test_what_was_read_from_one_layout_is_written_in_another(tmp_path: Path) -> None:
    write_vstar(NEEDLES, tmp_path / "original")
    read = list(load_benchmark(f"vstar:{tmp_path / 'original'}", seed=3))
    write_vstar_tsv(read, tmp_path / "t.tsv")
    check_same(list(load_benchmark(f"vstar:{tmp_path / 't.tsv'}")), read)


def test_fewer_options_leave_cells_empty(tmp_path: Path) -> None:
    assert {len(sample.options) for sample in NEEDLES} == {2, 4}
    write_vstar_tsv(NEEDLES, tmp_path / "t.tsv")
    assert (tmp_path / "t.tsv").read_text("utf-8").split("\n")[0].split("\t")[3:7] == list("ABCD")


@pytest.mark.parametrize("change", [{"answer_form": "free_form", "options": ()}, {"target": None}])
def test_a_sample_that_is_no_choice_is_refused(change: dict[str, object], tmp_path: Path) -> None:
    sample = replace(NEEDLES[0], **change)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="is not a choice with a right option"):
        write_vstar([sample], tmp_path)


def test_options_that_are_stated_in_another_way_are_refused(tmp_path: Path) -> None:
    sample = replace(NEEDLES[0], question="What?\nA. red\nB. blue", options_in_question=True)
    with pytest.raises(DataError, match="states its options in another way"):
        write_vstar_tsv([sample], tmp_path / "t.tsv")
