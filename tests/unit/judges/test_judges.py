"""Judges: right, wrong, and what cannot be judged."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import pytest
from PIL import Image

from p2r.answers.numbers import read_number
from p2r.dialogue import Budget, Decoding, ModelProfile, Prompt
from p2r.errors import JudgeError
from p2r.images.load import MemoryImage
from p2r.judges import BoxJudge, ChoiceJudge, ModelJudge, NumberJudge, TextJudge, judge_for
from p2r.prompts import load_prompt_set
from p2r.types import Answer, AnswerForm, Box, Completion, Judge, Sample, Verdict

IMAGE = MemoryImage(Image.new("RGB", (8, 8)))
PROFILE = ModelProfile(family="test", frame="per_mille", budget=Budget())


class Oracle:
    """A judging model with one reply, that keeps what it was asked."""

    name = "oracle"
    profile = PROFILE

    def __init__(self, reply: str, *, cut_off: bool = False) -> None:
        self.reply, self.cut_off = reply, cut_off
        self.asked: list[Prompt] = []

    async def complete(self, prompt: Prompt, decoding: Decoding) -> Completion:
        self.asked.append(prompt)
        return Completion(text=self.reply, finish_reason="length" if self.cut_off else "stop", model=self.name)


def make_sample(
    target: str | None, form: AnswerForm = "free_form", options: tuple[str, ...] = (), gold: tuple[Box, ...] = ()
) -> Sample:
    return Sample(
        "s1", IMAGE, "What is on the sail?", options=options, answer_form=form, target=target, gold_boxes=gold
    )


def judge(judge: Judge, sample: Sample, answer: Answer | str | None, boxes: tuple[Box, ...] = ()) -> Verdict:
    read = answer if isinstance(answer, Answer) else Answer(text=answer)
    return asyncio.run(judge(sample, read, boxes))  # type: ignore[arg-type]


def make_box(x1: float, y1: float, x2: float, y2: float) -> Box:
    return Box(x1=x1, y1=y1, x2=x2, y2=y2)


CHOICE = make_sample("B", "choice", ("red", "blue", "green"))


def test_equal_letter_is_right() -> None:
    assert judge(ChoiceJudge(), CHOICE, Answer(text="blue", letter="B")) == Verdict(
        correct=True, score=1, judge="choice"
    )


def test_other_letter_is_wrong() -> None:
    verdict = judge(ChoiceJudge(), CHOICE, Answer(text="A", letter="A"))
    assert (verdict.correct, verdict.score, verdict.reason) == (False, 0, "A instead of B")


def test_letter_that_no_option_has_is_wrong() -> None:
    assert judge(ChoiceJudge(), CHOICE, Answer(text="F")).reason == "'F' is not an option"


@pytest.mark.parametrize("judged", [ChoiceJudge(), TextJudge(), NumberJudge(), ModelJudge(Oracle("yes"))])
def test_reply_that_cannot_be_read_is_wrong_and_not_failed(judged: Judge) -> None:
    sample = make_sample("5") if not isinstance(judged, ChoiceJudge) else CHOICE
    verdict = judge(judged, sample, None)
    assert not verdict.correct
    assert verdict.reason == "no answer"


@pytest.mark.parametrize("judged", [ChoiceJudge(), TextJudge(), NumberJudge(), ModelJudge(Oracle("yes")), BoxJudge()])
@pytest.mark.parametrize("target", [None, " "])
def test_sample_without_target_is_an_error_with_a_hint(judged: Judge, target: str | None) -> None:
    with pytest.raises(JudgeError, match="s1") as failure:
        judge(judged, make_sample(target), "blue", (make_box(0, 0, 1, 1),))
    assert failure.value.hint


@pytest.mark.parametrize("target", ["D", "blue", "AB", "1"])
def test_choice_target_that_is_no_option_is_an_error(target: str) -> None:
    with pytest.raises(JudgeError, match="not the letter of an option"):
        judge(ChoiceJudge(), make_sample(target, "choice", ("red", "blue", "green")), Answer(text="B", letter="B"))


@pytest.mark.parametrize("answer", ["A Fish.", "  the  fish ", "FISH", '"fish"', "fish!", "**fish**"])
def test_text_is_right_whatever_its_case_article_and_punctuation(answer: str) -> None:
    assert judge(TextJudge(), make_sample("a fish"), answer).correct


@pytest.mark.parametrize("answer", ["fishes", "a fish and a star", "fi sh", "", "a"])
def test_other_text_is_wrong(answer: str) -> None:
    assert not judge(TextJudge(), make_sample("a fish"), answer).correct


def test_article_alone_is_a_text_of_its_own() -> None:
    assert judge(TextJudge(), make_sample("A"), "a").correct
    assert not judge(TextJudge(), make_sample("A"), "the").correct


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ("1234", "1,234"),
        ("1234", "1 234 people"),
        ("0.5", "1/2"),
        ("0.5", "\\frac{1}{2}"),
        ("1.5", "1 1/2"),
        ("0.5", "50%"),
        ("50", "50 percent"),
        ("50%", "0.50"),
        ("3", "Three"),
        ("24", "two dozen eggs"),
        ("-3", "−3.0"),
        ("5000000", "5 million"),
        ("2000", "2 x 10^3"),
        ("42", "There are 42 cars."),
        ("42", "about $42$"),
        ("0.333333", "1/3"),
        ("5 km", "5 km"),
        ("5", "5 km"),
    ],
)
def test_number_is_right_however_it_is_written(target: str, answer: str) -> None:
    assert judge(NumberJudge(), make_sample(target, "number"), answer).correct


@pytest.mark.parametrize(
    ("target", "answer"),
    [("5", "6"), ("5", "There are 5 or 6"), ("1000000", "1000001"), ("0.33", "1/3"), ("5 km", "5 m"), ("5", "blue"),
     ("12", "12:00"), ("1", "1,23"), ("0.000001", "0.000002"), ("1", "one half"), ("5", "9" * 500), ("5", "5/0")],
)  # fmt: skip
def test_other_number_is_wrong(target: str, answer: str) -> None:
    assert not judge(NumberJudge(), make_sample(target, "number"), answer).correct


def test_number_target_that_is_no_number_is_an_error() -> None:
    with pytest.raises(JudgeError, match="not a number"):
        judge(NumberJudge(), make_sample("blue", "number"), "5")


@pytest.mark.parametrize("answer", [None, "blue", "5", "2017"])
@pytest.mark.parametrize("target", ["2023-05-01", "12:30", "5-6", "blue", "yes"])
def test_target_that_is_no_number_is_an_error_whatever_the_answer(target: str, answer: str | None) -> None:
    with pytest.raises(JudgeError, match="not a number") as failure:
        judge(NumberJudge(), make_sample(target, "number"), answer)
    assert "free_form" in failure.value.hint


@pytest.mark.parametrize("text", ["", "a", "2 or 3", "3, 4", "5-6", "3 out of 7", "12:00", "1" * 500])
def test_text_that_is_not_one_number_is_none(text: str) -> None:
    assert read_number(text) is None


@pytest.mark.parametrize(
    "reply", ["yes", "Yes.", "**YES**", "<think>no? yes!</think>\nyes", "Yes, the answer matches."]
)
def test_model_that_says_yes_makes_it_right(reply: str) -> None:
    assert judge(ModelJudge(Oracle(reply)), make_sample("a fish"), "a trout").correct


@pytest.mark.parametrize("reply", ["no", "No, it does not.", "NO!"])
def test_model_that_says_no_makes_it_wrong(reply: str) -> None:
    verdict = judge(ModelJudge(Oracle(reply)), make_sample("a fish"), "a trout")
    assert not verdict.correct
    assert verdict.judge == "model:oracle"


@pytest.mark.parametrize(
    "reply", ["", "maybe", "yes and no", "No. Yes.", "The correct answer is yes", "yesterday", "1", "<think>yes"]
)
def test_model_that_says_neither_is_an_error_and_not_a_no(reply: str) -> None:
    with pytest.raises(JudgeError, match="neither yes nor no"):
        judge(ModelJudge(Oracle(reply)), make_sample("a fish"), "a trout")


def test_model_that_was_cut_off_is_an_error() -> None:
    with pytest.raises(JudgeError, match="cut off"):
        judge(ModelJudge(Oracle("Yes, because", cut_off=True)), make_sample("a fish"), "a trout")


@pytest.mark.parametrize("reply", ["yes", "<answer>yes</answer> The", "**Yes**"])
def test_model_that_was_cut_off_after_its_answer_is_understood(reply: str) -> None:
    assert judge(ModelJudge(Oracle(reply, cut_off=True)), make_sample("a fish"), "a trout").correct


@pytest.mark.parametrize("unit", ["yes ", "yes. ", "\n", "correct: ", "\\boxed{", "answer is ", "** ", "no, "])
def test_a_long_hostile_reply_of_a_judge_is_read_at_once(unit: str) -> None:
    started = time.process_time()
    with suppress(JudgeError):
        judge(ModelJudge(Oracle(unit * (20_000 // len(unit)))), make_sample("a fish"), "a trout")
    assert time.process_time() - started < 0.5


def test_model_is_asked_with_the_words_of_the_prompt_set() -> None:
    model, sample = Oracle("yes"), make_sample("a {fish}")
    judge(ModelJudge(model), sample, "a {target}")
    (prompt,) = model.asked
    assert prompt.text == load_prompt_set("release").judge(sample, "a {target}")
    assert (prompt.role, prompt.images) == ("judge", ())


def test_model_is_not_asked_about_the_very_words_of_the_target() -> None:
    model = Oracle("no")
    verdict = judge(ModelJudge(model), make_sample("a fish"), "The fish.")
    assert (verdict.correct, verdict.judge, model.asked) == (True, "text", [])


def test_box_is_right_from_an_overlap_of_one_half() -> None:
    sample = make_sample(None, gold=(make_box(0, 0, 10, 10),))
    assert judge(BoxJudge(), sample, None, (make_box(0, 0, 10, 5),)).score == 0.5
    assert judge(BoxJudge(), sample, None, (make_box(0, 0, 10, 5),)).correct
    assert not judge(BoxJudge(), sample, None, (make_box(0, 0, 10, 4.9),)).correct
    assert judge(BoxJudge(), sample, None).reason == "no box"


def test_first_box_counts_unless_the_best_is_asked_for() -> None:
    sample = make_sample(None, gold=(make_box(0, 0, 10, 10),))
    boxes = (make_box(50, 50, 60, 60), make_box(0, 0, 10, 10))
    assert not judge(BoxJudge(), sample, None, boxes).correct
    assert judge(BoxJudge(which="best"), sample, None, boxes).correct


def test_each_answer_form_has_its_judge() -> None:
    assert isinstance(judge_for(CHOICE), ChoiceJudge)
    assert isinstance(judge_for(make_sample("5", "number")), NumberJudge)
    assert isinstance(judge_for(make_sample("fish")), TextJudge)
    assert isinstance(judge_for(make_sample("fish"), Oracle("yes")), ModelJudge)
