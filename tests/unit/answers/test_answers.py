"""The robust reader: what it reads, and where it abstains."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2r.answers import Scorer, extract_answer, read_mme_official, read_release
from p2r.types import AnswerForm

COLORS = ("red", "blue", "green", "yellow")
SIDES = ("right", "left")
MODELS = ("27B", "37B", "27D", "27E")
COUNTS = ("1", "2", "3", "12")
TIMES = ("Approximately 11:00", "Approximately 12:15", "Approximately 12:00", "Approximately 11:10")
TWINS = ("ELVTE", "ELEVATE", "CeVaY", "ELEVATE.")
TURNS = ("Go straight ahead.", "Turn left.", "Turn right.", "The image does not feature the attribute.")
LOOK = "Looking at the first image, I can see a red box. When I look at the crop, the evidence is clear.\n\n"


def letter(reply: str, options: Sequence[str] = COLORS) -> str | None:
    return extract_answer(reply, "choice", options).letter


@pytest.mark.parametrize(
    "reply",
    [
        "C",
        "c",
        "C.",
        "(C)",
        "[c]",
        "**C**",
        '"C"',
        "C\u200b",
        "\ufeffC",
        "Ｃ",
        "Ⓒ",
        "« C »",
        "C、",
        "```\nC\n```",
        "C\u0301",
        "C=",
    ],
)
def test_letter_alone_is_read(reply: str) -> None:
    assert letter(reply) == "C"


@pytest.mark.parametrize(
    "reply",
    [
        "<answer>C</answer>",
        "<ANSWER> c </ANSWER>",
        "<answer>A</answer> wait, <answer>C</answer>",
        "<answer>C</answer><answer></answer>",
        "<answer><answer>C</answer></answer>",
        "&lt;answer&gt;C&lt;/answer&gt;",
        "<think>A or B?</think>\n<answer>\nC\n</answer><|im_end|>",
        "<think><answer>C</answer></think>",
        "<think><tool_call></think><answer>C</answer>",
        "<think><answer>A</answer></think><answer>C</answer>",
        "<answer>The answer is C</answer>",
        "<answer>C. green</answer>",
        "<answer>Based on the crop, green</answer>",
        "A <answer>C</answer>",
        "C</answer>",
    ],
)
def test_answer_tag_is_read(reply: str) -> None:
    assert letter(reply) == "C"


@pytest.mark.parametrize(
    "reply", ["<answer>C", "<think>A?</think><answer>C", "<answer>C</ans", "<answer>green</answer"]
)
def test_tag_that_was_cut_off_is_read(reply: str) -> None:
    assert letter(reply) == "C"


@pytest.mark.parametrize(
    "reply",
    ["<answer></answer>", "</answer>A<answer>", "<answer>Cannot determine</answer>", "<answer>A or B</answer>",
     "<answer>not red</answer>", "<answer>A bicycle</answer>", "C <answer>no idea</answer>"],
)  # fmt: skip
def test_tag_without_one_option_is_not_read(reply: str) -> None:
    assert extract_answer(reply, "choice", COLORS) == extract_answer("", "choice", COLORS)


@pytest.mark.parametrize(
    "reply",
    [
        "Answer: C",
        "answer: c",
        "Final Answer: **C**",
        "Ans: C",
        "The best answer is: C",
        "So the correct option is **C. green**",
        "After careful comparison, the answer should be C",
        "A bicycle is shown. The answer is C.",
        "I first thought A but the answer is C",
        "The answer is A. Wait, the answer is C.",
        "I would pick option C.",
        "It is clearly green, which corresponds to option C.",
        "Based on the image, the sail is red, so C.",
        "C is the correct answer.",
        "The answer is C because A is too dark.",
        "<think>So the answer is C.</think>",
        '{"reasoning": "A looks wrong", "answer": "C"}',
        "正解はCです",
        "选择 C。",
        "The answer is green.",
        "A. red\nB. blue\nC. green\nD. yellow\n\nAnswer: C",
    ],
)
def test_letter_that_is_called_the_answer_is_read(reply: str) -> None:
    assert letter(reply) == "C"


@pytest.mark.parametrize(
    "reply", ["\\boxed{C}", "$\\boxed{\\text{C}}$", "\\boxed{C. green}", "\\boxed{green}", f"{LOOK}\\boxed{{C}}"]
)
def test_box_is_read(reply: str) -> None:
    assert letter(reply) == "C"


@pytest.mark.parametrize(
    "reply",
    ["C. green", "C) green", "C: green", "C green", "C.green", "Option C", "option: c", "C\n\nExplanation: A is dark.",
     f"{LOOK}C", f"{LOOK}c", f"{LOOK}C: green", "Not A, it is C", "It cannot be A or B, so C", "Neither A nor B. C",
     "C, not A", "A is wrong, C is right", "A? No, C.", '["C"]', "La réponse est C", "답은 C입니다",
     "word, " * 3000 + "C"],
)  # fmt: skip
def test_one_letter_that_stands_alone_is_read(reply: str) -> None:
    assert letter(reply) == "C"


@pytest.mark.parametrize(
    "reply",
    ["A\n\nB", "A, B", "A or B", "A/B", "AB", "Both A and B", "The answer is A or B", "Neither A nor B", "It is not A.",
     "A. red\nB. blue\nC. green\nD. yellow", '["A", "B"]', "red or blue", "Unable to decide between A and B"],
)  # fmt: skip
def test_two_candidates_are_not_read(reply: str) -> None:
    assert letter(reply) is None


@pytest.mark.parametrize(
    "reply",
    ["", "\r\n", ".", "Answer:", "Cat", "Apple", "Can't tell", "Cannot determine the answer", "A bicycle", "a man",
     "A man is standing near the car", "The answer is a bicycle", "Vitamin C", "Plan B", "A-frame", "Driver's side",
     "D.C.", "Based on the image, the object is red.", "Apparently red", "None of the above", "I don't know",
     "n/a", "É", "Failed to obtain answer via API.", '<tool_call>{"label": "A"}</tool_call>', "<think>A or B"],
)  # fmt: skip
def test_word_that_begins_with_a_letter_is_no_answer(reply: str) -> None:
    assert extract_answer(reply, "choice", COLORS).rule == "none"


@pytest.mark.parametrize(
    ("reply", "options", "expected"),
    [
        ("Yellow", COLORS, "D"),
        ("It's red", COLORS, "A"),
        ("blue, not red", COLORS, "B"),
        (f"{LOOK}I think blue", COLORS, "B"),
        ("reddish", COLORS, None),
        ("It is not on the left but on the right", SIDES, "A"),
        ("37B", MODELS, "B"),
        ("27", MODELS, None),
        ("27 B", MODELS, None),
        ("3", COUNTS, "C"),
        ("There are 12 of them", COUNTS, "D"),
        ("2 or 3", COUNTS, None),
        ("12:00", TIMES, "C"),
        ("approximately 11", TIMES, None),
        ("ELEVATE", TWINS, "B"),
        ("ELEVATE.", TWINS, "D"),
        ("elevate", TWINS, None),
        ("the image does not feature the attribute", TURNS, "D"),
        ("<answer>I think Turn left.</answer>", TURNS, "B"),
        ("No, there is none.", ("Yes", "No"), "B"),
    ],
)
def test_unique_option_text_is_read(reply: str, options: Sequence[str], expected: str | None) -> None:
    assert letter(reply, options) == expected


@pytest.mark.parametrize("reply", ["E", "(Z)", "<answer>F</answer>", "The answer is E", "\\boxed{E}"])
def test_option_that_does_not_exist_has_a_text_but_no_letter(reply: str) -> None:
    answer = extract_answer(reply, "choice", COLORS)
    assert answer.letter is None
    assert answer.text is not None


def test_without_options_every_letter_may_be_right() -> None:
    assert letter("The answer is F", ()) == "F"


@pytest.mark.parametrize(
    ("reply", "rule", "text"),
    [
        ("<answer>(b)</answer>", "tag/letter", "b"),
        ("<answer>The answer is B</answer>", "tag/phrase", "B"),
        ("<answer>B", "cut_tag/letter", "B"),
        ("I see it. So the answer is B.", "reply/phrase", "B"),
        ("\\boxed{B}", "reply/boxed", "B"),
        ("<think>the answer is B", "thought/phrase", "B"),
        ("<answer> blue </answer>", "tag/option_text", "blue"),
    ],
)
def test_rule_and_span_say_what_was_read_where(reply: str, rule: str, text: str) -> None:
    answer = extract_answer(reply, "choice", COLORS)
    assert (answer.rule, answer.letter, answer.text) == (rule, "B", text)
    assert answer.span is not None
    assert reply[slice(*answer.span)] == text


@pytest.mark.parametrize(
    ("form", "reply", "text"),
    [
        ("number", "<think>x</think><answer> 42 </answer>", "42"),
        ("number", "<answer>1</answer> no, <answer>2</answer>", "2"),
        ("number", "<answer>The answer is 7</answer>", "7"),
        ("number", "The answer is 3.14.", "3.14"),
        ("number", "**Final answer:** 1,234 people", "1,234 people"),
        ("number", "So the answer is $\\boxed{\\frac{1}{2}}$.", "\\frac{1}{2}"),
        ("number", "There are 42 cars here.", "42"),
        ("number", "three", "three"),
        ("number", "I see no cars", None),
        ("number", "<answer>4", None),
        ("number", "<answer>42</ans", "42"),
        ("free_form", "a red bus", "a red bus"),
        ("free_form", "<answer>**a red bus**</answer>", "a red bus"),
        ("free_form", "Answer:\nblue whale\n", "blue whale"),
        ("free_form", 'The sign reads "STOP". So the answer is "STOP".', "STOP"),
        ("free_form", "<think>So the answer is red.</think>", "red"),
        ("free_form", "<think>It may be red", None),
        ("free_form", "I looked at the image and found that the boat has a red sail.", None),
        ("free_form", "", None),
    ],
)
def test_open_answer_is_read(form: AnswerForm, reply: str, text: str | None) -> None:
    answer = extract_answer(reply, form)
    assert answer.text == text
    assert answer.letter is None
    if answer.span:
        assert reply[slice(*answer.span)] == text


def test_release_reads_the_first_tag_and_the_first_capital() -> None:
    reply = "<answer>Based on it, A</answer> <answer>C</answer>"
    assert extract_answer(reply, "choice", COLORS, scorer="release").letter == "B"
    assert read_release("The answer is d. Best answer: C").text is None
    assert read_release("The answer is d. Best answer: C", tagged=False).letter == "C"
    assert read_release("Final: E", tagged=False, letters="ABCDEF").letter == "F"


def test_release_finds_no_letter_in_an_open_question() -> None:
    answer = extract_answer("<answer> A cat </answer>", "free_form", scorer="release")
    assert (answer.text, answer.letter, answer.span) == ("A cat", None, (9, 14))


def test_mme_official_takes_an_option_that_contains_the_reply() -> None:
    assert read_mme_official("right", ["turn left", "turn right"]).letter == "B"
    assert read_mme_official("", ["turn left", "turn right"]).letter == "A"
    assert extract_answer("Best answer: A", "choice", COLORS, scorer="mme_official").letter == "B"


@pytest.mark.parametrize(
    "unit", ["A or B ", "A ", "(", "not A, ", "answer is ", "<answer>", "\\boxed{", "\n", "*", "option the "]
)
def test_megabyte_is_read_in_seconds(unit: str) -> None:
    started = time.process_time()
    for form in ("choice", "number"):
        extract_answer(unit * (1_000_000 // len(unit)), form, COLORS)
    assert time.process_time() - started < 20


SPOKEN = st.sampled_from(
    ["A", "b", "D.", " ", "\n", "answer is ", "Answer: ", "<answer>", "</answer>", "<think>", "</think>", "\\boxed{",
     "}", "(", ")", "not ", "or ", "option ", "red", "blue", "It is ", "42", "Ｃ", "\u0301", "&lt;answer&gt;"]
)  # fmt: skip


@given(
    st.one_of(st.text(st.characters()), st.lists(SPOKEN, max_size=20).map("".join)),
    st.sampled_from(["choice", "number", "free_form"]),
    st.lists(st.text(max_size=8), max_size=6),
    st.sampled_from(["robust", "release", "mme_official"]),
)
def test_no_text_makes_extraction_fail(reply: str, form: AnswerForm, options: list[str], scorer: Scorer) -> None:
    answer = extract_answer(reply, form, options, scorer=scorer)
    if scorer == "robust" and answer.span:
        assert answer.text == reply.encode("utf-8", "replace").decode()[slice(*answer.span)]
    if scorer == "robust" and answer.letter and options:
        assert answer.letter in "ABCDEF"[: len(options)]


@given(st.sampled_from("ABCD"), st.text(max_size=40))
def test_tagged_letter_is_read_whatever_was_thought(chosen: str, thought: str) -> None:
    assert letter(f"<think>{thought}</think>\n<answer>{chosen}</answer>") == chosen


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("The answer is C. The flag at the top of", "C"),
        ("C\n\nExplanation: the flag is", "C"),
        ("I see a green", None),
        ("Perhaps the answer is C, but", None),
        ("<answer>C</answer> The", "C"),
    ],
)
def test_cut_off_reply_chooses_only_what_it_calls_the_answer(reply: str, expected: str | None) -> None:
    assert extract_answer(reply, "choice", COLORS, finish_reason="length").letter == expected


def test_cut_off_number_is_not_read() -> None:
    assert extract_answer("There are 4", "number", finish_reason="length").text is None


@pytest.mark.parametrize("noun", ["Company", "car", "lighthouse", "Quadrant", "wugs", "公司"])
def test_letter_behind_any_noun_is_a_name(noun: str) -> None:
    assert letter(f"The answer is C because {noun} A is the best.") == "C"
    assert letter(f"{noun} A is correct.") is None


@pytest.mark.parametrize(
    "reply", ["The answer is A. The answer is C.", "I pick A. I pick C.", "The answer is A. Wait, maybe C"]
)
def test_two_answers_without_a_correction_are_none(reply: str) -> None:
    assert letter(reply) is None


@pytest.mark.parametrize("word", ["Wait", "Correction", "So", "Therefore", "Actually", "Sorry", "Final answer"])
def test_later_answer_counts_behind_a_word_of_correction_or_conclusion(word: str) -> None:
    assert letter(f"The answer is A. {word}: the answer is C.") == "C"


@pytest.mark.parametrize(
    "unit", ["A. red\n", "if ", "red ", "2 ", "A: no\n", "one two ", "the answer to this ", "答案是A，", "A, ", "~~"]
)
def test_hostile_reply_of_20000_characters_is_read_at_once(unit: str) -> None:
    for options in (COLORS, COUNTS):
        started = time.process_time()
        extract_answer(unit * (20_000 // len(unit)), "choice", options)
        assert time.process_time() - started < 2
