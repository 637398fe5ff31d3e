"""Rolling out: what is judged, what is masked, what is done once, and what seeds depend on."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from PIL import Image

from p2r.boxes.other_frame import FrameCount
from p2r.config import AdvantageSettings, PhaseKind, Recipe
from p2r.dialogue import Decoding, Prompt
from p2r.errors import ImageError, ModelError, P2RError, TooManyErrors, TrainingError
from p2r.images.budget import FullImage
from p2r.models.local.encoding import EncodedPrompt
from p2r.roles import ModelPerceiver
from p2r.training.advantages import compare_groups
from p2r.training.engines.local.distributed import World
from p2r.training.engines.local.generate import Generated, Wanted
from p2r.training.groups import Group
from p2r.training.lockstep import FreePartner, LockstepPartner
from p2r.training.memo import EvidenceStore
from p2r.training.rollout import Roller
from p2r.training.stopping import FAILED, FINE
from p2r.training.watch.metrics import describe_groups, measure_step, sum_stats
from p2r.types import Completion
from tests.fakes.training import (
    BOX,
    OTHER_BOX,
    PROMPTS,
    RIGHT,
    SAME_BOX,
    TWICE,
    UNLABELLED,
    WRONG,
    BatchScript,
    CountingImage,
    FakeActor,
    dead,
    in_turn,
    make_phase,
    make_recipe,
    make_sample,
)


def make_roller(
    actor: FakeActor, partner: BatchScript, recipe: Recipe | None = None, kind: PhaseKind = "perceiver", index: int = 0
) -> Roller:
    recipe = recipe or make_recipe()
    return Roller(recipe, make_phase(kind, index, recipe), actor, LockstepPartner(partner), PROMPTS)


def answer_by_crop(prompt: Prompt) -> str:
    """Right when the evidence is the box that begins at 100 per mille."""
    return RIGHT if len(prompt.images) == 2 and prompt.images[1].width > 200 else WRONG


def rewards(group: Group) -> list[float | None]:
    return [rollout.reward for rollout in group.rollouts]


async def test_a_box_set_is_rewarded_when_the_frozen_reasoner_answers_right_on_it() -> None:
    partner = BatchScript(lambda prompt: RIGHT if len(prompt.images) == 2 else WRONG)
    roller = make_roller(FakeActor(in_turn(BOX, "[]", OTHER_BOX, "no idea")), partner)
    rolled = await roller.roll_out([make_sample()], step=0)
    assert rewards(rolled.groups[0]) == [1.0, 0.0, 1.0, 0.0]
    assert [rollout.terms["correct"] for rollout in rolled.groups[0].rollouts] == [1.0, 0.0, 1.0, 0.0]


async def test_box_sets_that_show_the_same_pixels_are_answered_once_and_keep_their_own_words() -> None:
    partner = BatchScript(lambda prompt: RIGHT)
    rolled = await make_roller(FakeActor(in_turn(BOX, SAME_BOX, "[]", "nothing there")), partner).roll_out(
        [make_sample()], step=0
    )
    assert partner.num_calls == 2
    assert (rolled.stats.num_walked, rolled.stats.num_unique, rolled.stats.unique_share) == (4, 2, 0.5)
    traces = [rollout.trace for rollout in rolled.groups[0].rollouts]
    assert [trace.boxes[0].label for trace in traces[:2] if trace] == ["sail", "the sail"]
    assert [rollout.text for rollout in rolled.groups[0].rollouts] == [BOX, SAME_BOX, "[]", "nothing there"]


async def test_vetoed_box_sets_are_worth_nothing_and_nobody_is_asked() -> None:
    partner = BatchScript(lambda prompt: RIGHT)
    rolled = await make_roller(FakeActor(in_turn(BOX, TWICE, UNLABELLED, OTHER_BOX)), partner).roll_out(
        [make_sample()], step=0
    )
    assert rewards(rolled.groups[0]) == [1.0, 0.0, 0.0, 1.0]
    assert partner.num_calls == 2
    assert "correct" not in rolled.groups[0].rollouts[1].terms


async def test_the_paper_rewards_them_by_the_answer_alone() -> None:
    partner = BatchScript(lambda prompt: RIGHT)
    recipe = make_recipe(["reward.set=paper"])
    rolled = await make_roller(FakeActor(in_turn(TWICE, UNLABELLED)), partner, recipe).roll_out([make_sample()], step=0)
    assert rewards(rolled.groups[0]) == [1.0, 1.0, 1.0, 1.0]


async def test_what_the_partner_cannot_answer_is_masked_and_never_a_zero() -> None:
    fails = [True, True]
    partner = BatchScript(lambda prompt: dead(prompt) if len(prompt.images) == 2 and fails else RIGHT)
    rolled = await make_roller(FakeActor(in_turn(BOX, "[]")), partner).roll_out([make_sample()], step=0)
    assert rewards(rolled.groups[0]) == [None, 1.0, None, 1.0]
    assert rolled.stats.num_failed == 2
    failed = rolled.groups[0].rollouts[0].trace
    assert failed is not None
    assert failed.failure is not None
    assert failed.failure.message == "the server has gone"


async def test_a_failure_is_tried_a_second_time() -> None:
    said = iter([dead])
    partner = BatchScript(lambda prompt: next(said, lambda prompt: RIGHT)(prompt))
    rolled = await make_roller(FakeActor(in_turn(BOX)), partner).roll_out([make_sample()], step=0)
    assert rewards(rolled.groups[0]) == [1.0] * 4
    assert rolled.stats.num_failed == 0


async def test_a_judge_that_fails_masks_its_rollout() -> None:
    partner = BatchScript(lambda prompt: "<answer>2</answer>")
    sample = make_sample(options=(), answer_form="number", target="a few")
    rolled = await make_roller(FakeActor(in_turn(BOX)), partner).roll_out([sample], step=0)
    assert rewards(rolled.groups[0]) == [None] * 4


@pytest.mark.parametrize(("said", "reward"), [("yes", 1.0), ("no", 0.0), ("maybe", None)])
async def test_a_partner_that_judges_in_its_own_answer_tags_is_understood(said: str, reward: float | None) -> None:
    def reply(prompt: Prompt) -> str:
        answer = said if prompt.role == "judge" else "a trout"
        return f"<think>It is said to be no fish.</think><answer>{answer}</answer>"

    recipe = make_recipe(['reward.judge="partner"'])
    sample = make_sample(options=(), answer_form="free_form", target="a fish")
    roller = make_roller(FakeActor(in_turn(BOX)), BatchScript(reply), recipe)
    rolled = await roller.roll_out([sample], step=0)
    assert rewards(rolled.groups[0]) == [reward] * 4


async def test_a_partner_that_is_dead_stops_the_run_with_the_cause() -> None:
    roller = make_roller(FakeActor(in_turn(BOX, OTHER_BOX)), BatchScript(dead))
    samples = [make_sample(f"s{number}") for number in range(10)]
    with pytest.raises(TooManyErrors, match="all because the server has gone") as caught:
        await roller.roll_out(samples, step=0)
    assert "`resume=True`" in caught.value.hint


async def test_a_image_is_decoded_once_a_row() -> None:
    sample = make_sample()
    partner = BatchScript(lambda prompt: RIGHT)
    await make_roller(FakeActor(in_turn(BOX, OTHER_BOX, "[]")), partner).roll_out([sample], step=0)
    assert isinstance(sample.image, CountingImage)
    assert sample.image.num_loads == 1


async def test_a_row_whose_image_fails_twice_has_no_group_and_is_counted() -> None:
    broken = CountingImage("broken.png", fault=ImageError("broken.png is broken"), num_faults=2)
    samples = [make_sample("s1", image=broken), make_sample("s2")]
    rolled = await make_roller(FakeActor(in_turn(BOX)), BatchScript(lambda prompt: RIGHT)).roll_out(samples, step=0)
    assert [group.sample.id for group in rolled.groups] == ["s2"]
    assert rolled.stats.num_failed_rows == 1


async def test_nothing_that_was_answered_is_asked_again_in_later_steps() -> None:
    partner = BatchScript(lambda prompt: RIGHT)
    roller = make_roller(FakeActor(in_turn(BOX)), partner)
    first = await roller.roll_out([make_sample()], step=0)
    second = await roller.roll_out([make_sample()], step=1)
    assert partner.num_calls == 1
    assert (first.stats.num_partner_calls, first.stats.num_reused) == (1, 0)
    assert (second.stats.num_partner_calls, second.stats.num_reused) == (0, 1)
    assert rewards(second.groups[0]) == [1.0] * 4


async def test_truncated_replies_are_counted_apart_and_judged() -> None:
    recipe = make_recipe(["rollout.max_new_tokens={perceiver=10, reasoner=10}"])
    rolled = await make_roller(FakeActor(in_turn(BOX)), BatchScript(lambda prompt: RIGHT), recipe).roll_out(
        [make_sample()], step=0
    )
    assert rolled.stats.num_truncated == 4
    assert not rolled.groups[0].rollouts[0].ended
    assert rolled.stats.num_tokens == 40


@pytest.mark.parametrize("prompts_at_once", [1, 2, 8])
async def test_each_prompt_counts_once_in_whatever_lot_it_was(prompts_at_once: int) -> None:
    recipe = make_recipe([f"rollout.prompts_at_once={prompts_at_once}"])
    roller = make_roller(FakeActor(in_turn(BOX)), BatchScript(lambda prompt: RIGHT), recipe)
    rolled = await roller.roll_out([make_sample(f"s{k}") for k in range(5)], step=0)
    assert rolled.stats.num_prompt_tokens == 15


async def test_prompts_of_both_roles_together_count() -> None:
    actor = FakeActor(lambda prompt, seed: BOX if prompt.role == "perceiver" else RIGHT)
    rolled = await make_roller(actor, BatchScript(dead), kind="joint").roll_out([make_sample()], step=0)
    assert rolled.stats.num_prompt_tokens == 3 + 4 * 3  # a look, and an answer on each of its box sets


async def test_seeds_depend_on_phase_step_row_and_rollout_but_not_on_the_batch() -> None:
    async def draw(names: list[str], step: int = 0, index: int = 0, at_once: int = 8) -> dict[str, list[int]]:
        actor = FakeActor(in_turn(BOX))
        recipe = make_recipe([f"rollout.prompts_at_once={at_once}"])
        roller = make_roller(actor, BatchScript(lambda prompt: RIGHT), recipe, index=index)
        await roller.roll_out([make_sample(name) for name in names], step)
        return dict(zip(names, actor.seeds, strict=True))

    alone, together = await draw(["s2"]), await draw(["s1", "s2", "s3"], at_once=2)
    assert alone["s2"] == together["s2"]
    assert len({seed for seeds in together.values() for seed in seeds}) == 12
    assert (await draw(["s2"], step=1))["s2"] != alone["s2"]
    assert (await draw(["s2"], index=1))["s2"] != alone["s2"]
    assert max(alone["s2"]) < 2**63


class ScriptedServer(BatchScript):
    async def complete(self, prompt: Prompt, decoding: Decoding) -> Completion:
        reply = self.complete_all([prompt], decoding)[0]
        assert isinstance(reply, Completion)
        return reply


async def test_a_server_answers_on_one_lot_of_rows_while_the_policy_samples_the_next() -> None:
    names = [f"s{number}" for number in range(6)]
    recipe = make_recipe(["rollout.prompts_at_once=2"])

    async def roll(partner: LockstepPartner | FreePartner, actor: FakeActor) -> list[list[float | None]]:
        roller = Roller(recipe, make_phase("perceiver", recipe=recipe), actor, partner, PROMPTS)
        rolled = await roller.roll_out([make_sample(name) for name in names], step=0)
        assert [group.sample.id for group in rolled.groups] == names
        return [rewards(group) for group in rolled.groups]

    class WaitingModel(ScriptedServer):
        """Does not answer on the first lot before the second one was sampled."""

        async def complete(self, prompt: Prompt, decoding: Decoding) -> Completion:
            while len(actor.seeds) < 4:
                await asyncio.sleep(0)
            return await super().complete(prompt, decoding)

    say = in_turn(BOX, "[]", OTHER_BOX, "no idea")
    at_once = await roll(LockstepPartner(BatchScript(answer_by_crop)), FakeActor(say))
    actor = FakeActor(say)
    assert await roll(FreePartner(WaitingModel(answer_by_crop), num_at_once=64), actor) == at_once


@dataclass(eq=False)
class Watched(CountingImage):
    """Tells the test when it is decoded and when it is freed."""

    decoded: threading.Event = field(default_factory=threading.Event)
    freed: threading.Event = field(default_factory=threading.Event)

    def load(self) -> Image.Image:
        image = super().load()
        weakref.finalize(image, self.freed.set)
        self.decoded.set()
        return image


async def test_with_a_server_few_images_are_held() -> None:
    # Of a size that is resized for a prompt, which would hold the image itself otherwise.
    images = [Watched(f"s{number}.png", wh=(650, 490)) for number in range(8)]
    found: dict[int, tuple[bool, bool]] = {}

    class SlowActor(FakeActor):
        """Looks, at each prompt, whether a far later image is there already, and whether a far earlier one is gone."""

        def sample(
            self,
            wanted: Iterable[Wanted],
            decoding: Decoding,
            num_at_once: int,
            abandoned: Callable[[], bool] = lambda: False,
        ) -> Iterator[tuple[int, list[Generated]]]:
            for place, group in super().sample(wanted, decoding, num_at_once, abandoned):
                is_early = place < 3 and images[place + 5].decoded.wait(0.1)
                found[place] = is_early, place < 5 or images[place - 5].freed.wait(10)
                yield place, group

    recipe = make_recipe(["rollout.prompts_at_once=2"])
    partner = FreePartner(ScriptedServer(answer_by_crop), num_at_once=64)
    roller = Roller(recipe, make_phase("perceiver", recipe=recipe), SlowActor(in_turn(BOX, "[]")), partner, PROMPTS)
    rolled = await roller.roll_out([make_sample(image.uri, image=image) for image in images], step=0)
    assert len(rolled.groups) == len(images)
    assert found == dict.fromkeys(range(8), (False, True))


class Crowd:
    """Counts how many of its images are decoded at the same time. Of a size that is resized for a prompt."""

    def __init__(self, num: int) -> None:
        self.alive, self.most, self.num_loads = 0, 0, 0
        self.images = [Member(f"s{number}.png", wh=(650, 490), crowd=self) for number in range(num)]

    def count(self, change: int) -> None:
        self.alive += change
        self.most = max(self.most, self.alive)


@dataclass(eq=False)
class Member(CountingImage):
    """Its content tells which one it is, so that a mix-up would change the answers."""

    crowd: Crowd | None = None

    def load(self) -> Image.Image:
        assert self.crowd is not None
        super().load()
        image = Image.new("RGB", self.wh, (int(self.uri[1:-4]) * 20, 0, 0))
        weakref.finalize(image, self.crowd.count, -1)
        self.crowd.count(1)
        self.crowd.num_loads += 1
        return image


@pytest.mark.parametrize("kind", ["perceiver", "reasoner", "answerer", "joint"])
async def test_with_a_local_partner_images_beyond_a_limit_are_decoded_again(
    kind: PhaseKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(prompt: Prompt) -> str:
        if prompt.role == "perceiver":
            return BOX
        pixel = prompt.images[-1].getpixel((3, 3))
        assert isinstance(pixel, tuple)
        return RIGHT if pixel[0] % 40 == 0 else WRONG

    def say(prompt: Prompt, seed: int) -> str:
        return (BOX if seed % 2 else OTHER_BOX) if prompt.role == "perceiver" else answer(prompt)

    async def roll(limit_px: int, folder: Path) -> tuple[list[Group], Crowd]:
        monkeypatch.setattr("p2r.training.asking.MOST_HELD_PX", limit_px)
        crowd, recipe = Crowd(12), make_recipe(["rollout.prompts_at_once=2"])
        lockstep = LockstepPartner(BatchScript(answer))
        with EvidenceStore(folder, lockstep, ModelPerceiver(lockstep.model, PROMPTS), weights="w") as store:
            phase = make_phase(kind, recipe=recipe)
            roller = Roller(recipe, phase, FakeActor(say), lockstep, PROMPTS, evidence=store)
            rolled = await roller.roll_out([make_sample(each.uri, image=each) for each in crowd.images], step=0)
        return rolled.groups, crowd

    groups, all_held = await roll(10**9, tmp_path / "a")
    limited, few_held = await roll(3 * 650 * 490, tmp_path / "b")
    assert [(group.sample.id, group.parent, rewards(group)) for group in limited] == [
        (group.sample.id, group.parent, rewards(group)) for group in groups
    ]
    assert {reward for group in groups for reward in rewards(group)} == {0.0, 1.0}
    assert (all_held.most, all_held.num_loads) == (12, 12)
    assert few_held.most <= 3 + 2  # those that are held, and those of a lot


async def test_an_image_that_is_gone_when_it_is_wanted_again_masks_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    class Vanishing(CountingImage):
        def load(self) -> Image.Image:
            if self.num_loads:
                raise ImageError("it is gone")
            return super().load()

    monkeypatch.setattr("p2r.training.asking.MOST_HELD_PX", 0)
    recipe = make_recipe(["partner.max_error_rate=1"])
    roller = make_roller(FakeActor(in_turn(BOX)), BatchScript(lambda prompt: RIGHT), recipe)
    rolled = await roller.roll_out([make_sample("s1", image=Vanishing("s1.png")), make_sample("s2")], step=0)
    assert [rewards(group) for group in rolled.groups] == [[None] * 4, [1.0] * 4]
    assert rolled.groups[0].rollouts[0].failure == "it is gone"


@dataclass
class CountingActor(FakeActor):
    """Notes each call, and whether one is under way."""

    calls: list[int] = field(default_factory=list)
    samples: bool = False

    def sample(
        self,
        wanted: Iterable[Wanted],
        decoding: Decoding,
        num_at_once: int,
        abandoned: Callable[[], bool] = lambda: False,
    ) -> Iterator[tuple[int, list[Generated]]]:
        self.calls.append(num_at_once)
        self.samples = True
        yield from super().sample(wanted, decoding, num_at_once, abandoned)
        self.samples = False


@pytest.mark.parametrize(
    ("kind", "slots"), [("perceiver", [2]), ("reasoner", [2]), ("answerer", [2]), ("joint", [2, 8])]
)
async def test_all_lots_of_a_step_are_drawn_in_one_call_and_a_local_partner_answers_before_or_after(
    kind: PhaseKind, slots: list[int], tmp_path: Path
) -> None:
    """A frozen role in this process may be the policy's own weights."""

    def answer(prompt: Prompt) -> str:
        assert not actor.samples
        return BOX if prompt.role == "perceiver" else answer_by_crop(prompt)

    def say(prompt: Prompt, seed: int) -> str:
        return (BOX if seed % 2 else OTHER_BOX) if prompt.role == "perceiver" else answer_by_crop(prompt)

    actor, recipe = CountingActor(say), make_recipe(["rollout.prompts_at_once=2"])
    lockstep = LockstepPartner(BatchScript(answer))
    with EvidenceStore(tmp_path, lockstep, ModelPerceiver(lockstep.model, PROMPTS), weights="w") as store:
        roller = Roller(recipe, make_phase(kind, recipe=recipe), actor, lockstep, PROMPTS, evidence=store)
        rolled = await roller.roll_out([make_sample(f"s{number}") for number in range(5)], step=0)
    assert [group.sample.id for group in rolled.groups if group.parent is None] == [f"s{k}" for k in range(5)]
    assert all(reward is not None for group in rolled.groups for reward in rewards(group))
    assert actor.calls == slots
    assert (await roller.roll_out([], step=1)).groups == []


