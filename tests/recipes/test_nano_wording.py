"""In which words nano is trained: every layout that p2r writes, and paraphrases that keep their placeholders."""

from __future__ import annotations

import re

import numpy as np
import pytest

pytest.importorskip("torch")

from p2r.benchmarks.needles import draw_question, to_sample
from p2r.benchmarks.needles.knobs import Knobs
from p2r.benchmarks.needles.questions import Question
from p2r.benchmarks.needles.scene import Scene
from p2r.benchmarks.options import join_question
from p2r.prompts import PLACEHOLDERS, question_text
from recipes.nano.wording import (
    LAYOUTS,
    RELEASE,
    TRAINED,
    UNTRAINED,
    UNTRAINED_LAYOUTS,
    Style,
    ask_for_count,
    disturb,
    draw_style,
    is_count,
    state_question,
    word_sample,
)


def draw(seed: int = 0) -> tuple[Scene, Question]:
    return draw_question(np.random.RandomState(seed), Knobs(), "pair", choice=True)


@pytest.mark.parametrize("name", [*LAYOUTS, *UNTRAINED_LAYOUTS])
def test_marks_are_where_letters_and_options_are(name: str) -> None:
    _, question = draw()
    layout = LAYOUTS.get(name) or UNTRAINED_LAYOUTS[name]
    text, marks = state_question(question, layout, "Answer with a letter.")
    assert "".join(text[mark.letter] for mark in marks) == "ABCD"
    assert tuple(text[mark.start : mark.end] for mark in marks) == question.options
    assert text.startswith(question.text) and text.endswith("\nAnswer with a letter.")


def test_layouts_are_those_of_the_product() -> None:
    scene, question = draw()
    asked = {name: state_question(question, layout)[0] for name, layout in LAYOUTS.items()}
    assert asked["headed"] == question_text(to_sample(scene, question, ""))
    assert asked["vstar"] == join_question(question.text, question.options)
    assert asked["mme"] == join_question(question.text, question.options, heading="Options:")


def test_worded_sample_states_its_options_and_keeps_the_target() -> None:
    scene, question = draw()
    sample, _ = word_sample(scene, question, Style(RELEASE, LAYOUTS["lmms"]))
    assert sample.options_in_question and sample.options == question.options
    assert question_text(sample) == sample.question
    assert sample.target == question.target


def test_open_question_has_no_options_and_no_heading() -> None:
    scene, question = draw_question(np.random.RandomState(1), Knobs(), "attribute", choice=False)
    sample, marks = word_sample(scene, question, Style(RELEASE, closing="Be brief."))
    assert (sample.question, marks) == (f"{question.text}\nBe brief.", [])
    assert sample.answer_form == "free_form" and not sample.options_in_question


def test_count_is_a_number_of_the_two_objects() -> None:
    answers = set()
    for seed in range(40):
        scene, pair = draw(seed)
        question = ask_for_count(np.random.RandomState(seed), scene, pair)
        pattern = re.fullmatch(r"How many of .* are (\w+)\?", question.text)
        assert pattern and is_count(question) and not is_count(pair)
        assert question.answer == str(sum(scene.objects[k].pattern == pattern[1] for k in question.subjects))
        assert word_sample(scene, question, Style(RELEASE))[0].answer_form == "number"
        answers.add(question.answer)
    assert answers >= {"0", "1"}


def test_thirty_paraphrases_of_each_role_are_trained_and_thirty_others_are_not() -> None:
    for role in ("perceiver", "reasoner", "thinking", "direct"):
        trained, untrained = set(TRAINED.texts[role]), set(UNTRAINED.texts[role])
        assert len(trained) == len(untrained) == 30
        assert not trained & untrained


@pytest.mark.parametrize("number", [0, 7, 31])
def test_picked_set_has_the_paraphrase_of_its_number_everywhere(number: int) -> None:
    texts = TRAINED.pick(number).texts
    for key in ("perceiver", "reasoner", "thinking", "direct", "answer_choice"):
        assert texts[key] == TRAINED.texts[key][number % len(TRAINED.texts[key])]
    assert texts["reasoner_without_evidence"] == texts["thinking"]
    assert texts["system"] == TRAINED.texts["systems"][number % 5]
    assert texts.keys() == RELEASE.texts.keys()


@pytest.mark.parametrize("wordings", [TRAINED, UNTRAINED])
def test_paraphrases_hold_the_placeholders_of_a_prompt_set_alone(wordings: object) -> None:
    for key, texts in wordings.texts.items():  # pyright: ignore[reportAttributeAccessIssue]
        for text in texts:
            found = set(re.findall(r"\{(\w+)\}", text))
            assert found <= PLACEHOLDERS.get(key, set()) and (not PLACEHOLDERS.get(key) or "question" in found), text


@pytest.mark.parametrize("seed", range(12))
def test_disturbed_prompt_keeps_placeholders_tags_and_lines(seed: int) -> None:
    rng, text = (
        np.random.RandomState(seed),
        "Look at it.\n{question}\nWrite <think> </think> now, please.\n{answer_form}",
    )
    after = disturb(rng, text)
    for part in ("{question}", "{answer_form}", "<think>", "</think>"):
        assert after.count(part) == 1
    assert after.count("\n") == text.count("\n")


def test_disturbing_drops_shuffles_and_adds() -> None:
    text = "one two three four five six seven eight nine ten {question}"
    after = [disturb(np.random.RandomState(seed), text).split() for seed in range(60)]
    assert any(len(words) < 11 for words in after)
    assert any(len(words) > 11 for words in after)
    assert any(sorted(words) == sorted(text.split()) and words != text.split() for words in after)


def test_styles_come_from_sets_paraphrases_and_layouts() -> None:
    styles = [draw_style(np.random.RandomState(seed)) for seed in range(400)]
    names = [style.prompts.texts["perceiver"] for style in styles]
    assert 0.12 < np.mean([name == RELEASE.texts["perceiver"] for name in names]) < 0.3
    assert len(set(names)) > 60
    assert {style.layout for style in styles} == set(LAYOUTS.values())
    assert not {style.layout for style in styles} & set(UNTRAINED_LAYOUTS.values())
    assert set(names) & set(UNTRAINED.texts["perceiver"]) == set()
    assert 0.25 < np.mean([bool(style.closing) for style in styles]) < 0.55
