"""Replies and what a careful reader makes of them: right, wrong, or a target that cannot be judged by.

The rows of the files `..._held_out` were written before the rules. "refused": the target is no number, whatever the
reply says. A target of null: the reply gives no answer. The order of words counts: "checked and striped" may say what
is left and what is right.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from p2r.answers import extract_answer
from p2r.errors import JudgeError
from p2r.images.load import MemoryImage
from p2r.judges import rule_for
from p2r.judges.yes_or_no import read_yes_or_no
from p2r.types import AnswerForm, Completion, Sample

IMAGE = MemoryImage(Image.new("RGB", (8, 8)))


def read_cases(*names: str) -> list[dict[str, Any]]:
    folder = Path(__file__).parent / "cases"
    lines = [line for name in names for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
    return [json.loads(line) for line in lines]


def judge_reply(reply: str, target: str, form: AnswerForm) -> bool | str:
    sample = Sample("s1", IMAGE, "How many?", answer_form=form, target=target)
    try:
        return rule_for(sample).compare(sample, extract_answer(reply, form), ()).correct
    except JudgeError:
        return "refused"


@pytest.mark.parametrize("row", read_cases("number", "number_held_out"), ids=lambda row: row["reply"])
def test_number_is_judged_as_a_careful_reader_would(row: dict[str, Any]) -> None:
    assert judge_reply(row["reply"], row["target"], "number") == row["right"]


@pytest.mark.parametrize("row", read_cases("free_form", "free_form_held_out"), ids=lambda row: row["reply"])
def test_free_text_is_judged_as_a_careful_reader_would(row: dict[str, Any]) -> None:
    if row["target"] is None:
        assert extract_answer(row["reply"], "free_form").text is None
    elif row["right"] is not None:
        assert judge_reply(row["reply"], row["target"], "free_form") == row["right"]


@pytest.mark.parametrize("row", read_cases("judge_replies", "judge_replies_held_out"), ids=lambda row: row["reply"])
def test_judging_model_is_understood_as_a_careful_reader_would(row: dict[str, Any]) -> None:
    completion = Completion(text=row["reply"], finish_reason="stop", model="judge")
    if row["right"] == "refused":
        with pytest.raises(JudgeError, match="neither yes nor no"):
            read_yes_or_no(completion)
    else:
        assert read_yes_or_no(completion) == row["right"]


TAGGED = [row for row in read_cases("number", "number_held_out") if row["reply"].startswith("<think>x</think>")]


@pytest.mark.parametrize("row", TAGGED, ids=lambda row: row["reply"])
def test_a_reply_without_its_tag_has_the_same_verdict(row: dict[str, Any]) -> None:
    bare = row["reply"].removeprefix("<think>x</think><answer>").removesuffix("</answer>")
    assert judge_reply(bare, row["target"], "number") == row["right"]