async def test_reasoners_answer_on_evidence_that_is_looked_up_once(tmp_path: Path) -> None:
    def start(partner: BatchScript) -> Roller:
        lockstep = LockstepPartner(partner)
        store = EvidenceStore(tmp_path, lockstep, ModelPerceiver(lockstep.model, PROMPTS), weights="w")
        stores.append(store)
        actor = FakeActor(in_turn(RIGHT, WRONG, "no idea", RIGHT))
        return Roller(make_recipe(), make_phase("reasoner"), actor, lockstep, PROMPTS, evidence=store)

    stores: list[EvidenceStore] = []
    looking = BatchScript(lambda prompt: BOX)
    roller = start(looking)
    rolled = await roller.roll_out([make_sample()], step=0)
    assert rewards(rolled.groups[0]) == [1.0, 0.0, 0.0, 1.0]
    assert rolled.groups[0].role == "reasoner"
    trace = rolled.groups[0].rollouts[0].trace
    assert trace is not None
    assert trace.evidence is not None
    assert trace.evidence.annotated
    await roller.roll_out([make_sample()], step=1)
    assert looking.num_calls == 1
    stores[0].__exit__(None, None, None)
    resumed = BatchScript(dead)
    again = await start(resumed).roll_out([make_sample()], step=1)
    assert resumed.num_calls == 0
    assert rewards(again.groups[0]) == [1.0, 0.0, 0.0, 1.0]
    stores[1].__exit__(None, None, None)


