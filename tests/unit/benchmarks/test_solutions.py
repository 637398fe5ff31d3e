"""Solutions lose what the answer is wrapped in."""

from __future__ import annotations

import pytest

from p2r.benchmarks.solutions import unwrap_solution


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        ("a kite", "a kite"),
        (" A. red ", "A. red"),
        (r"\frac{1}{2}", r"\frac{1}{2}"),
        ("a < b and b > c", "a < b and b > c"),
        ("<answer> A </answer>", "A"),
        ("<think>..</think> <answer> A </answer>", "A"),
        ("<think>\nso\n</think>\n\nThe block is red.", "The block is red."),
        ("<thinking>so</thinking>4", "4"),
        ("<ANSWER>C</ANSWER>", "C"),
        ("<answer>A</answer>, no: <answer>B</answer>", "B"),
        (r"\boxed{A}", "A"),
        (r"$\boxed{A}$", "A"),
        (r"We get \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed{\text{red}}", "red"),
        (r"\boxed{1}, rather \boxed{2}", "2"),
        (r"<think>\boxed{3}</think><answer>\boxed{4}</answer>", "4"),
        ("<|begin_of_box|>A<|end_of_box|>", "A"),
        ("<|begin_of_box|>A<|end_of_box|>, no, <|begin_of_box|>B<|end_of_box|>", "B"),
        ("<answer>Ａ</answer>", "Ａ"),
        ("<answer></answer>", ""),
        ("<think>only a thought", ""),
        ("<answer> 3", "3"),
    ],
)
def test_the_answer_is_taken_out_of_its_wrapping(solution: str, answer: str) -> None:
    assert unwrap_solution(solution) == answer
