"""Rewards beside those of the authors' release: its two penalties and whom it asks; and where we depart on purpose."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image

from p2r.answers import extract_answer
from p2r.dialogue import Prompt
from p2r.images.load import MemoryImage
from p2r.prompts import load_prompt_set
from p2r.training.groups import Rolled
from p2r.training.lockstep import LockstepPartner
from p2r.training.rollout import Roller
from p2r.types import Sample
from tests.fakes.training import BatchScript, FakeActor, in_turn, make_phase, make_recipe
from tests.golden.rows import read_rows

PERCEIVER = read_rows("rewards_authors_perceiver")
JUDGED = [row for row in PERCEIVER if row["expected"]["error"] is None]
CHOICES = read_rows("rewards_authors_mca")


async def roll_out(row: dict[str, Any], reward: str) -> tuple[Rolled, list[Prompt]]:
    asked: list[Prompt] = []

    def reply(prompt: Prompt) -> str:
        asked.append(prompt)
        return row["reasoner_reply"]

    sample = Sample(
        id=row["id"],
        image=MemoryImage(Image.new("RGB", tuple(row["image_size"]))),
        question="Q?",
        answer_form="choice" if row["answer_form"] == "mca" else "number",
        target=row["ground_truth"],
    )
    actor, partner = FakeActor(in_turn(row["solution_str"])), LockstepPartner(BatchScript(reply))
    recipe = make_recipe([f"reward.set={reward}"])
    roller = Roller(recipe, make_phase(recipe=recipe), actor, partner, load_prompt_set("release"))
    rolled = await roller.roll_out([sample], step=0)
    return rolled, asked


@pytest.mark.parametrize("row", JUDGED, ids=lambda row: row["id"])
async def test_release_rewards_agree(row: dict[str, Any]) -> None:
    rolled, asked = await roll_out(row, "release")
    expected = row["expected"]
    assert {rollout.reward for rollout in rolled.groups[0].rollouts} == {expected["result"]["score"]}
    assert bool(asked) == expected["reasoner_called"]
    if asked:
        assert len(asked[0].images) == expected["n_images"]
        assert asked[0].text == expected["prompt"]


@pytest.mark.parametrize("row", PERCEIVER, ids=lambda row: row["id"])
async def test_paper_rewards_are_those_of_the_answer(row: dict[str, Any]) -> None:
    rolled, asked = await roll_out(row, "paper")
    right = f"<answer>{row['ground_truth']}</answer>" in row["reasoner_reply"]
    assert {rollout.reward for rollout in rolled.groups[0].rollouts} == {float(right)}
    assert len(asked) == 1


@pytest.mark.parametrize("row", [row for row in PERCEIVER if row["expected"]["error"]], ids=lambda row: row["id"])
async def test_a_label_that_is_a_number_is_a_label_where_the_release_crashes(row: dict[str, Any]) -> None:
    assert row["expected"]["error"] == "AttributeError"
    rolled, asked = await roll_out(row, "release")
    assert len(asked) == 1
    assert rolled.groups[0].rollouts[0].terms["label_penalty"] == 0.0


def test_answers_are_read_as_meant_where_the_release_takes_the_first_capital() -> None:
    def read(row: dict[str, Any]) -> str | None:
        return extract_answer(row["response"], "choice", list(row["options"].values())).letter

    meant = [row for row in CHOICES if row["intended"]]
    vague = [row for row in CHOICES if not row["intended"]]
    assert sum(read(row) == row["intended"] for row in meant) >= 0.97 * len(meant)
    assert sum(row["expected"]["mca_letter"] == row["intended"] for row in meant) < 0.75 * len(meant)
    assert not any(read(row) for row in vague)
    assert any(row["expected"]["mca_letter"] for row in vague)