async def test_what_a_kill_left_of_a_batch_is_looked_at_again(tmp_path: Path) -> None:
    async def look(names: list[str]) -> int:
        model = BatchScript(lambda prompt: BOX)
        lockstep = LockstepPartner(model)
        rows = [make_sample(name) for name in names]
        full_images = [FullImage(row.image.load()) for row in rows]
        with EvidenceStore(tmp_path, lockstep, ModelPerceiver(lockstep.model, PROMPTS), weights="w") as store:
            await store.perceive(rows, full_images)
        return model.num_calls

    assert await look(["s1"]) == 1
    whole = (tmp_path / "whole.txt").read_text()
    assert await look(["s2", "s3"]) == 2
    (tmp_path / "whole.txt").write_text(whole)  # as if killed while the second batch was written
    assert await look(["s2", "s3"]) == 2
    assert await look(["s1", "s2", "s3"]) == 0


async def test_a_row_that_the_frozen_perceiver_cannot_see_has_no_group(tmp_path: Path) -> None:
    lockstep = LockstepPartner(BatchScript(dead))
    with EvidenceStore(tmp_path, lockstep, ModelPerceiver(lockstep.model, PROMPTS), weights="w") as store:
        roller = Roller(
            make_recipe(), make_phase("reasoner"), FakeActor(in_turn(RIGHT)), lockstep, PROMPTS, evidence=store
        )
        rolled = await roller.roll_out([make_sample()], step=0)
    assert rolled.groups == []
    assert rolled.stats.num_failed_rows == 1


