"""Questions lose marks of the image, and closing instructions about the reply's format."""

from __future__ import annotations

import pytest

from p2r.benchmarks.row_layouts.questions import drop_instructions, find_named_image, strip_marks

TOOLS = (
    "Think first, call **image_zoom_in_tool** if needed, then answer. "
    "Format strictly as: <think>...</think> <answer>...</answer>"
)


@pytest.mark.parametrize(
    "text",
    [
        "<image>\nWhat?",
        "What?<image>",
        "<image 1>What?",
        "<|vision_start|><|image_pad|><|vision_end|>What?",
        "<|image_1|>\nWhat?",
        "<img>a.jpg</img>What?",
        "Picture: <ImageHere> What?".removeprefix("Picture: "),
    ],
)
def test_marks_of_the_image_are_left_out(text: str) -> None:
    assert strip_marks(text) == "What?"


def test_an_image_may_be_named_in_the_question() -> None:
    assert find_named_image("<img> b/a.jpg </img>What?") == "b/a.jpg"
    assert find_named_image("<image>What?") is None


@pytest.mark.parametrize(
    ("text", "question"),
    [
        (f"What?\n(A) red\n(B) blue\n{TOOLS}", "What?\n(A) red\n(B) blue"),
        ("How many? Output the thinking in <think> </think> and the answer in <answer> </answer> tags.", "How many?"),
        ("How many? Put your final answer in \\boxed{}.", "How many?"),
        (
            "Find x. You FIRST think about the reasoning process and then provide the answer. The process MUST BE in "
            "<think> </think> tags. The final answer MUST BE put in \\boxed{}.",
            "Find x.",
        ),
        (
            "How many? First output the thinking process in <think> </think> tags and then output the final answer in "
            "<answer> </answer> tags. Output the final answer in JSON format.",
            "How many?",
        ),
        ("What?\nGive one word.", "What?\nGive one word."),
        ("What?\nAnswer with the option's letter.", "What?\nAnswer with the option's letter."),
        ("What do you think?", "What do you think?"),
        ("What does <answer> mean?", "What does <answer> mean?"),
        ("Use <answer> tags. What is it?", "Use <answer> tags. What is it?"),
    ],
)
def test_closing_instructions_about_the_format_are_left_out(text: str, question: str) -> None:
    assert drop_instructions(text) == question
