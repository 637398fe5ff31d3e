"""Training rows: where attention should point in any wording, what weighs, and what a question sees."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from p2r.answers.sections import has_all_sections
from p2r.benchmarks.needles import draw_question, to_sample
from p2r.benchmarks.needles.knobs import Family, Knobs
from p2r.boxes import parse_boxes
from recipes.nano.batch import attention_bias
from recipes.nano.encode import Features
from recipes.nano.language import _sometimes_vary
from recipes.nano.pool import View
from recipes.nano.rows import (
    BOX_TO_NAME,
    FACT_TO_CROP,
    FACT_TO_OPTION,
    LETTER_TO_FACT,
    NAME_TO_OBJECT,
    REASON,
    WORD_TO_LETTER,
    Row,
    RowMaker,
    reasoner_reply,
    sections_reply,
)
from recipes.nano.tokenizer import build_tokenizer
from recipes.nano.wording import SHIPPED, TRAINED

TOKENIZER = build_tokenizer(SHIPPED, TRAINED.all_texts())
MAKER = RowMaker(TOKENIZER)
WHOLE = View(np.zeros((0, 0), np.uint8), (8, 8), (0.0, 0.0), (0.25, 0.25))
SEEN = Features(torch.zeros(64, 4), torch.zeros(2, 64, 4))


def read(row: Row, place: int) -> str:
    return TOKENIZER.decode([row.ids[place]]).strip()


def pointers(row: Row, kind: int) -> list[tuple[int, int]]:
    return [(query, key) for slot, query, key in row.pointers if slot == kind]


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("family", ["attribute", "pair"])
def test_words_of_an_option_point_at_its_letter_in_any_wording(family: Family, seed: int) -> None:
    rng = np.random.RandomState(seed)
    scene, question = draw_question(rng, Knobs(), family, choice=True)
    row = MAKER.open_row(rng, [], [])
    MAKER.add_lookup(row, rng, scene, question)
    found: dict[str, list[str]] = {}
    for word, letter in pointers(row, WORD_TO_LETTER):
        found.setdefault(read(row, letter), []).append(read(row, word))
    stated = {letter: option.split(" and ") for letter, option in zip("ABCD", question.options, strict=False)}
    assert found == stated
    targets = [read(row, key) for _, key in pointers(row, FACT_TO_OPTION)]
    assert targets == question.answer.split(" and ")
    assert all(read(row, query) == "<answer>" for query, _ in pointers(row, LETTER_TO_FACT))


@pytest.mark.parametrize("seed", range(25))
def test_name_points_at_its_object_and_its_box_and_label_at_the_name(seed: int) -> None:
    rng = np.random.RandomState(seed)
    scene, question = draw_question(rng, Knobs(), "pair", choice=bool(seed % 2))
    row = MAKER.open_row(rng, [WHOLE], [SEEN])
    MAKER.add_perceiver(row, rng, scene, question, WHOLE)
    items = [scene.objects[subject] for subject in question.subjects]
    looked = pointers(row, NAME_TO_OBJECT)
    assert [read(row, name) for name, _ in looked] == [item.shape for item in items]
    for (_, place), item in zip(looked, items, strict=True):
        cell = place - row.image_starts[0]
        assert (cell % 8, cell // 8) == (item.x // 128, item.y // 128)
    told: dict[int, list[int]] = {}
    for place, name in pointers(row, BOX_TO_NAME):
        told.setdefault(name, []).append(row.labels[place])
    for (name, _), item in zip(looked, items, strict=True):
        assert parse_boxes(f'[{{"bbox_2d": {TOKENIZER.decode(told[name])}"}}]')[0][0].label == item.name


def split_name(label: str) -> list[str]:
    color, shape = label.split()
    return [color, f" {shape}"]


@pytest.mark.parametrize("seed", range(20))
def test_first_choice_of_each_coordinate_weighs_most(seed: int) -> None:
    rng = np.random.RandomState(seed)
    scene, question = draw_question(rng, Knobs(), "pair", choice=False)
    row = MAKER.open_row(rng, [WHOLE], [SEEN])
    MAKER.add_perceiver(row, rng, scene, question, WHOLE)
    reply = [
        (TOKENIZER.decode([label]), weight) for label, weight in zip(row.labels, row.weights, strict=True) if label >= 0
    ]
    assert sum(weight == 4.0 for _, weight in reply) == 8
    assert all(text[0] in "[," for text, weight in reply if weight == 4.0)
    boxes = parse_boxes(TOKENIZER.decode([label for label in row.labels if label >= 0], skip_special_tokens=True))[0]
    digits = sum(len(str(int(value))) for box in boxes for value in box.xyxy)
    hundreds = sum(value > 99 for box in boxes for value in box.xyxy)
    assert sum(weight in (2.0, 1.2) for _, weight in reply) == digits - hundreds
    assert sum(weight == 1.2 for _, weight in reply) == 8
    assert [text for text, weight in reply if weight == 1.0] == [
        part for box in boxes for part in split_name(box.label)
    ]


def test_sections_hold_the_same_facts() -> None:
    scene, question = draw_question(np.random.RandomState(5), Knobs(), "relation", choice=True)
    sample = to_sample(scene, question, "")
    thought = reasoner_reply(scene, question, sample).removeprefix("<think>").partition("</think>")[0]
    reply = sections_reply(scene, question, sample)
    assert has_all_sections(reply) and thought in reply and reply.endswith(f"\n{question.target}")


def test_question_sees_the_prefix_and_itself() -> None:
    bias = attention_bias(torch.tensor([[0, 0, 1, 1, 2, 2]]))[0, 0]
    allowed = (bias == 0).int().tolist()
    assert allowed[5] == [1, 1, 0, 0, 1, 1]
    assert allowed[2] == [1, 1, 1, 0, 0, 0]


def test_rows_sometimes_lack_the_system_turn() -> None:
    starts = {TOKENIZER.decode(MAKER.open_row(np.random.RandomState(seed), [], []).ids) for seed in range(60)}
    assert "<|im_start|>user\n" in starts
    assert f"<|im_start|>system\n{SHIPPED[0].system}<|im_end|>\n<|im_start|>user\n" in starts
    assert len(starts) > 4


def test_reasoning_is_labelled_as_such() -> None:
    rng = np.random.RandomState(0)
    scene, question = draw_question(rng, Knobs(), "attribute", choice=True)
    row = MAKER.open_row(rng, [WHOLE, WHOLE], [SEEN, SEEN])
    MAKER.add_reasoner(row, rng, scene, question, [WHOLE])
    assert {kind for kind, label in zip(row.kinds, row.labels, strict=True) if label >= 0} == {REASON}


@pytest.mark.parametrize("seed", range(6))
def test_each_fact_is_read_from_the_crop_of_its_object(seed: int) -> None:
    rng = np.random.RandomState(seed)
    scene, question = draw_question(rng, Knobs(), "pair", choice=False)
    items = [scene.objects[subject] for subject in question.subjects]
    crops = [View(np.zeros((0, 0), np.uint8), (2, 2), (item.x - 32, item.y - 32), (1.0, 1.0)) for item in items]
    small = Features(torch.zeros(4, 4), torch.zeros(2, 4, 4))
    row = MAKER.open_row(rng, [WHOLE, *crops], [SEEN, small, small])
    MAKER.add_reasoner(row, rng, scene, question, crops)
    found = pointers(row, FACT_TO_CROP)
    assert [TOKENIZER.decode([row.labels[fact]]).strip() for fact, _ in found] == [item.pattern for item in items]
    assert [place - start for (_, place), start in zip(found, row.image_starts[1:], strict=True)] == [3, 3]


@pytest.mark.parametrize("seed", range(8))
def test_yes_or_no_follows_from_the_pattern_that_was_seen(seed: int) -> None:
    rng = np.random.RandomState(seed)
    scene, question = draw_question(rng, Knobs(families=("absent",)), "absent", choice=bool(seed % 2))
    seen = scene.objects[question.subjects[0]].pattern
    row = MAKER.open_row(rng, [], [])
    MAKER.add_lookup(row, rng, scene, question)
    assert f": {seen}, " in reasoner_reply(scene, question, to_sample(scene, question, ""))
    compared, *found = pointers(row, FACT_TO_OPTION)
    assert read(row, compared[0]) in question.text and read(row, compared[1]) == seen
    concluded, *answered = pointers(row, LETTER_TO_FACT)
    assert row.labels[concluded[0]] == TOKENIZER.encode(f" {question.answer}", add_special_tokens=False)[0]
    assert [read(row, key) for _, key in answered] == [question.answer] * len(question.options[:1])
    assert [read(row, key) for _, key in found] == [question.answer] * len(question.options[:1])


def test_the_same_objects_are_asked_about_in_another_way() -> None:
    rng = np.random.RandomState(3)
    for family, words in (("attribute", "Is there a"), ("pair", "How many of"), ("relation", "Is the ")):
        scene, question = draw_question(rng, Knobs(), family, choice=True)
        other = _sometimes_vary(rng, scene, question, 1.0)
        assert other.text.startswith(words) and other.subjects == question.subjects
        assert _sometimes_vary(rng, scene, question, 0.0) is question
