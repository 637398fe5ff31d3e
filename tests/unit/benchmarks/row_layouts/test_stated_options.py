"""Options in a question's text, in every way in which data sets write them."""

from __future__ import annotations

import pytest

from p2r.benchmarks.row_layouts.stated_options import find_lettered, find_numbered, remove_options, write_letters

RED_BLUE = ("red", "blue")
THREE = ("red", "blue", "green")
CHINESE = ("红", "蓝")


@pytest.mark.parametrize(
    ("question", "options"),
    [
        ("What colour? A. red B. blue C. green", THREE),
        ("What colour?\nA: red\nB: blue", RED_BLUE),
        ("What colour?\nOptions: A. red, B. blue", RED_BLUE),
        ("颜色？\nA、红\nB、蓝", CHINESE),
        ("颜色？\n（A）红\n（B）蓝", CHINESE),
        ("What colour?\n a) red\n b) blue", RED_BLUE),
        ("What colour?\nA) red\nB) blue\nAnswer with the letter.", RED_BLUE),
        ("What colour?\n- A. red\n- B. blue", RED_BLUE),
        ("What colour?\n**A.** red\n**B.** blue", RED_BLUE),
        ("What colour?\n[A] red\n[B] blue", RED_BLUE),
        ("What colour?\nA red\nB blue", RED_BLUE),
        # of our own
        ("What colour?\n* **A** red\n* **B** blue", RED_BLUE),
        ("What colour?\n**(A)** red\n**(B)** blue", RED_BLUE),
        ("What colour?\n**A. red**\n**B. blue**", RED_BLUE),
        ("What colour?\n**Option A:** red\n**Option B:** blue", RED_BLUE),
        ("What colour?\nA - red\nB – blue", RED_BLUE),
        ("What colour?\n(A). red\n(B). blue", RED_BLUE),
        ("What colour?<br>A. red<br/>B. blue", RED_BLUE),
        ("What colour? (a) red; (b) blue; (c) green", THREE),
        ("What colour? a) red, b) blue", RED_BLUE),
        ("What colour? A. red | B. blue | C. green", THREE),
        ("What colour? Choices: (A) red (B) blue. Choose (A) or (B).", RED_BLUE),
        ("What colour?\nChoices: ['A. red', 'B. blue']", RED_BLUE),
        ('What colour?\nChoices: ["(A) red", "(B) blue"]', RED_BLUE),
        ("What colour?\n(A) red  (B) blue\n(C) green", THREE),
        ("What colour?\nA. red  B. blue\nC. green. Answer with the letter.", THREE),
        ("What colour? A. red B. blue C. green. Answer with the option's letter.", THREE),
        ("What colour? A. red\nB. blue\nPlease answer.", RED_BLUE),
        ("Is it (A) red or (B) blue?", RED_BLUE),
        ("颜色？A.红 B.蓝", CHINESE),
        ("颜色？A．红B．蓝", CHINESE),
        ("颜色？\nＡ．红\nＢ．蓝", CHINESE),
        ("颜色？\n【A】红\n【B】蓝\n请回答。", CHINESE),
        ("What colour?\n<A> red\n{B} blue", RED_BLUE),
        ("What colour? a. red b. blue", RED_BLUE),
        ("What colour?\nA-red\nB- blue", RED_BLUE),
        ("What colour?\nA=red\nB=blue", RED_BLUE),
        ("What colour? A = red, B = blue", RED_BLUE),
        ("What colour? A: red B: blue", RED_BLUE),
        ("What colour? Options: A red, B blue", RED_BLUE),
        ("What colour?(A)red(B)blue(C)green", THREE),
        ("What colour?\nA.\nred\nB.\nblue", RED_BLUE),
        ("What colour?\nA\nred\nB\nblue", RED_BLUE),
        ('What colour? Options: {"A": "red", "B": "blue"}', RED_BLUE),
        ('Options: {"A": "red", "B": "blue"} What colour?', RED_BLUE),
        ("What colour?\nⒶ red\nⒷ blue", RED_BLUE),
        ("What colour?\n$A$. red\n$B$. blue", RED_BLUE),
        ("What colour?\n\\textbf{A.} red\n\\textbf{B.} blue", RED_BLUE),
        ("What colour?\n<b>A.</b> red\n<b>B.</b> blue", RED_BLUE),
        ("What colour?\n*A.* red\n*B.* blue", RED_BLUE),
        ("What colour?\n| A | red |\n| B | blue |", RED_BLUE),
        ("选项：A.红，B.蓝。颜色？", CHINESE),
        ("Options: A. red B. blue. What colour is it?", RED_BLUE),
        ("(A) red\n(B) blue\nWhat colour?", RED_BLUE),
        ("What?\nA. red\nand white\nB. blue\nAnswer.", ("red\nand white", "blue")),
        ("What?\nA. 1.5\nB. U.S.A. flag\nC. **bold**\nD. done?", ("1.5", "U.S.A. flag", "**bold**", "done?")),
        ("Which?\nA. in (A) top (B) left\nB. blue\nC. green", ("in (A) top (B) left", "blue", "green")),
        ("A. Smith asks:\nwhat?\nA. red\nB. blue", RED_BLUE),
        ("What?\nA. yes\nB. no\nNot these:\nA. red\nB. blue", RED_BLUE),
    ],
)
def test_lettered_options_are_found(question: str, options: tuple[str, ...]) -> None:
    found = find_lettered(question)
    assert found is not None and found.texts == options