async def test_the_answerer_answers_on_the_whole_image_and_asks_nobody() -> None:
    actor, partner = FakeActor(in_turn(RIGHT, WRONG)), BatchScript(dead)
    rolled = await make_roller(actor, partner, kind="answerer").roll_out([make_sample()], step=0)
    assert rewards(rolled.groups[0]) == [1.0, 0.0, 1.0, 0.0]
    assert [len(prompt.images) for prompt in actor.prompts] == [1]
    assert partner.num_calls == 0


async def test_joint_rewards_both_roles_with_one_answer() -> None:
    def say(prompt: Prompt, seed: int) -> str:
        return next(boxes) if prompt.role == "perceiver" else answer_by_crop(prompt)

    boxes = iter([BOX, OTHER_BOX, TWICE, BOX])
    partner = BatchScript(dead)
    recipe = make_recipe(["control=joint"])
    rolled = await make_roller(FakeActor(say), partner, recipe, kind="joint").roll_out([make_sample()], step=0)
    looks, *answers = rolled.groups
    assert rewards(looks) == [1.0, 0.0, 0.0, 1.0]
    assert [group.parent for group in answers] == [(0, 0), (0, 1), (0, 3)]
    assert [rewards(group) for group in answers] == [[1.0], [0.0], [1.0]]
    assert partner.num_calls == 0
    assert rolled.stats.num_rollouts == 7


