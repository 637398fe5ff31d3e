"""Reward terms, and how they become one number."""

from __future__ import annotations

import pytest

from p2r.boxes import parse_boxes
from p2r.config import ActiveRole, RewardSettings
from p2r.training.rewards.built_in import box_terms, form_terms, gold_terms
from p2r.training.rewards.reward import is_vetoed, punish_length, total_reward
from p2r.types import Box, Perception
from tests.fakes.training import make_sample


def perceive(reply: str) -> Perception:
    boxes, parse = parse_boxes(reply)
    return Perception(source="model:x", boxes=boxes, parse=parse)


def look(reply: str) -> dict[str, float]:
    return box_terms(perceive(reply))


def box(x1: int, y1: int, x2: int, y2: int, label: str = "sail") -> str:
    return f'{{"bbox_2d": [{x1}, {y1}, {x2}, {y2}], "label": "{label}"}}'


@pytest.mark.parametrize(
    ("reply", "overlap"),
    [
        (f"[{box(100, 100, 200, 200)}, {box(100, 100, 200, 300)}]", 0.0),  # IoU exactly 0.5
        (f"[{box(100, 100, 200, 200)}, {box(100, 100, 200, 299)}]", 1.0),
        (f"[{box(100, 100, 200, 200)}, {box(100, 100, 200, 200, 'b')}]", 1.0),  # equal: only the first is kept
        (f"[{box(100, 100, 200, 200)}]", 0.0),
        ("[]", 0.0),
    ],
)
def test_boxes_that_overlap_by_more_than_half_are_an_overlap(reply: str, overlap: float) -> None:
    assert look(reply)["overlap_penalty"] == overlap


@pytest.mark.parametrize(
    ("label", "penalty"), [("sail", 0.0), ("", 1.0), ("  ", 1.0), ("Description", 1.0), ("<description>", 1.0)]
)
def test_a_label_has_to_say_something(label: str, penalty: float) -> None:
    assert look(f"[{box(1, 1, 9, 9, label)}]")["label_penalty"] == penalty


def test_format_is_json_as_it_stands_and_count_is_what_is_cut_out() -> None:
    assert look(f"[{box(1, 1, 9, 9)}]") == {"overlap_penalty": 0, "label_penalty": 0, "format": 1, "count": 1}
    assert look(f"Here: [{box(1, 1, 9, 9)}, ")["format"] == 0
    four = ", ".join(box(100 * place, 1, 100 * place + 50, 9) for place in range(4))
    assert look(f"[{four}]")["count"] == 0
    assert look("[]")["count"] == 0


def test_an_answer_has_form_with_a_thought_and_an_answer() -> None:
    assert form_terms("<think>so</think>\n<answer>A</answer>\n") == {"format": 1.0}
    assert form_terms("<answer>A</answer>") == {"format": 0.0}
    assert form_terms("<think>so</think><answer>A</answer> I hope") == {"format": 0.0}


KNOWN = {"correct": 1.0, "format": 1.0, "overlap_penalty": 0.0, "label_penalty": 0.0}


def total(
    settings: RewardSettings, num_tokens: int = 5, role: ActiveRole = "perceiver", **changes: float | None
) -> float | None:
    terms = {name: value for name, value in {**KNOWN, **changes}.items() if value is not None}
    return total_reward(terms, settings, role, num_tokens, 100)


def test_a_veto_takes_everything_and_an_unknown_answer_has_no_reward() -> None:
    release, paper = RewardSettings(), RewardSettings(set="paper")
    assert total(release) == 1.0
    assert is_vetoed({"overlap_penalty": 1.0}, release) and total(release, overlap_penalty=1.0) == 0.0
    assert total(release, overlap_penalty=1.0, correct=None) == 0.0
    assert total(release, correct=None) is None
    assert not is_vetoed({"overlap_penalty": 1.0}, paper) and total(paper, overlap_penalty=1.0) == 1.0


def test_a_veto_that_is_not_known_leaves_no_reward() -> None:
    settings = RewardSettings(vetoes=("format", "a.py:bad"))
    assert total(settings, format=0.0) is None
    assert total(settings, format=1.0) == 0.0


def test_terms_are_weighed_by_name() -> None:
    settings = RewardSettings(terms={"correct": 1.0, "format": 0.25}, vetoes=())
    assert total(settings, correct=0.0, label_penalty=1.0) == 0.25


def test_a_term_of_weight_zero_is_only_recorded() -> None:
    settings = RewardSettings(terms={"format": 0.25, "a.py:short": 0.0}, vetoes=())
    assert total(settings, correct=None) == 0.25


def test_terms_about_boxes_do_not_count_for_answers() -> None:
    settings = RewardSettings(terms={"correct": 1.0, "count": 0.5, "box_iou": 2.0})
    assert total(settings, role="reasoner") == 1.0
    assert total(settings, count=1.0) is None
    assert total(settings, count=1.0, box_iou=0.25) == 2.0


def test_overlong_replies_are_punished_softly() -> None:
    assert [punish_length(tokens, 100, 0.2) for tokens in (10, 80, 90, 100)] == [0.0, 0.0, -0.5, -1.0]
    assert total(RewardSettings(overlong=0.5), num_tokens=90) == pytest.approx(0.75)
    assert total(RewardSettings(overlong=0.5), num_tokens=90, overlap_penalty=1.0) == pytest.approx(-0.25)


GOLD = Box(x1=100, y1=100, x2=200, y2=200)


@pytest.mark.parametrize(
    ("reply", "value"),
    [(f"[{box(100, 100, 200, 200)}]", 1.0), (f"[{box(100, 100, 200, 150)}]", 0.5), ("[]", 0.0), ("no box", 0.0)],
)
def test_boxes_are_rated_by_how_they_fit_the_gold_boxes(reply: str, value: float) -> None:
    assert gold_terms(perceive(reply), make_sample(gold_boxes=(GOLD,)))["box_iou"] == value


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ("[]", 1.0),
        ("```json\n[]\n```", 1.0),
        (f"[{box(1, 1, 9, 9)}]", 0.0),
        ("There is no sail.", 0.0),
        ("", 0.0),
        ('[{"bbox_2d": [9, 9, 1, 1]}]', 0.0),
        ('[{"bbox_2d": [4000, 1, 9000, 9]}]', 0.0),
    ],
)
def test_where_nothing_is_to_be_found_only_an_empty_list_is_right(reply: str, value: float) -> None:
    assert gold_terms(perceive(reply), make_sample(nothing_there=True)) == {"box_iou": value, "box_f1": value}


def test_without_gold_boxes_nothing_is_known_of_how_boxes_fit() -> None:
    assert gold_terms(perceive("[]"), make_sample()) == {}
