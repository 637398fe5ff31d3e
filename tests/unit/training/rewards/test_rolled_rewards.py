"""Rewards in a phase: who is asked for which, what is masked, and what is counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from p2r.config import PhaseKind
from p2r.dialogue import Prompt
from p2r.errors import ConfigError, P2RWarning, TooManyErrors
from p2r.training.groups import Rolled
from p2r.training.lockstep import LockstepPartner
from p2r.training.memo import Memo
from p2r.training.rewards.reward import make_rewarder
from p2r.training.rollout import Roller
from p2r.types import Box, Sample
from tests.fakes.endpoint_server import ChatServer, completion, refusal, serve
from tests.fakes.training import (
    BOX,
    OTHER_BOX,
    PROMPTS,
    RIGHT,
    TWICE,
    WRONG,
    BatchScript,
    FakeActor,
    dead,
    in_turn,
    make_phase,
    make_recipe,
    make_sample,
)

CODE = """
def short(reply):
    return 1.0 if len(reply) < 10 else 0.5

def agrees(answer, trace):
    assert trace.answer == answer
    return {"A": 0.25, "B": 0.75}[answer.letter]

def fails(reply):
    raise ValueError("no scorer")

def some(reply):
    return None if "500" in reply else 1.0

def seen(sample, image, role, boxes, num_tokens, max_new_tokens):
    assert (sample.id, image.size, role, max_new_tokens) == ("s1", (640, 480), "perceiver", 1024)
    return num_tokens + len(boxes) / 10

def bad(reply):
    return "500" in reply
