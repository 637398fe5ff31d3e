"""What is said of an option in a clause: denied, excepted, asked and answered."""

from __future__ import annotations

import pytest

from p2r.answers import extract_answer

COLORS = ["red", "blue", "green", "yellow"]


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("All options except C are wrong.", "C"),
        ("All options except C are right.", None),
        ("None but D fits.", "D"),
        ("Any but C.", None),
        ("Everything but D is visible.", None),
        ("Is it red? No. Is it blue? Yes.", "B"),
        ("Is it red? Is it blue? No.", None),
        ("I change my answer from A to C.", "C"),
        ("There is no doubt that it is B.", "B"),
        ("The answer is certainly not B.", None),
        ("The last option.", "D"),
        ("I looked at the first one.", None),
        ("The grade is B+.", None),
        ("A B", None),
        ("- [ ] A\n- [x] B. blue\n- [ ] C. green", "B"),
    ],
)
def test_what_is_said_of_an_option(reply: str, letter: str | None) -> None:
    assert extract_answer(reply, "choice", COLORS).letter == letter


@pytest.mark.parametrize(
    ("reply", "letter"),
    [("You're right: left.", "A"), ("That's right.", None), ("It is on the right.", "B")],
)
def test_agreement_is_no_answer(reply: str, letter: str | None) -> None:
    assert extract_answer(reply, "choice", ["left", "right"]).letter == letter


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("it is either the star or the fish", None),
        ("It is either a sun or the moon.", None),
        ("It is the star or a moon.", None),
        ("It is neither the star nor the fish.", None),
        ("It is the star.", "A"),
    ],
)
def test_options_with_articles_are_joined(reply: str, letter: str | None) -> None:
    options = ["a star", "a fish", "a sun", "a moon"]
    assert extract_answer(f"<answer>{reply}</answer>", "choice", options).letter == letter


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("No doubt about it: yes.", "A"),
        ("No question about it, yes.", "A"),
        ("No problem! Yes.", "A"),
        ("No wonder it floats: yes, it is a boat.", "A"),
        ("Yes. No doubt.", "A"),
        ("No doubt it is no.", "B"),
        ("No, no doubt about that.", "B"),
        ("No.", "B"),
    ],
)
def test_the_no_of_an_idiom_is_not_an_answer(reply: str, letter: str) -> None:
    assert extract_answer(reply, "choice", ("yes", "no")).letter == letter


@pytest.mark.parametrize(
    "reply",
    [
        "Ranking: 1. B 2. A 3. C 4. D",
        "1) C, 2) A, 3) B",
        "A (40%), B (40%), C (20%)",
        "A: 12%, B: 15%",
        "A: high, B: low",
        "A: high, B: 10%, C: low, D: low",
        "A 0.2, B 40%",
        "A (60%), A (20%), B (20%)",
    ],
)
def test_ranked_letters_and_ratings_without_a_highest_choose_nothing(reply: str) -> None:
    assert extract_answer(reply, "choice", COLORS).letter is None
    assert extract_answer(f"{reply}\n\nThe answer is C.", "choice", COLORS).letter == "C"


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("A: 10% B: 70% C: 10% D: 10%", "B"),
        ("A (10%), B (20%), C (70%)", "C"),
        ("A 60%, B 30%", "A"),
        ("A: .1, B: .7, C: .1, D: .1", "B"),
        ("A 2/10, B 4/10, C 1/10, D 9/10", "D"),
        ("A 20/100, B 80/100", "B"),
        ("A: low, B: Moderate, C: very low, D: low", "B"),
        ("20% A, 70% B, 10% C", "B"),
        ("30% sure that it's A, 70% that it's D", "D"),
    ],
)
def test_option_that_is_rated_highest_is_chosen(reply: str, letter: str) -> None:
    assert extract_answer(reply, "choice", COLORS).letter == letter


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("If it were red, A, but it is blue, so B.", "B"),
        ("The answer is B; had it been red, A would be correct.", "B"),
        ("The answer is B, the flag waves, the sky is clear, the sea is calm, the sun is low, isn't it?", "B"),
        ("Could the answer be B, given the poor light?", None),
        ("Any option but C is wrong, so C.", "C"),
        ("I considered any option but C.", None),
        ("The flag is at the end because of A.", None),
        ("“B” is what the sign on the left of the old truck says to all drivers", None),
        ("B as in bravo", "B"),
        ("I saw the second one.", None),
        ("A second matches this color.", None),
        ("The answer is the second largest.", None),
        ("I choose the second one.", "B"),
        ("B? Yes. D is on the hull.", "B"),
        ("Is it B? No. D is on the hull.", None),
        ("不难看出答案是B。", "B"),
        ("毫无疑问是B。", "B"),
        ("Option number four.", "D"),
        ("The answer is A. The answer is B. Therefore, the answer is A.", "A"),
        ("The answer is A. Wait. And B.", None),
        ("Though I'd lean towards D.", "D"),
        ("It is between A and D; D looks closer.", "D"),
        ("The answer is C, though A is close.", "C"),
    ],
)
def test_mood_of_a_clause_decides(reply: str, letter: str | None) -> None:
    assert extract_answer(reply, "choice", COLORS).letter == letter


@pytest.mark.parametrize(
    ("reply", "letter"), [("Option 3", "B"), ("The answer is option 2.", "A"), ("Option 4", "D"), ("Option 9", None)]
)
def test_a_number_behind_option_is_an_option_before_it_is_a_position(reply: str, letter: str | None) -> None:
    assert extract_answer(reply, "choice", ["2", "3", "5", "8"]).letter == letter
