"""The scorers of other systems, repeated: the same readings as their public code."""

from __future__ import annotations

import json
from typing import Any

import pytest

from p2r.answers import Scorer, extract_answer
from p2r.answers.peers import first_zwz_letter, judge_like_deepeyes, read_zwz
from p2r.boxes import read_tagged_boxes, tagged_iou
from p2r.images.load import MemoryImage
from p2r.judges import rule_for
from p2r.types import Box, Sample
from tests.golden.rows import make_background, read_rows

IMAGE_WH = (5000, 4000)
BARE = MemoryImage(make_background(8, 8))


def cases(name: str) -> list[Any]:
    """The rows of a file, whose first line says where they are from."""
    source, *rows = read_rows(f"peers_{name}")
    assert source["source"]["repo"]
    return [pytest.param(row, id=json.dumps(row)[:80]) for row in rows]


def read_letter(scorer: Scorer, reply: str, options: tuple[str, ...] = ()) -> str:
    return extract_answer(reply, "choice", options, scorer=scorer).letter or ""


@pytest.mark.parametrize("row", cases("vlmevalkit_mme_letter"))
def test_vlmevalkit(row: dict[str, Any]) -> None:
    assert read_letter("vlmevalkit", row["reply"]) == row["out"]


@pytest.mark.parametrize("row", cases("zoomeye_mme_letter"))
def test_zoomeye_reads_as_mme_realworlds_own_script(row: dict[str, Any]) -> None:
    options = tuple(choice.split(" ", 1)[1] for choice in row["choices"])
    assert read_letter("mme_official", row["reply"], options) == row["out"]


@pytest.mark.parametrize("row", cases("mini_o3_score"))
def test_mini_o3(row: dict[str, Any]) -> None:
    assert (read_letter("mini_o3", row["reply"]) == row["target"]) == bool(row["out"])


@pytest.mark.parametrize("row", cases("lmms_vstar_letter"))
def test_lmms_eval(row: dict[str, Any]) -> None:
    assert read_letter("lmms_eval", row["reply"]) == (row["out"] or "")


@pytest.mark.parametrize("row", cases("zoomeye_hr_letter"))
def test_zoomeye_on_hrbench(row: dict[str, Any]) -> None:
    assert extract_answer(row["reply"], "choice", scorer="zoomeye").text == row["out"]


@pytest.mark.parametrize("row", cases("deepeyes_judge_rule"))
def test_deepeyes(row: dict[str, Any]) -> None:
    option = row["right_option_text"]
    right = judge_like_deepeyes(row["pred_ans"], "A", option)
    assert right == {1.0: True, 0.0: False, "model": None}[row["out"]]
    assert (read_letter("deepeyes", row["pred_ans"], (option, "It is blue.")) == "A") == (right is True)


@pytest.mark.parametrize("row", cases("treevgr_treebench"))
def test_treevgr(row: dict[str, Any]) -> None:
    if "out_answer" in row:
        answer = extract_answer(row["reply"], "choice", scorer="treevgr")
        assert answer.text == row["out_answer"]
        assert answer.letter == (row["out_answer"] if row["out_answer"] in ("A", "B") else None)
        return
    width, height = IMAGE_WH
    gold = [
        Box(x1=x1 / width * 1000, y1=y1 / height * 1000, x2=x2 / width * 1000, y2=y2 / height * 1000)
        for x1, y1, x2, y2 in row["gold_xyxy_px"]
    ]
    assert tagged_iou(row["reply"], gold, IMAGE_WH) == pytest.approx(row["out_iou"], abs=1e-12)


@pytest.mark.parametrize("row", cases("zwz_judge_rule"))
def test_zwz(row: dict[str, Any]) -> None:
    answer = read_zwz(row["reply"])
    assert answer.text == row["extracted"]
    assert first_zwz_letter(row["extracted"]) == row["first_option"]
    if row["target"] in ("B", "(B)"):
        right = row["mathruler"] or row["letter_match"]
        assert (answer.letter == row["target_option"]) == right
    elif not row["target_option"]:
        sample = Sample(id="open", image=BARE, question="?", target=row["target"])
        assert rule_for(sample).compare(sample, answer, ()).correct == row["mathruler"]


def test_a_long_reply_without_a_capital_names_no_option() -> None:
    option = "it is on the left side of the tree near the house"
    assert read_letter("mme_official", "on the left side of the tree near", (option, "no")) == "A"
    assert read_letter("mme_official", option, (option, "no")) == ""


def test_a_box_tag_may_span_lines_but_its_box_comes_first() -> None:
    assert read_tagged_boxes("<box>\n[1,2,3,4]\nthe cat</box><box>a [5,6,7,8]</box>") == [(1, 2, 3, 4)]
    assert read_tagged_boxes("<box>[1,2,1,4]</box><box>[1,2,3,2]</box>") == []


@pytest.mark.parametrize("num_digits", [15, 16, 18, 400])
def test_a_box_of_very_large_numbers_is_scored(num_digits: int) -> None:
    right = "9" * num_digits
    reply = f"<box>[{right[:-1]}8,0,{right},9]</box>"
    assert tagged_iou(reply, [Box(x1=0, y1=0, x2=9, y2=9)], IMAGE_WH) == 0


def test_only_a_letter_alone_is_a_choice_to_treevgr() -> None:
    assert [read_letter("treevgr", reply) for reply in ("b", "B", "<answer> c\n</answer>", "BC", "", "3")] == list(
        "BBC"
    ) + [""] * 3


def test_vlmevalkit_reads_inside_the_first_tag_in_capitals() -> None:
    assert read_letter("vlmevalkit", "<think>A cat.</think><answer>d</answer><answer>E</answer>") == "D"


def test_lmms_eval_looks_in_one_place_after_the_other() -> None:
    replies = {"My choice: it is (D)": "D", "option  c, not (A)": "C", "It is b] here": "B", "c is it": "C"}
    replies |= {"Its answer is C, not (A)": "C", "It is *D . Bad": "D"}
    replies |= {"I see B there": "B", "See D .": "D", "(A) or option B": "B", "It is E": "", "A<br>": "A"}
    assert {reply: read_letter("lmms_eval", reply) for reply in replies} == replies


def test_zoomeye_takes_a_single_character_as_it_is() -> None:
    assert [read_letter("zoomeye", reply) for reply in ("E", "e", "a", "E.", "Ed")] == ["E", "", "", "", ""]
    assert [extract_answer(reply, "choice", scorer="zoomeye").text for reply in "e7"] == ["e", "7"]


def test_deepeyes_reads_its_first_tag_and_any_option() -> None:
    options = ("red", "blue")
    replies = {"<answer> B </answer><answer>A</answer>": "B", "B. blue, not A. red": "A", "so B. blue": "B"}
    replies |= {"<answer>B": "", "b": "", ".B": "B", "C": "", "B: blue": "", "\\boxed{B. blue}": "B", "\\boxed": ""}
    replies |= {"<answer>A<answer>B</answer>": "A", "B</answer>": ""}
    assert {reply: read_letter("deepeyes", reply, options) for reply in replies} == replies
