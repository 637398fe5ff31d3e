"""Rows of public reports, which were read wrongly or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p2r.benchmarks import check_benchmark, load_benchmark
from tests.fakes.benchmark_files import make_bytes, write_parquet

BLOCK = "<image>What colour is the block?\n(A) red\n(B) blue\n(C) green"
TOOLS = "Think first, call **image_zoom_in_tool** if needed, then answer. Format strictly as: <think>...</think>"


def load_raw(folder: Path, *pairs: tuple[str, str]) -> list[tuple[str, str | None]]:
    (folder / "a.jpg").write_bytes(make_bytes(1))
    rows = [
        {"images": ["a.jpg"], "problem": problem, "solution": solution, "doc_id": k}
        for k, (problem, solution) in enumerate(pairs)
    ]
    (folder / "raw.json").write_text(json.dumps(rows))
    benchmark = load_benchmark(folder / "raw.json")
    assert check_benchmark(benchmark).passed and not benchmark.differences
    return [(sample.answer_form, sample.target) for sample in benchmark]


def test_six_ways_to_say_a_are_choices(tmp_path: Path) -> None:
    solutions = ["A. red", "(A) red", "red", "Option A", "\\boxed{A}", "$\\boxed{A}$"]
    assert load_raw(tmp_path, *((BLOCK, solution) for solution in solutions)) == [("choice", "A")] * 6


def test_twelve_ways_to_state_options_are_choices(tmp_path: Path) -> None:
    pairs = [
        ("<image>What colour? A. red B. blue C. green", "A"),
        ("<image>What colour?\nA: red\nB: blue", "B"),
        ("<image>What colour?\nOptions: A. red, B. blue", "B"),
        ("<image>颜色？\nA、红\nB、蓝", "B"),
        ("<image>颜色？\n（A）红\n（B）蓝", "B"),
        ("<image>What colour?\n a) red\n b) blue", "b"),
        ("<image>What colour?\nA) red\nB) blue\nAnswer with the letter.", "B"),
        ("<image>What colour?\n1. red\n2. blue", "2"),
        ("<image>What colour?\n- A. red\n- B. blue", "B"),
        ("<image>What colour?\n**A.** red\n**B.** blue", "B"),
        ("<image>What colour?\n[A] red\n[B] blue", "B"),
        ("<image>What colour?\nA red\nB blue", "B"),
    ]
    assert load_raw(tmp_path, *pairs) == [("choice", "A"), *[("choice", "B")] * 11]


@pytest.mark.parametrize(
    ("question", "answer", "form", "target"),
    [
        ("What colour is the block?\n(A) red\n(B) blue\n(C) green", "A", "choice", "A"),
        ("What colour is the block?\n(A) red\n(B) blue\n(C) green", "A. red", "choice", "A"),
        ("Is the block red or blue?", "The block is red.", "free_form", "The block is red."),
        ("How many blocks?", "1", "number", "1"),
    ],
)
def test_rows_of_deepeyes_get_the_form_of_their_answer(
    question: str, answer: str, form: str, target: str, tmp_path: Path
) -> None:
    row = {
        "data_source": "mine",
        "prompt": [
            {"role": "system", "content": "You are a helpful assistant. # Tools"},
            {"role": "user", "content": f"<image>\n{question}\n{TOOLS}"},
        ],
        "images": [{"bytes": make_bytes(1), "path": None}],
        "ability": "vl",
        "env_name": "visual_toolbox_v2",
        "reward_model": {"ground_truth": answer, "style": "model"},
        "extra_info": {"answer": answer, "index": 1, "question": question, "split": "train"},
    }
    (sample,) = load_benchmark(write_parquet(tmp_path / "train.parquet", [row]))
    assert (sample.answer_form, sample.target, sample.question) == (form, target, question)
