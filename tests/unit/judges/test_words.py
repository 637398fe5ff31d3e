"""Words: what is another way to write the same, and what says something else."""

from __future__ import annotations

import time

import pytest

from p2r.judges.words import normalize_text, say_the_same


@pytest.mark.parametrize(
    ("answer", "target"),
    [
        ("红色。", "红色"),
        ("cafe\u0301", "café"),
        ("ＡＢＣ", "abc"),
        ("R&amp;B", "R&B"),
        ("R & B", "R&B"),
        ("5,000", "5000"),
        ("50 %", "50%"),
        ("$ 5", "$5"),
        ("hello, world", "Hello World!"),
        ("x</s>", "x"),
        ("x<|im_end|>", "x"),
        ("U.S.A.", "USA"),
        ("J. K. Rowling", "J.K. Rowling"),
        ("Dr Smith", "Dr. Smith"),
        ("T-shirt", "t shirt"),
        ("‘red’", "red"),
        ("½", "1/2"),
        ("红 色", "红色"),
        ("\\text{red}", "red"),
        ("The sign reads STOP.", "STOP"),
        ("The color is red because of the paint.", "red"),
        ("Yes, there is.", "yes"),
        ("No. It is blue.", "No"),
        ("!", "!"),
        ("the", "the"),
    ],
)
def test_what_is_written_in_another_way_is_the_same(answer: str, target: str) -> None:
    assert say_the_same(answer, target)
    assert say_the_same(target, target)


@pytest.mark.parametrize(
    ("answer", "target"),
    [
        ("-5", "5"),
        ("50%", "50"),
        ("$5", "5"),
        ("C++", "C"),
        ("1.5", "15"),
        ("3:30", "330"),
        ("10²", "102"),
        ("5-6", "56"),
        ("café", "cafe"),
        ("red and blue", "blue and red"),
        ("It is not red", "red"),
        ("!", "?"),
        ("+", "-"),
        ("#1", "1"),
        ("1,2", "12"),
        ("5,0000", "50000"),
        ("yes and no", "yes"),
        ("No. Yes.", "no"),
        ("Nothing", "no"),
        ("no idea", "no"),
        ("resign", "re-sign"),
    ],
)
def test_what_says_something_else_differs(answer: str, target: str) -> None:
    assert not say_the_same(answer, target)


@pytest.mark.parametrize("unit", ["(", '"', "&", " ", "-", "U.", "1,000,", "it is ", "yes ", "&amp;", "</s>"])
def test_a_long_hostile_text_is_compared_at_once(unit: str) -> None:
    text = unit * (20_000 // len(unit))
    started = time.process_time()
    say_the_same(text, "yes")
    normalize_text(f"x{text}x")
    assert time.process_time() - started < 0.5