@pytest.mark.parametrize(
    "question",
    [
        "What?",
        "What?\nA. red",
        "What?\nB. red\nC. blue",
        "Who is taller, J. A. Smith or B. Jones?",
        "A man and a woman are there.\nBut what is in front?",
        "Which panel, (A) or (B), is larger?",
        "What is on shelf A: milk or B: eggs",
        "What?\n1. red\n2. blue",
        "What?\nA.\nB.",
        "In the triangle, A = 5, B = 7, C = 9. Find x.",
        "Given:\nA = 5\nB = 7\nFind x.",
        "Is the A-frame sign left of the B-side door?",
        "Look at points A, B and C. Which is highest?",
        "Vitamin A: what amount? Vitamin B: what?",
    ],
)
def test_what_states_no_letters_has_no_lettered_options(question: str) -> None:
    assert find_lettered(question) is None


@pytest.mark.parametrize(
    ("question", "lettered"),
    [
        ("What colour?\n1. red\n2. blue", "What colour?\nA. red\nB. blue"),
        ("What colour?\n(1) red\n(2) blue\nGive one.", "What colour?\n(A) red\n(B) blue\nGive one."),
        ("What colour? (1) red (2) blue", "What colour? (A) red (B) blue"),
        ("What colour? 1. red 2. blue", "What colour? A. red B. blue"),
        ("颜色？\n①红\n②蓝", "颜色？\n(A) 红\n(B) 蓝"),
        ("颜色？\n1、红\n2、蓝", "颜色？\nA、红\nB、蓝"),
    ],
)
def test_numbered_options_get_letters(question: str, lettered: str) -> None:
    found = find_numbered(question)
    assert found is not None and found.texts in (RED_BLUE, CHINESE)
    assert write_letters(question, found) == lettered


@pytest.mark.parametrize(
    "question",
    [
        "Read the list:\n1. milk\n2. eggs\nHow many things are there?",
        "Do this.\n1. Look\n2. Count",
        "How many?\n2. red\n3. blue",
        "What is 1.5 or 2. 5?",
        "Is there a 1. prize?",
    ],
)
def test_numbers_elsewhere_are_no_options(question: str) -> None:
    assert find_numbered(question) is None


@pytest.mark.parametrize(
    ("question", "bare"),
    [
        ("What?\n(A) red\n(B) blue", "What?"),
        ("What?\nOptions:\n(A) red\n(B) blue\nAnswer.", "What?\nAnswer."),
        ("颜色？\n选项：\nA、红\nB、蓝", "颜色？"),
        ("What? A. red B. blue", "What?"),
        ("(A) red\n(B) blue\nWhat?", "What?"),
        ("What?", "What?"),
    ],
)
def test_options_can_be_taken_out(question: str, bare: str) -> None:
    assert remove_options(question) == bare
