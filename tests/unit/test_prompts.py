"""Prompt sets: what they say, what they refuse, and that a changed word changes the fingerprint."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from p2r.answers.sections import HEADINGS, has_all_sections
from p2r.errors import ConfigError, DataError
from p2r.images.load import MemoryImage
from p2r.prompts import PLACEHOLDERS, SHIPPED_SETS, load_prompt_set, question_text
from p2r.types import AnswerForm, Sample

IMAGE = MemoryImage(Image.new("RGB", (8, 8)))
RELEASE = load_prompt_set("release")
PAPER = load_prompt_set("paper")


def make_sample(
    question: str = "What is on the sail?",
    options: tuple[str, ...] = (),
    form: AnswerForm = "free_form",
    target: str | None = None,
) -> Sample:
    return Sample("s1", IMAGE, question, options=options, answer_form=form, target=target)


def copy_set(folder: Path, name: str = "release") -> Path:
    for file in (SHIPPED_SETS / name).glob("*.txt"):
        (folder / file.name).write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
    return folder


def test_release_perceiver_asks_for_boxes_in_json() -> None:
    assert RELEASE.perceiver(make_sample()) == (
        "Question: What is on the sail?\n"
        "Locate the key visual evidence in the image for answering this question. Report bbox coordinates in JSON "
        'format only: [{"bbox_2d": [x1, y1, x2, y2], "label": "<description>"}] If the question requires the entire '
        "image, return an empty list []."
    )


def test_release_reasoner_is_told_about_the_crops() -> None:
    assert RELEASE.reasoner(make_sample()) == (
        "Question: What is on the sail?\n"
        "The key visual regions have been highlighted and cropped for you. Think step by step.\n"
        "Provide your detailed reasoning between the <think> </think> tags, and then answer the question simply "
        "within the <answer> </answer> tags.\n"
    )


def test_thinking_keeps_the_blank_of_the_release_and_no_evidence_has_none() -> None:
    assert "Think step by step. \nProvide" in RELEASE.thinking(make_sample())
    assert "Think step by step.\nProvide" in RELEASE.reasoner_without_evidence(make_sample())


@pytest.mark.parametrize(
    ("form", "tagged", "direct"),
    [
        ("choice", "answer the question with the option's letter from the given choices", "directly.\n"),
        ("number", "answer the question using a numerical value (e.g., 42 or 3.1)", "numerical value"),
        ("free_form", "answer the question simply", "single word or phrase"),
    ],
)
def test_each_answer_form_has_its_wording(form: AnswerForm, tagged: str, direct: str) -> None:
    sample = make_sample(form=form)
    assert f"and then {tagged}" in RELEASE.reasoner(sample)
    assert RELEASE.reasoner(sample).endswith(" within the <answer> </answer> tags.\n")
    assert direct in RELEASE.direct(sample)
    assert "<answer>" not in RELEASE.direct(sample)


def test_paper_prompts_are_those_of_appendix_b1() -> None:
    sample = make_sample()
    assert PAPER.perceiver(sample) == (
        "What is on the sail?\n"
        "Please carefully observe the image first to identify the object(s) referred to in the question. Note that "
        "each object type appears only once in the image. Then provide the 2D bounding box coordinates and labels of "
        "the related objects in JSON format."
    )
    assert PAPER.reasoner(sample).startswith(
        "What is on the sail?\nThe key visual regions have been highlighted and cropped for you. Think step by step.\n"
    )
    assert PAPER.system == RELEASE.system == "You are a helpful assistant."


def test_options_are_appended_with_letters_everywhere() -> None:
    sample = make_sample(options=("a star", "an anchor"), form="choice")
    lettered = "What is on the sail?\nOptions:\nA. a star\nB. an anchor"
    assert question_text(sample) == lettered
    for text in (RELEASE.perceiver, RELEASE.reasoner, RELEASE.direct, RELEASE.thinking):
        assert text(sample).startswith(f"Question: {lettered}\n")


def test_options_that_the_question_states_are_not_appended() -> None:
    sample = Sample("s1", IMAGE, "Q?\n(A) a\n(B) b", options=("a", "b"), answer_form="choice", options_in_question=True)
    assert question_text(sample) == "Q?\n(A) a\n(B) b"


def test_braces_in_a_question_are_left_alone() -> None:
    question = 'What does {answer_form} or {"x": {question}} say?'
    assert f"Question: {question}\n" in RELEASE.reasoner(make_sample(question))


def test_judge_is_given_question_target_and_answer() -> None:
    text = RELEASE.judge(make_sample(target="a star"), "the star")
    assert "Question: What is on the sail?" in text
    assert "Correct answer: a star" in text
    assert "Given answer: the star" in text


def test_judge_needs_a_target() -> None:
    with pytest.raises(DataError, match="no target"):
        RELEASE.judge(make_sample(), "the star")


@pytest.mark.parametrize("question", ["", "  \n"])
def test_empty_question_is_refused(question: str) -> None:
    with pytest.raises(DataError, match="is empty"):
        question_text(make_sample(question))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("yes",), "a single option, 'yes'"),
        (tuple(f"option {index}" for index in range(30)), "30 options"),
        (("red", " "), "option B of sample 's1' is empty"),
    ],
)
def test_options_that_letters_cannot_name_are_refused(options: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        question_text(make_sample(options=options, form="choice"))
    assert caught.value.hint


def test_options_that_say_the_same_are_asked_as_published() -> None:
    assert question_text(make_sample(options=("red", "blue", "red"))).endswith("\nA. red\nB. blue\nC. red")


def test_twenty_six_options_reach_z() -> None:
    options = tuple(f"option {index}" for index in range(26))
    assert question_text(make_sample(options=options)).endswith("\nZ. option 25")


def test_fingerprint_is_of_the_words_not_of_the_name(tmp_path: Path) -> None:
    copied = load_prompt_set(copy_set(tmp_path))
    assert copied.fingerprint == RELEASE.fingerprint != PAPER.fingerprint
    assert len(RELEASE.fingerprint) == 12


def test_one_changed_word_changes_the_fingerprint(tmp_path: Path) -> None:
    folder = copy_set(tmp_path)
    (folder / "system.txt").write_text("You are a helpful assistant")
    assert load_prompt_set(folder).fingerprint != RELEASE.fingerprint


def test_own_set_takes_what_it_lacks_from_its_base(tmp_path: Path) -> None:
    (tmp_path / "base.txt").write_text("paper\n")
    (tmp_path / "system.txt").write_text("Look closely.")
    prompts = load_prompt_set(str(tmp_path))
    assert prompts.system == "Look closely."
    assert prompts.perceiver(make_sample()) == PAPER.perceiver(make_sample())
    assert prompts.judge(make_sample(target="x"), "y") == RELEASE.judge(make_sample(target="x"), "y")


def test_missing_file_is_named(tmp_path: Path) -> None:
    folder = copy_set(tmp_path)
    (folder / "reasoner.txt").unlink()
    with pytest.raises(ConfigError, match=r"lacks the file reasoner\.txt") as caught:
        load_prompt_set(folder)
    assert "base.txt" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [("{question} {color}", r"unknown placeholder \{color\}"), ("Look.", r"lacks the placeholder \{question\}")],
)
def test_wrong_placeholders_are_refused(text: str, message: str, tmp_path: Path) -> None:
    folder = copy_set(tmp_path)
    (folder / "perceiver.txt").write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_prompt_set(folder)
    assert caught.value.hint


def test_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    folder = copy_set(tmp_path)
    (folder / "system.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_prompt_set(folder)


def test_sections_are_asked_for_in_order_and_the_answer_last() -> None:
    sections = load_prompt_set("pebr_r1")
    sample = Sample(id="s1", image=IMAGE, question="What color?", options=("red", "blue"), answer_form="choice")
    text = sections.thinking(sample)
    assert text == sections.reasoner_without_evidence(sample)
    headings = (*HEADINGS[:2], "### Let's think step by step.", *HEADINGS[2:])
    places = [text.index(f"{heading}\n") for heading in headings]
    assert places == sorted(places) and has_all_sections(text)
    assert text.endswith("Question: What color?\nOptions:\nA. red\nB. blue")
    assert "<answer>" not in text
    assert sections.perceiver(sample) == RELEASE.perceiver(sample)


def test_unknown_set_names_the_shipped_ones() -> None:
    with pytest.raises(ConfigError, match="'relase' is neither") as caught:
        load_prompt_set("relase")
    assert "paper, pebr_r1, release" in caught.value.hint


def test_unknown_base_is_refused(tmp_path: Path) -> None:
    (tmp_path / "base.txt").write_text("mine")
    with pytest.raises(ConfigError, match="'mine', which is not a shipped prompt set"):
        load_prompt_set(tmp_path)


def test_windows_line_ends_change_nothing(tmp_path: Path) -> None:
    folder = copy_set(tmp_path)
    for file in folder.glob("*.txt"):
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert load_prompt_set(folder).fingerprint == RELEASE.fingerprint


def test_no_shipped_file_is_unknown() -> None:
    for folder in (SHIPPED_SETS / name for name in ("release", "paper", "pebr_r1")):
        assert {file.stem for file in folder.iterdir()} <= {*PLACEHOLDERS, "base"}


@pytest.mark.parametrize("token", ["<|im_end|>", "<|im_start|>", "<|image_pad|>", "<|endoftext|>", "<|box_start|>"])
@pytest.mark.parametrize("options", [(), ("red", "blue {token}")])
def test_special_tokens_are_refused_in_question_and_options(token: str, options: tuple[str, ...]) -> None:
    options = tuple(option.format(token=token) for option in options)
    question = "What color?" if options else f"What is {token}?"
    sample = Sample(id="s1", image=IMAGE, question=question, options=options)
    with pytest.raises(DataError, match=r"holds <.*>, a special token of the model"):
        question_text(sample)


@pytest.mark.parametrize("question", ["What does <|stop|> say?", "Is a <|b true?", "Which box_start?"])
def test_other_marks_in_a_question_are_asked(question: str) -> None:
    assert question_text(Sample(id="s1", image=IMAGE, question=question)) == question
