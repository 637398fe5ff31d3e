"""The nano tokenizer: numbers lose no digit; letters and the characters of codes are the same tokens everywhere."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from p2r.benchmarks.needles import Needles, draw_question
from p2r.benchmarks.needles.codes import CHARACTERS
from p2r.benchmarks.needles.knobs import Knobs
from p2r.types import Box
from recipes.nano.rows import box_reply
from recipes.nano.tokenizer import build_tokenizer
from recipes.nano.wording import LAYOUTS, SHIPPED, TRAINED, UNTRAINED, UNTRAINED_LAYOUTS, state_question

TOKENIZER = build_tokenizer(SHIPPED, TRAINED.all_texts())
ROLES = ("perceiver", "reasoner", "reasoner_without_evidence", "thinking", "direct")


def tokens(text: str) -> list[str]:
    return [TOKENIZER.decode([token]) for token in TOKENIZER.encode(text)]


def boxes(*corners: tuple[int, int, int, int]) -> str:
    return box_reply([Box(x1=a, y1=b, x2=c, y2=d, label="red star") for a, b, c, d in corners])


def test_hundreds_digit_opens_a_number_and_two_digits_follow() -> None:
    assert tokens(boxes((220, 605, 360, 999)))[1:-4] == [
        "[2",
        "2",
        "0",
        ", 6",
        "0",
        "5",
        ", 3",
        "6",
        "0",
        ", 9",
        "9",
        "9",
    ]


def test_bare_opener_begins_a_number_below_a_hundred() -> None:
    assert tokens(boxes((20, 5, 99, 100)))[1:-4] == ["[", "2", "0", ", ", "5", ", ", "9", "9", ", 1", "0", "0"]


def test_second_box_is_written_like_the_first() -> None:
    first, second = tokens(boxes((220, 45, 360, 190), (220, 45, 360, 190))), tokens(boxes((220, 45, 360, 190)))
    assert first.count("[2") == 2
    assert first[1:11] == second[1:11]


@pytest.mark.parametrize("number", [*range(1, 12), 99, 100, 101, 220, 999])
def test_each_number_begins_with_one_of_ten_tokens_at_either_place(number: int) -> None:
    openers = [set(tokens(f"{opener}{number},")[:1]) for opener in ("[", ", ")]
    digit = str(number)[0] if number > 99 else ""
    assert openers == [{f"[{digit}"}, {f", {digit}"}]


@pytest.mark.parametrize("code", ["K7X2", "HJ4XY", "CDF3L6", "T22P", "KLNV", CHARACTERS])
@pytest.mark.parametrize("text", ["{}", "A. {}\nB. x", "<answer>{}</answer>", "red star: {}, plain", "({})"])
def test_each_character_of_a_code_is_a_token_of_its_own(code: str, text: str) -> None:
    ids = TOKENIZER.encode(text.format(code))
    alone = [TOKENIZER.encode(character)[0] for character in code]
    assert any(ids[k : k + len(code)] == alone for k in range(len(ids)))


@pytest.mark.parametrize("layout", [*LAYOUTS, *UNTRAINED_LAYOUTS])
def test_letter_of_an_option_is_the_same_token_in_every_layout(layout: str) -> None:
    _, question = draw_question(np.random.RandomState(4), Knobs(), "pair", choice=True)
    text, marks = state_question(question, LAYOUTS.get(layout) or UNTRAINED_LAYOUTS[layout])
    turn = TOKENIZER(text, return_offsets_mapping=True)
    for mark, letter in zip(marks, "ABCD", strict=True):
        place = next(k for k, (a, b) in enumerate(turn["offset_mapping"]) if a <= mark.letter < b)
        assert turn["input_ids"][place] == TOKENIZER.encode(letter)[0]


@pytest.mark.parametrize("key", ROLES)
def test_prompts_survive_the_round_trip(key: str) -> None:
    sample = Needles(seed=3, num_samples=6)[3]
    for prompts in (*SHIPPED, *(TRAINED.pick(k) for k in range(30)), *(UNTRAINED.pick(k) for k in range(30))):
        text = getattr(prompts, key)(sample)
        assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_shipped_prompts_are_short() -> None:
    sample = Needles(seed=3, num_samples=6)[4]
    assert max(len(TOKENIZER.encode(getattr(SHIPPED[0], key)(sample))) for key in ROLES) < 60
