"""The terms of an answer's words, and the phases in which they count."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2r.answers.sections import HEADINGS
from p2r.config import RewardSettings, applies_to, parse_recipe
from p2r.errors import ConfigError
from p2r.training.groups import Rolled
from p2r.training.lockstep import LockstepPartner
from p2r.training.rewards.built_in import answer_terms
from p2r.training.rewards.reward import find_unasked
from p2r.training.rollout import Roller
from p2r.types import Sample
from tests.fakes.training import (
    BOX,
    PROMPTS,
    RIGHT,
    BatchScript,
    FakeActor,
    dead,
    in_turn,
    make_phase,
    make_recipe,
    make_sample,
)

WHOLE = "\n".join(HEADINGS)


@pytest.mark.parametrize(
    ("words", "reply", "share"),
    [
        (("sail", "star"), "A star on a Sail.", 1.0),
        (("Blue Sail", "STAR"), "the blue sail", 0.5),
        (("sail",), "They are sailing.", 1.0),  # parts of words count, as in PeBR-R1's release
        (("sail", "sail", "star"), "a sail", 2 / 3),
        (("7",), "no number", 0.0),
        (("sail",), "", 0.0),
    ],
)
def test_key_words_are_looked_for_in_the_whole_reply(words: tuple[str, ...], reply: str, share: float) -> None:
    assert answer_terms(reply, make_sample(key_words=words), 5)["keywords"] == pytest.approx(share)


def test_without_key_words_nothing_is_known_of_them() -> None:
    assert "keywords" not in answer_terms("a sail", make_sample(), 5)


@pytest.mark.parametrize(("num", "value"), [(0, 1.0), (1, 1.0), (512, 1.0), (513, 512 / 513), (1024, 0.5)])
def test_a_reply_is_long_beyond_512_tokens(num: int, value: float) -> None:
    assert answer_terms("", make_sample(), num)["length"] == value


def test_sections_are_all_there_or_not() -> None:
    assert answer_terms(WHOLE, make_sample(), 5)["sections"] == 1.0
    assert answer_terms(WHOLE.replace(HEADINGS[2], ""), make_sample(), 5)["sections"] == 0.0


@pytest.mark.parametrize("term", ["keywords", "sections", "length"])
def test_terms_of_answers_do_not_count_for_boxes(term: str) -> None:
    assert applies_to(term, "reasoner") and not applies_to(term, "perceiver")
    with pytest.raises(ConfigError, match=f"phase 0-perceiver samples boxes, and reward.terms has no .* only {term}"):
        parse_recipe({"out": "x", "data": {"num_rows": 8}, "reward": {"terms": {term: 1}}})


def test_only_a_key_word_term_that_counts_needs_key_words() -> None:
    assert RewardSettings(terms={"keywords": 0.4}).needs_key_words("reasoner")
    assert RewardSettings(vetoes=("keywords",)).needs_key_words("reasoner")
    assert not RewardSettings(terms={"keywords": 0.4}).needs_key_words("perceiver")
    assert not RewardSettings(terms={"keywords": 0, "length": 1}).needs_key_words("reasoner")
    assert not RewardSettings().needs_key_words("reasoner")


async def roll(terms: str, *replies: str, kind: str = "answerer", sample: Sample | None = None) -> Rolled:
    recipe = make_recipe([f"reward={{terms={terms}}}", "partner.max_error_rate=1", f"schedule=[{{role='{kind}'}}]"])
    phase = make_phase(recipe.phases()[0].kind, recipe=recipe)
    partner = LockstepPartner(BatchScript(dead if kind == "answerer" else lambda prompt: RIGHT))
    roller = Roller(recipe, phase, FakeActor(in_turn(*replies)), partner, PROMPTS)
    return await roller.roll_out((sample or make_sample(key_words=("star", "anchor")),), step=0)


async def test_pebr_r1_rewards_words_and_records_what_is_right() -> None:
    rolled = await roll("{keywords=0.4, sections=0.1, length=0.1, correct=0}", f"{WHOLE} B", RIGHT)
    found = [(rollout.reward, rollout.terms) for rollout in rolled.groups[0].rollouts]
    assert [reward for reward, _ in found] == pytest.approx([0.2, 0.3, 0.2, 0.3])
    assert found[0][1] == {"format": 0.0, "keywords": 0.0, "sections": 1.0, "length": 1.0, "correct": 1.0}
    assert found[1][1] == {"format": 1.0, "keywords": 0.5, "sections": 0.0, "length": 1.0, "correct": 1.0}


async def test_a_length_counts_the_end_token() -> None:
    rolled = await roll("{length=1}", "x" * 511, "x" * 512)
    assert [rollout.reward for rollout in rolled.groups[0].rollouts] == [1.0, 512 / 513] * 2


async def test_a_row_without_key_words_is_masked_and_never_a_zero() -> None:
    rolled = await roll("{keywords=1}", "a star", sample=make_sample())
    assert [rollout.reward for rollout in rolled.groups[0].rollouts] == [None] * 4
    recorded = await roll("{keywords=0, sections=1}", WHOLE, sample=make_sample())
    assert [rollout.reward for rollout in recorded.groups[0].rollouts] == [1.0] * 4
    assert "keywords" not in recorded.groups[0].rollouts[0].terms


async def test_terms_that_are_not_named_are_not_recorded() -> None:
    rolled = await roll("{correct=1}", RIGHT)
    assert rolled.groups[0].rollouts[0].terms == {"format": 1.0, "correct": 1.0}


async def test_boxes_have_no_terms_of_answers() -> None:
    rolled = await roll("{correct=1, sections=1, keywords=1}", BOX, kind="perceiver")
    rollout = rolled.groups[0].rollouts[0]
    assert rollout.reward == 1.0 and "sections" not in rollout.terms


@pytest.mark.parametrize(
    ("role", "prompts", "terms", "said"),
    [
        (
            "answerer",
            "release",
            {"sections": 1.0},
            "sections looks for '### Image Description:', which the prompts release",
        ),
        ("answerer", "release", {"sections": 0.0, "correct": 1.0}, ""),
        ("answerer", "pebr_r1", {"sections": 1.0}, ""),
        ("reasoner", "pebr_r1", {"sections": 1.0}, "which the prompts pebr_r1 do not ask for"),  # of an answerer alone
        ("perceiver", "release", {"sections": 1.0, "correct": 1.0}, ""),
        (
            "answerer",
            "release",
            {"sections": 0.5, "caption_similarity": 0.5},
            "sections and caption_similarity look for",
        ),
        ("answerer", "pebr_r1", {"caption_similarity": 0.5}, ""),
    ],
)
def test_headings_that_no_prompt_asks_for_are_said(role: str, prompts: str, terms: dict[str, float], said: str) -> None:
    recipe = parse_recipe(
        {
            "out": "run",
            "data": {"num_rows": 4},
            "schedule": [{"role": role, "steps": 1}],
            "rollout": {"prompts": prompts},
            "reward": {"terms": terms, "caption": {"model": "x"}},
        }
    )
    found = find_unasked(recipe.phases()[0])
    assert said in found and bool(said) == bool(found)


def test_a_prompt_set_of_ones_own_may_ask_for_the_description_alone(tmp_path: Path) -> None:
    (tmp_path / "base.txt").write_text("release")
    (tmp_path / "thinking.txt").write_text("{question} {answer_form} ### image description:")
    table = {
        "out": "run",
        "data": {"num_rows": 4},
        "schedule": [{"role": "answerer", "steps": 1}],
        "rollout": {"prompts": str(tmp_path)},
        "reward": {"terms": {"caption_similarity": 1.0}, "caption": {"model": "x"}},
    }
    assert find_unasked(parse_recipe(table).phases()[0]) == ""
    recipe = parse_recipe(table, ["reward.terms={sections=1}"])
    assert "'### Rationales:'" in find_unasked(recipe.phases()[0])