async def test_a_box_set_of_joint_whose_evidence_fails_is_masked_and_not_judged() -> None:
    class Forgetful(FakeActor):
        """Cannot take the evidence of two boxes."""

        def encode(self, prompt: Prompt) -> EncodedPrompt:
            if prompt.role == "reasoner" and len(prompt.images) == 3:
                raise ModelError("too long")
            return super().encode(prompt)

    boxes = iter((BOX, BOX[:-1] + ", " + OTHER_BOX[1:], OTHER_BOX, "[]"))
    partner = BatchScript(lambda prompt: RIGHT)
    recipe = make_recipe(["control=joint", "partner.max_error_rate=1"])
    actor = Forgetful(lambda prompt, seed: next(boxes) if prompt.role == "perceiver" else RIGHT)
    rolled = await make_roller(actor, partner, recipe, kind="joint").roll_out([make_sample()], step=0)
    looks, *answers = rolled.groups
    assert rewards(looks) == [1.0, None, 1.0, 1.0]
    assert looks.rollouts[1].trace is None
    assert [group.parent for group in answers] == [(0, 0), (0, 2), (0, 3)]
    assert (partner.num_calls, rolled.stats.num_walked) == (0, 3)


@pytest.mark.parametrize("prompts_at_once", [1, 3])
async def test_joint_answers_name_the_box_set_of_their_own_row(prompts_at_once: int) -> None:
    def say(prompt: Prompt, seed: int) -> str:
        return (BOX if seed % 2 else OTHER_BOX) if prompt.role == "perceiver" else answer_by_crop(prompt)

    recipe = make_recipe(["control=joint", f"rollout.prompts_at_once={prompts_at_once}"])
    roller = make_roller(FakeActor(say), BatchScript(dead), recipe, kind="joint")
    rolled = await roller.roll_out([make_sample(name) for name in ("s1", "s2", "s3")], step=0)
    for found in (rolled, rolled.keep([place for place, group in enumerate(rolled.groups) if group.sample.id != "s1"])):
        parents = [(group, group.parent) for group in found.groups if group.parent]
        assert len(parents) == 4 * len({group.sample.id for group in found.groups}) >= 8
        for group, (place, k) in parents:
            looked = found.groups[place]
            assert (looked.role, looked.sample.id) == ("perceiver", group.sample.id)
            assert rewards(group) == [looked.rollouts[k].reward]
        assert len({parent for _, parent in parents}) == len(parents)


