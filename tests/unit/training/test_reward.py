"""Reward terms, and how they become one number."""

from __future__ import annotations

import pytest

from p2r.boxes import parse_boxes
from p2r.config import RewardSettings
from p2r.training.reward import box_terms, form_terms, is_vetoed, punish_length, total_reward
from p2r.types import Perception


def look(reply: str) -> dict[str, float]:
    boxes, parse = parse_boxes(reply)
    return box_terms(Perception(source="model:x", boxes=boxes, parse=parse))


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


def test_a_veto_takes_everything_and_an_unknown_answer_has_no_reward() -> None:
    release, paper, vetoed = RewardSettings(), RewardSettings(set="paper"), {"correct": 1.0, "overlap_penalty": 1.0}
    assert is_vetoed(vetoed, release) and total_reward(vetoed, release, 5, 100) == 0.0
    assert total_reward({"correct": 1.0, "overlap_penalty": 0.0}, release, 5, 100) == 1.0
    assert total_reward({"overlap_penalty": 0.0}, release, 5, 100) is None
    assert not is_vetoed(vetoed, paper) and total_reward(vetoed, paper, 5, 100) == 1.0


def test_terms_are_weighed_by_name() -> None:
    settings = RewardSettings(weights={"correct": 1.0, "format": 0.25}, vetoes=())
    assert total_reward({"correct": 0.0, "format": 1.0, "label_penalty": 1.0}, settings, 5, 100) == 0.25


def test_overlong_replies_are_punished_softly() -> None:
    assert [punish_length(tokens, 100, 0.2) for tokens in (10, 80, 90, 100)] == [0.0, 0.0, -0.5, -1.0]
    assert total_reward({"correct": 1.0}, RewardSettings(overlong=0.5), 90, 100) == pytest.approx(0.75)
    assert total_reward({"overlap_penalty": 1.0}, RewardSettings(overlong=0.5), 90, 100) == pytest.approx(-0.25)