"""


@pytest.fixture(autouse=True)
def current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)


async def roll(
    reward: str,
    *replies: str,
    partner: BatchScript | None = None,
    samples: tuple[Sample, ...] = (),
    kind: PhaseKind = "perceiver",
    memo: Memo | None = None,
) -> Rolled:
    recipe = make_recipe([f"reward={reward}", "partner.max_error_rate=1", "schedule=[{role='perceiver'}]"])
    script = partner or BatchScript(lambda prompt: RIGHT)
    phase = make_phase(kind, recipe=recipe)
    roller = Roller(recipe, phase, FakeActor(in_turn(*replies)), LockstepPartner(script), PROMPTS, memo=memo)
    return await roller.roll_out(samples or (make_sample(),), step=0)


def rewards(rolled: Rolled) -> list[float | None]:
    return [rollout.reward for rollout in rolled.groups[0].rollouts]


async def test_functions_are_weighed_and_recorded_beside_the_other_terms() -> None:
    rolled = await roll('{terms={correct=1.0, "mine.py:short"=0.5}}', BOX, "[]")
    assert rewards(rolled) == [1.25, 1.5, 1.25, 1.5]
    assert rolled.groups[0].rollouts[1].terms["mine.py:short"] == 1.0
    assert rolled.stats.num_failed == 0 and not rolled.stats.causes


async def test_a_function_is_given_what_it_asks_for() -> None:
    assert rewards(await roll('{terms={"mine.py:seen"=1}}', BOX, "[]")) == [53.1, 3, 53.1, 3]


async def test_nobody_is_asked_where_no_term_needs_an_answer() -> None:
    partner = BatchScript(dead)
    rolled = await roll('{terms={"mine.py:short"=1, format=1, count=0.5}}', BOX, "[]", partner=partner)
    assert rewards(rolled) == [2.0, 2.0, 2.0, 2.0]
    assert partner.num_calls == 0
    assert all("correct" not in rollout.terms for rollout in rolled.groups[0].rollouts)


async def test_a_function_that_wants_the_answer_has_it_asked_for() -> None:
    partner = BatchScript(lambda prompt: RIGHT if len(prompt.images) == 2 else WRONG)
    rolled = await roll('{terms={"mine.py:agrees"=1}}', BOX, "[]", partner=partner)
    assert rewards(rolled) == [0.75, 0.25, 0.75, 0.25]
    assert partner.num_calls == 2


async def test_a_term_of_weight_zero_asks_nobody() -> None:
    partner = BatchScript(dead)
    with pytest.warns(P2RWarning, match="no scorer"):
        rolled = await roll(
            '{terms={format=1, correct=0, "mine.py:agrees"=0, "mine.py:fails"=0}}', BOX, partner=partner
        )
    assert rewards(rolled) == [1.0] * 4 and partner.num_calls == 0


async def test_what_a_function_cannot_rate_is_masked_and_counted_with_the_cause() -> None:
    rolled = await roll('{terms={correct=1, "mine.py:some"=1}}', BOX, OTHER_BOX)
    assert rewards(rolled) == [2.0, None, 2.0, None]
    assert rolled.stats.num_failed == 2
    assert rolled.stats.causes == {"the reward term mine.py:some cannot tell": 2}
    assert rolled.groups[0].rollouts[1].failure == "the reward term mine.py:some cannot tell"


async def test_too_many_faults_stop_the_run_with_the_cause() -> None:
    recipe = make_recipe(['reward={terms={"mine.py:fails"=1}}'])
    partner = LockstepPartner(BatchScript(lambda prompt: RIGHT))
    roller = Roller(recipe, make_phase(recipe=recipe), FakeActor(in_turn(BOX, OTHER_BOX)), partner, PROMPTS)
    reason = r"the reward term mine\.py:fails raised ValueError in line 10 of mine\.py"
    with pytest.raises(TooManyErrors, match=f"all because {reason}"), pytest.warns(P2RWarning, match="no scorer"):
        await roller.roll_out([make_sample(f"s{number}") for number in range(10)], step=0)


async def test_faults_below_the_limit_stop_nothing() -> None:
    recipe = make_recipe(['reward={terms={"mine.py:some"=1}}', "partner.max_error_rate=0.3"])
    partner = LockstepPartner(BatchScript(lambda prompt: RIGHT))
    actor = FakeActor(in_turn(BOX, BOX, BOX, OTHER_BOX))
    roller = Roller(recipe, make_phase(recipe=recipe), actor, partner, PROMPTS)
    rolled = await roller.roll_out([make_sample(f"s{number}") for number in range(10)], step=0)
    assert rolled.stats.num_failed == 10


async def test_a_function_may_be_a_veto_and_spares_the_asking() -> None:
    partner = BatchScript(lambda prompt: RIGHT)
    rolled = await roll('{vetoes=["mine.py:bad"]}', BOX, OTHER_BOX, "[]", TWICE, partner=partner)
    assert rewards(rolled) == [1.0, 0.0, 1.0, 1.0]
    assert partner.num_calls == 2  # TWICE shows the same pixels as BOX


async def test_a_veto_counts_even_where_another_function_cannot_tell() -> None:
    rolled = await roll('{terms={correct=1, "mine.py:some"=1}, vetoes=["mine.py:bad"]}', BOX, OTHER_BOX)
    assert rewards(rolled) == [2.0, 0.0, 2.0, 0.0]


async def test_what_the_partner_cannot_answer_is_masked_and_not_rated() -> None:
    partner = BatchScript(lambda prompt: dead(prompt) if len(prompt.images) == 1 else RIGHT)
    rolled = await roll('{terms={"mine.py:agrees"=1}}', BOX, "[]", partner=partner)
    assert rewards(rolled) == [0.75, None, 0.75, None]
    assert rolled.stats.causes == {"the server has gone": 2}


async def test_a_function_that_is_not_there_is_refused_before_anything_is_sampled() -> None:
    with pytest.raises(ConfigError, match="no function 'shrt'"):
        await roll('{terms={"mine.py:shrt"=1}}', BOX)


async def test_a_reply_that_is_vetoed_is_not_rated_any_further() -> None:
    rolled = await roll('{terms={"mine.py:agrees"=1}, vetoes=["mine.py:bad"]}', RIGHT, f"500 {RIGHT}", kind="answerer")
    assert rewards(rolled) == [0.75, 0.0, 0.75, 0.0]
    assert "mine.py:agrees" not in rolled.groups[0].rollouts[1].terms


@pytest.mark.parametrize(
    ("reward", "kind", "asks"),
    [
        ("{}", "perceiver", True),
        ("{}", "answerer", False),
        ("{judge='partner'}", "answerer", True),
        ("{judge='partner', terms={format=1}}", "answerer", False),
        ("{terms={format=1}}", "perceiver", False),
        ('{terms={"mine.py:agrees"=1}}', "perceiver", True),
        ('{terms={"mine.py:short"=1}}', "perceiver", False),
    ],
)
def test_a_partner_is_needed_where_something_rewarded_is_asked(reward: str, kind: PhaseKind, asks: bool) -> None:
    recipe = make_recipe([f"reward={reward}"])
    assert make_rewarder(recipe, make_phase(kind, recipe=recipe)).asks_partner is asks


GOLD = (Box(x1=100, y1=200, x2=300, y2=400), Box(x1=500, y1=500, x2=600, y2=600))


async def test_boxes_are_rewarded_by_the_gold_boxes_without_asking_anybody() -> None:
    partner = BatchScript(dead)
    sample = make_sample(gold_boxes=GOLD, target=None)
    rolled = await roll("{terms={box_iou=1, box_f1=1}}", BOX, OTHER_BOX, "[]", samples=(sample,), partner=partner)
    assert rewards(rolled) == pytest.approx([0.5 + 2 / 3, 0.5 + 2 / 3, 0.0, 0.5 + 2 / 3])
    assert partner.num_calls == 0


async def test_where_nothing_is_to_be_found_an_empty_list_is_rewarded() -> None:
    sample = make_sample(nothing_there=True)
    rolled = await roll("{terms={box_iou=1}}", BOX, "[]", "nothing there", samples=(sample,))
    assert rewards(rolled) == [0.0, 1.0, 0.0, 0.0]


async def test_a_row_without_gold_boxes_is_masked_and_never_a_zero() -> None:
    rolled = await roll("{terms={box_iou=1}}", BOX, "[]")
    assert rewards(rolled) == [None] * 4
    assert rolled.stats.causes == {"not all terms of its reward are known": 4}


async def test_terms_by_gold_boxes_are_only_recorded_where_they_are_named() -> None:
    sample = make_sample(gold_boxes=GOLD)
    named = await roll("{terms={correct=1, box_f1=0}}", BOX, samples=(sample,))
    other = await roll("{}", BOX, samples=(sample,))
    assert named.groups[0].rollouts[0].terms["box_f1"] == pytest.approx(2 / 3)
    assert "box_iou" not in named.groups[0].rollouts[0].terms
    assert "box_f1" not in other.groups[0].rollouts[0].terms


async def test_a_verdict_that_is_not_rewarded_is_not_missed() -> None:
    """An answer that cannot be judged counts if only its form is rewarded, and no model judges it."""
    sample = make_sample(options=(), answer_form="number", target="a few")
    partner = BatchScript(dead)
    rolled = await roll(
        '{terms={format=1}, judge="partner"}', RIGHT, "5", samples=(sample,), kind="answerer", partner=partner
    )
    assert rewards(rolled) == [1.0, 0.0, 1.0, 0.0] and partner.num_calls == 0


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with serve(completion("yes"), models=["big", "small"]) as opened:
        yield opened


def say(answer: str, thought: str = "") -> str:
    return f"<think>{thought}</think><answer>{answer}</answer>"


FREE = {"options": (), "answer_form": "free_form", "target": "a fish"}


async def test_a_model_of_its_own_judges_free_answers_greedily_and_each_once(server: ChatServer) -> None:
    memo, reward = Memo(), f"{{judge={{url='{server.url}', model='small'}}}}"
    replies = say("a trout"), say("a trout", "It swims."), say("a fish"), say("a cod")
    rolled = await roll(reward, *replies, samples=(make_sample(**FREE),), kind="answerer", memo=memo)
    assert rewards(rolled) == [1.0] * 4
    assert [call.body["model"] for call in server.chats] == ["small"] * 2
    assert all(call.body["temperature"] == 0 and 64 in call.body.values() for call in server.chats)
    assert (rolled.stats.num_judge_calls, rolled.stats.num_judge_reused, rolled.stats.num_partner_calls) == (2, 1, 0)
    resumed = Memo()
    resumed.load(memo.dump())
    again = await roll(reward, *replies, samples=(make_sample(**FREE),), kind="answerer", memo=resumed)
    assert (again.stats.num_judge_calls, again.stats.num_judge_reused) == (0, 3)


@pytest.mark.parametrize("answer", [refusal(400, "no such thing"), completion("perhaps")])
async def test_a_judge_that_fails_masks_its_group_and_is_counted(answer: object) -> None:
    with serve(answer, models=["m"]) as server:  # type: ignore[arg-type]
        rolled = await roll(
            f"{{judge={{url='{server.url}#m'}}}}",
            say("a trout"),
            say("a fish"),
            samples=(make_sample(**FREE),),
            kind="answerer",
        )
    assert rewards(rolled) == [None] * 4
    assert rolled.stats.causes.pop("the judge failed in its group") == 2
    assert rolled.stats.causes.total() == 2


async def test_the_frozen_role_as_a_judge_is_asked_once_too() -> None:
    def reply(prompt: Prompt) -> str:
        return "no" if prompt.role == "judge" else say("a trout")

    partner = BatchScript(reply)
    samples = (make_sample(**FREE), make_sample(**FREE))
    rolled = await roll("{judge='partner'}", BOX, samples=samples, partner=partner)
    assert rewards(rolled) == [0.0] * 4
    assert rolled.stats.num_judge_calls + rolled.stats.num_judge_reused >= 1