async def test_dynamic_sampling_draws_on_until_enough_groups_are_alive() -> None:
    drawn: list[int] = []

    def draw(count: int) -> list:
        drawn.append(count)
        return [make_sample(f"s{len(drawn)}{number}") for number in range(count)]

    def say(prompt: Prompt, seed: int) -> str:
        return BOX if len(drawn) == 1 or seed % 2 else "[]"

    partner = BatchScript(lambda prompt: RIGHT if len(prompt.images) == 2 else WRONG)
    roller = make_roller(FakeActor(say), partner, make_recipe(["rollout.max_rounds=4"]))
    rolled = await roller.roll_out_alive(draw, 3, step=0)
    assert len(rolled.groups) == 3
    assert drawn[0] == 3
    assert len(drawn) > 1
    assert all(len(set(rewards(group))) == 2 for group in rolled.groups)


async def test_dynamic_sampling_gives_up_after_its_rounds() -> None:
    roller = make_roller(FakeActor(in_turn(BOX)), BatchScript(lambda prompt: RIGHT))
    rolled = await roller.roll_out_alive(lambda count: [make_sample()], 1, step=0)
    assert rolled.groups == []
    assert rolled.stats.num_rows == 3


async def test_dynamic_sampling_ends_where_no_row_is_left() -> None:
    drawn = iter([[make_sample()], [], [make_sample("s2")]])
    roller = make_roller(FakeActor(in_turn(BOX)), BatchScript(lambda prompt: RIGHT))
    rolled = await roller.roll_out_alive(lambda count: next(drawn), 1, step=0)
    assert rolled.groups == [] and rolled.stats.num_rows == 1


NEARLY_TOO_LONG = tuple(WRONG + " " * extra for extra in (0, 20, 30, 40))


@pytest.mark.parametrize(
    ("changes", "replies", "is_alive"),
    [
        ((), NEARLY_TOO_LONG, False),  # all wrong, however long
        ((), (RIGHT, RIGHT, RIGHT, WRONG), True),
        ((), tuple(RIGHT + " " * extra for extra in (0, 40, 40, 40)), False),
        # What else the reward weighs does not bring a group to life, where it weighs the answer at all.
        (("reward.terms={correct=1, format=0.5}",), (RIGHT, "B", RIGHT, "B"), False),
        (("reward.terms={correct=1, format=0.5}",), (RIGHT, "A", RIGHT, RIGHT), True),
        (("reward.terms={format=1}", "reward.vetoes=[]"), (RIGHT, "B", RIGHT, "B"), True),
        (("reward.terms={format=1}", "reward.vetoes=[]"), (RIGHT, WRONG, *NEARLY_TOO_LONG[2:]), False),
    ],
)
async def test_groups_live_by_right_and_wrong_and_not_by_length(
    changes: tuple[str, ...], replies: tuple[str, ...], is_alive: bool
) -> None:
    limits = "rollout.max_new_tokens={perceiver=80, reasoner=80}"
    recipe = make_recipe(["loss.estimator=dapo", "reward.overlong_buffer=0.5", limits, *changes])
    roller = make_roller(FakeActor(in_turn(*replies)), BatchScript(dead), recipe, kind="answerer")
    rolled = await roller.roll_out([make_sample()], step=0)
    if changes == () and not is_alive:
        assert len({rollout.reward for rollout in rolled.groups[0].rollouts}) > 1, "the rewards alone differ"
    kept = await roller.roll_out_alive(lambda count: [make_sample()], 1, step=0)
    assert bool(kept.groups) == is_alive


async def test_a_box_set_that_is_vetoed_counts_as_wrong_where_groups_are_chosen() -> None:
    partner = BatchScript(lambda prompt: RIGHT)
    for replies, is_alive in (((BOX, TWICE, BOX, BOX), True), ((TWICE, UNLABELLED, TWICE, TWICE), False)):
        roller = make_roller(FakeActor(in_turn(*replies)), partner, make_recipe(["loss.estimator=dapo"]))
        rolled = await roller.roll_out_alive(lambda count: [make_sample()], 1, step=0)
        assert bool(rolled.groups) == is_alive


async def test_dynamic_sampling_tells_what_it_drew_and_what_it_kept() -> None:
    """Of three rows one is right, one wrong, and one mixed."""

    def say(prompt: Prompt, seed: int) -> str:
        return RIGHT if "easy" in prompt.text or ("mixed" in prompt.text and next(turn)) else WRONG

    turn = iter([True, False, False, False] * 4)
    rows = [make_sample(name, question=f"{name}?") for name in ("easy", "hard", "mixed")]
    recipe = make_recipe(["loss.estimator=dapo", "rollout.max_rounds=1"])
    roller = make_roller(FakeActor(say), BatchScript(dead), recipe, kind="answerer")
    rolled = await roller.roll_out_alive(lambda count: rows, 3, step=0)
    facts = describe_groups(compare_groups(rolled.groups, AdvantageSettings()))
    step = measure_step("0-perceiver", 1, facts, sum_stats(rolled.stats, World()), None, 1e-6, {})
    assert (step.num_rows, step.num_groups, step.num_failed_rows) == (3, 1, 0)
    assert (step.accuracy, step.drawn_accuracy) == (0.25, 5 / 12)
    assert (step.reward, step.drawn_reward) == (0.25, 5 / 12)
    assert (step.dead_groups, step.drawn_dead_groups) == (0.0, 2 / 3)


async def test_processes_draw_the_rows_that_one_would_draw() -> None:
    """The first of two has both groups of the first round; the other's are dead, and they draw for it together."""

    class Half(World):
        __slots__ = ()

        def gather(self, own: Sequence[object]) -> list[object]:
            assert len(own) == 1
            return [*own, others.pop(0)]

    drawn: list[int] = []

    def draw(count: int) -> list:
        drawn.append(count)
        return [make_sample(f"s{len(drawn)}{number}") for number in range(count)]

    async def roll(rank: int) -> list[str]:
        drawn.clear()
        replies = in_turn(RIGHT, WRONG) if rank == 0 else in_turn(WRONG)
        roller = make_roller(FakeActor(replies), BatchScript(dead), kind="answerer")
        rolled = await roller.roll_out_alive(draw, 4, step=0, world=Half(rank, 2))
        return [group.sample.id for group in rolled.groups]

    others = [FINE, 0] * 3  # the other's fate in a round, and its groups
    assert await roll(0) == ["s10", "s12", "s20", "s30"] and drawn == [4, 2, 1]
    others = [FINE, 2, FINE, 1, FINE, 1]
    assert await roll(1) == [] and drawn == [4, 2, 1]
    others = [FINE, 0, FAILED]
    with pytest.raises(TrainingError, match="another process of the run has stopped"):
        await roll(0)
    assert (drawn, others) == ([4, 2], [])


async def test_a_process_that_fails_tells_the_others_before_they_count_their_groups() -> None:
    class Pair(World):
        __slots__ = ()

        def gather(self, own: Sequence[object]) -> list[object]:
            told.extend(own)
            return [*own, FINE]

    def fail(prompt: Prompt, seed: int) -> str:
        raise ModelError("the policy cannot sample")

    told: list[object] = []
    roller = make_roller(FakeActor(fail), BatchScript(dead), kind="answerer")
    with pytest.raises(ModelError, match="cannot sample"):
        await roller.roll_out_alive(lambda count: [make_sample()] * count, 2, step=0, world=Pair(0, 2))
    assert told == [FAILED]


async def test_a_failed_row_counts_as_all_of_its_rollouts() -> None:
    """Two of five images are gone: two fifths of the rollouts, though each is one failure among many answers."""
    gone = [CountingImage(fault=ImageError("there is no file"), num_faults=99) for _ in range(2)]
    rows = [
        *(make_sample(f"s{k}") for k in range(3)),
        *(make_sample(f"g{k}", image=each) for k, each in enumerate(gone)),
    ]
    allowed = make_recipe(["rollout.group_size=8", "partner.max_error_rate=0.4"])
    roller = make_roller(FakeActor(in_turn(RIGHT)), BatchScript(dead), allowed, kind="answerer")
    rolled = await roller.roll_out(rows, step=0)
    assert (rolled.stats.num_failed_rows, len(rolled.groups)) == (2, 3)
    strict = make_recipe(["rollout.group_size=8", "partner.max_error_rate=0.39"])
    roller = make_roller(FakeActor(in_turn(RIGHT)), BatchScript(dead), strict, kind="answerer")
    with pytest.raises(TooManyErrors, match="16 of the latest 40 rollouts could not be judged, all because there"):
        await roller.roll_out(rows, step=0)


async def test_a_perceiver_that_fails_loses_all_rollouts_of_its_row(tmp_path: Path) -> None:
    lockstep = LockstepPartner(BatchScript(lambda prompt: dead(prompt) if "gone" in prompt.text else BOX))
    rows = [make_sample(name, question=f"{name}?") for name in ("gone", "s1", "s2", "s3", "s4", "s5")]
    with EvidenceStore(tmp_path, lockstep, ModelPerceiver(lockstep.model, PROMPTS), weights="w") as store:
        roller = Roller(
            make_recipe(), make_phase("reasoner"), FakeActor(in_turn(RIGHT)), lockstep, PROMPTS, evidence=store
        )
        with pytest.raises(TooManyErrors, match="4 of the latest 24 rollouts could not be judged"):
            await roller.roll_out(rows, step=0)


def judge_by_fits(prompt: Prompt) -> str:
    """Says nothing clear about a trout."""
    return "perhaps" if prompt.role == "judge" and "trout" in prompt.text else "<answer>no</answer>"


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (("fish", "trout", "bird", "fish"), [None] * 4),  # a failed judge takes the right ones along
        (("fish", "bird", "bird", "fish"), [1.0, 0.0, 0.0, 1.0]),
    ],
)
async def test_a_judge_that_fails_masks_the_whole_group(answers: tuple[str, ...], expected: list[float | None]) -> None:
    recipe = make_recipe(['reward.judge="partner"'])
    sample = make_sample(options=(), answer_form="free_form", target="fish")
    actor = FakeActor(in_turn(*(f"<answer>{answer}</answer>" for answer in answers)))
    roller = make_roller(actor, BatchScript(judge_by_fits), recipe, kind="answerer")
    rolled = await roller.roll_out([sample], step=0)
    assert rewards(rolled.groups[0]) == expected


async def test_a_judge_that_fails_in_joint_masks_the_answers_of_its_group_as_well() -> None:
    def say(prompt: Prompt, seed: int) -> str:
        return BOX if prompt.role == "perceiver" else f"<answer>{next(answers)}</answer>"

    answers = iter(("fish", "trout", "bird", "fish"))
    recipe = make_recipe(["control=joint", 'reward.judge="partner"'])
    sample = make_sample(options=(), answer_form="free_form", target="fish")
    roller = make_roller(FakeActor(say), BatchScript(judge_by_fits), recipe, kind="joint")
    rolled = await roller.roll_out([sample], step=0)
    assert len(rolled.groups) == 5
    assert all(reward is None for group in rolled.groups for reward in rewards(group))


@pytest.mark.parametrize(("reworded", "num_calls"), [((), 1), (("seed",), 1), (("temperature",), 2)])
async def test_what_a_server_drew_is_looked_up_again_in_the_next_step(
    reworded: tuple[str, ...], num_calls: int, tmp_path: Path
) -> None:
    class Server(BatchScript):
        def _reply(self, said: str | P2RError) -> Completion | P2RError:
            reply = super()._reply(said)
            return reply if isinstance(reply, P2RError) else reply.model_copy(update={"reworded": reworded})

    lockstep = LockstepPartner(server := Server(lambda prompt: BOX))
    with EvidenceStore(tmp_path, lockstep, ModelPerceiver(lockstep.model, PROMPTS), weights="w") as store:
        actor = FakeActor(in_turn(RIGHT))
        roller = Roller(make_recipe(), make_phase("reasoner"), actor, lockstep, PROMPTS, evidence=store)
        for step in range(2):
            rolled = await roller.roll_out([make_sample()], step)
            assert len(rolled.groups[0].rollouts) == 4
    assert server.num_calls == num_calls
    assert len((tmp_path / "traces.jsonl").read_text().splitlines()) == (num_calls == 1)


IN_PIXELS = '[{"bbox_2d": [1490, 1873, 1720, 1995], "label": "sail"}]'


async def test_boxes_of_another_frame_are_counted_though_their_group_teaches_nothing() -> None:
    actor, partner = FakeActor(in_turn(IN_PIXELS, IN_PIXELS, "[]", BOX)), BatchScript(lambda prompt: RIGHT)
    rolled = await make_roller(actor, partner).roll_out([make_sample()], step=0)
    assert rolled.stats.frames == FrameCount(4, Counter({"pixels": 2}))
    recipe = make_recipe(["rollout.dynamic_sampling=true", "rollout.max_rounds=2"])
    roller = make_roller(FakeActor(in_turn(IN_PIXELS)), partner, recipe)
    rolled = await roller.roll_out_alive(lambda count: [make_sample(f"s{k}") for k in range(count)], 2, step=0)
    assert rolled.groups == []
    assert rolled.stats.frames == FrameCount(16, Counter({"pixels": 16}))


async def test_boxes_of_the_frozen_perceiver_are_counted_once_a_row(tmp_path: Path) -> None:
    lockstep = LockstepPartner(BatchScript(lambda prompt: IN_PIXELS))
    with EvidenceStore(tmp_path, lockstep, ModelPerceiver(lockstep.model, PROMPTS), weights="w") as store:
        roller = Roller(
            make_recipe(), make_phase("reasoner"), FakeActor(in_turn(RIGHT)), lockstep, PROMPTS, evidence=store
        )
        for step in range(2):
            rolled = await roller.roll_out([make_sample("s1"), make_sample("s2")], step)
            assert rolled.stats.frames == FrameCount(2, Counter({"pixels": 2}))


async def test_of_both_roles_together_only_the_looks_are_counted() -> None:
    actor = FakeActor(lambda prompt, seed: IN_PIXELS if prompt.role == "perceiver" else RIGHT)
    rolled = await make_roller(actor, BatchScript(dead), kind="joint").roll_out([make_sample()], step=0)
    assert [group.role for group in rolled.groups] == ["perceiver", *["reasoner"] * 4]
    assert rolled.stats.frames == FrameCount(4, Counter({"pixels": 4}))
