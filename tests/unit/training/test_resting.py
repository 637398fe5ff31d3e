"""The resting role: which of its replies are kept, and the term that keeps them, beside the plain way to compute it."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from p2r.config import LossSettings, PhaseKind, parse_recipe  # noqa: E402
from p2r.errors import ConfigError  # noqa: E402
from p2r.evidence import gather  # noqa: E402
from p2r.images.budget import FullImage  # noqa: E402
from p2r.models.checkpoint import open_checkpoint  # noqa: E402
from p2r.models.local.encoding import PromptEncoder  # noqa: E402
from p2r.models.nano import CHECKPOINT  # noqa: E402
from p2r.roles import ModelPerceiver, perceiver_prompt, reasoner_prompt  # noqa: E402
from p2r.training.engines.local.distributed import World  # noqa: E402
from p2r.training.groups import Group, RestingReply  # noqa: E402
from p2r.training.lockstep import LockstepPartner  # noqa: E402
from p2r.training.loss import BatchSize, resting_loss  # noqa: E402
from p2r.training.memo import EvidenceStore  # noqa: E402
from p2r.training.micro_batch import MicroBatch  # noqa: E402
from p2r.training.resting import RestingRole, check_resting  # noqa: E402
from p2r.training.rollout import Roller  # noqa: E402
from p2r.training.update import UpdateReport, learn_step  # noqa: E402
from p2r.types import Box  # noqa: E402
from tests.fakes.crew import run_crew  # noqa: E402
from tests.fakes.tiny_policy import (  # noqa: E402
    Recorder,
    make_groups,
    make_learner,
    make_prompt,
    make_responses,
    repeated_logits,
    repeated_logprobs,
)
from tests.fakes.training import (  # noqa: E402
    BOX,
    OTHER_BOX,
    PROMPTS,
    RIGHT,
    WRONG,
    BatchScript,
    FakeActor,
    in_turn,
    make_phase,
    make_recipe,
    make_sample,
)

LEAST = {"out": "x", "data": {"num_rows": 9}}
REWARDS = ((1.0, 0.0, 0.5), (0.0, 1.0, None), (1.0, 1.0, 1.0), (0.0, 0.0, 1.0))
ON = "loss.resting_kl_coef=0.7"
LOCK = threading.Lock()


def rest(groups: Sequence[Group]) -> list[Group]:
    """The groups with a reply of the resting role for all but the second."""
    replies = make_responses([3, 5, 2, 6], seed=11)
    return [
        group if row == 1 else replace(group, resting=RestingReply(make_prompt([(2, 3), (1, 2)], seed=40 + row), ids))
        for row, (group, ids) in enumerate(zip(groups, map(tuple, replies), strict=True))
    ]


def learn(groups: Sequence[Group], *changes: str, world: World | None = None) -> tuple[UpdateReport, torch.Tensor]:
    with LOCK:  # weights are drawn from the one state of all threads
        learner = make_learner(["rollout.prompts_per_step=4", *changes], world=world)
    recorder = Recorder(learner)
    places = {f"s{row}": row for row in range(4)}
    report = learn_step(replace(learner, optimizer=recorder), groups, 1e-3, places=places).report  # type: ignore[arg-type]
    assert report is not None
    return report, torch.stack(recorder.gradients).mean(dim=0)


def plain_divergence(groups: Sequence[Group], temperature: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean divergence over the tokens of the resting role's replies, with its gradient, by the stock model."""
    learner = make_learner()
    kept = [group.resting for group in groups if group.resting is not None]
    rows = [(reply.prompt, [reply.token_ids]) for reply in kept]
    new, ref = (
        torch.cat(
            [
                (logits / temperature).log_softmax(-1).gather(1, tokens[:, None])[:, 0]
                for logits, tokens in repeated_logits(model, rows)
            ]
        )
        for model in (learner.policy.model, learner.snapshot.engine.model)
    )
    apart = new - ref.detach()
    divergence = (apart.exp() - apart - 1).clamp(max=10).mean()
    weights = learner.policy.trainable
    found = torch.autograd.grad(divergence, [*weights.values()], allow_unused=True)
    return divergence.detach(), torch.cat(
        [
            torch.zeros_like(weight).flatten() if gradient is None else gradient.flatten()
            for weight, gradient in zip(weights.values(), found, strict=True)
        ]
    )


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("size", [1, 3])
def test_the_term_is_the_mean_divergence_over_the_resting_roles_tokens(temperature: float, size: int) -> None:
    groups = rest(make_groups(*REWARDS))
    changes = [f"rollout.temperature={temperature}", f"optimizer.micro_batch_groups={size}"]
    without, plain = learn(groups, *changes)
    report, gradient = learn(groups, ON, *changes)
    divergence, wanted = plain_divergence(groups, temperature)
    assert without.resting_kl is None and report.resting_kl == pytest.approx(float(divergence), rel=1e-12)
    assert report.loss == pytest.approx(without.loss + 0.7 * float(divergence), rel=1e-12)
    for name in ("policy", "kl", "entropy", "clip_share", "ratio", "num_tokens"):
        assert getattr(report, name) == pytest.approx(getattr(without, name), rel=1e-12), name
    # Gradients are kept in float32.
    assert torch.allclose((gradient - plain).double(), 0.7 * wanted, rtol=1e-4, atol=1e-6 * float(wanted.abs().max()))
    assert float(wanted.abs().max()) > 0


def test_what_is_at_hand_changes_nothing_while_the_setting_is_off() -> None:
    groups = make_groups(*REWARDS)
    (one, gradient), (other, same) = learn(groups), learn(rest(groups))
    assert one == other and torch.equal(gradient, same)


def test_the_resting_role_is_kept_even_where_the_groups_teach_nothing() -> None:
    dead = rest(make_groups(*[(1.0, 1.0)] * 4))
    report, gradient = learn(dead, ON, "loss.kl_coef=0")
    assert report.resting_kl == pytest.approx(float(plain_divergence(dead)[0]), rel=1e-12)
    assert report.loss == pytest.approx(0.7 * report.resting_kl, rel=1e-12) and gradient.any()
    assert (report.kl, report.num_tokens, report.sampler) == (0.0, 0, None)


def test_each_update_keeps_the_replies_to_its_own_rows() -> None:
    groups = rest(make_groups(*REWARDS))
    report, _ = learn(groups, ON, "optimizer.mini_batch_prompts=2")
    halves = [float(plain_divergence(part)[0]) for part in (groups[:2], groups[2:])]
    assert report.resting_kl == pytest.approx(sum(halves) / 2, rel=1e-12)


def test_importance_weights_and_old_log_probs_are_for_the_active_role_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    told = [
        replace(group, rollouts=tuple(replace(one, logprobs=(-1.0,) * len(one.token_ids)) for one in group.rollouts))
        for group in rest(make_groups(*REWARDS))
    ]
    measured: list[bool] = []
    measure = MicroBatch.measure_old

    def watch(micro: MicroBatch) -> None:
        measured.append(micro.is_resting)
        measure(micro)

    monkeypatch.setattr(MicroBatch, "measure_old", watch)
    changes = ["loss.importance_cap=2", "optimizer.mini_batch_prompts=2"]
    report, _ = learn(told, ON, *changes)
    assert report.resting_kl is not None and measured == [False, False]


def test_the_reference_is_measured_once_for_all_passes() -> None:
    groups = rest(make_groups(*REWARDS))
    learner = make_learner(["rollout.prompts_per_step=4", ON, "optimizer.updates_per_batch=2"])
    report = learn_step(learner, groups, 1e-2).report
    assert report is not None and report.resting_kl is not None
    assert report.resting_kl != pytest.approx(float(plain_divergence(groups)[0]), rel=1e-6)  # the second pass moved


@pytest.mark.parametrize("shares", [[[0, 2], [1, 3]], [[0, 1, 2, 3], []], [[1], [], [0, 2, 3]]])
@pytest.mark.parametrize("changes", [[], ["optimizer.mini_batch_prompts=2", "loss.kl_coef=0"]])
def test_wherever_rows_fell_the_processes_keep_what_one_keeps(
    shares: Sequence[Sequence[int]], changes: Sequence[str]
) -> None:
    groups = rest(make_groups(*REWARDS))
    alone, gradient = learn(groups, ON, *changes)

    def work(world: World) -> tuple[UpdateReport, torch.Tensor]:
        return learn([groups[place] for place in shares[world.rank]], ON, *changes, world=world)

    found = run_crew(len(shares), work)
    assert len({report.num_micro_batches for report, _ in found}) == 1
    for report, _ in found:
        assert report.resting_kl == pytest.approx(alone.resting_kl, rel=1e-9)
        assert report.loss == pytest.approx(alone.loss, rel=1e-9)
    mean = sum(own for _, own in found) / len(shares)  # FSDP takes the mean over the processes
    assert torch.allclose(mean, gradient, rtol=1e-4, atol=1e-7)


def test_a_token_that_is_all_but_forgotten_still_pulls_the_policy_back() -> None:
    """By the estimate for the policy's own tokens, the clamped divergence would have no gradient here."""
    new = torch.tensor([[-8.5, -1.0, -1.0]], dtype=torch.float64, requires_grad=True)
    ref = torch.tensor([[-0.5, -1.0, -0.5]], dtype=torch.float64)
    settings = LossSettings(resting_kl_coef=2.0)
    report = resting_loss(new, ref, torch.tensor([[True, True, False]]), settings, BatchSize(0, 0, 1, 0, num_resting=2))
    report.loss.backward()
    assert float(report.resting_kl) == pytest.approx((math.exp(-8) + 7) / 2, rel=1e-12)
    assert new.grad is not None
    assert new.grad.tolist()[0] == pytest.approx([math.exp(-8) - 1, 0, 0], rel=1e-12)


# Which replies are kept.


def make_resting_roller(kind: PhaseKind, actor: FakeActor, partner: LockstepPartner, **parts: object) -> Roller:
    resting = RestingRole(PromptEncoder(open_checkpoint(CHECKPOINT)), PROMPTS, partner.profile.budget)
    return Roller(make_recipe([ON]), make_phase(kind), actor, partner, PROMPTS, resting=resting, **parts)  # type: ignore[arg-type]


async def test_in_a_perceiver_phase_the_answer_on_the_first_box_set_that_got_one_is_kept() -> None:
    encoder, sample = PromptEncoder(open_checkpoint(CHECKPOINT)), make_sample()
    partner = LockstepPartner(BatchScript(lambda prompt: RIGHT if len(prompt.images) == 2 else WRONG))
    roller = make_resting_roller("perceiver", FakeActor(in_turn('[{"bbox_2d": [1, 2, 3, 4]}]', "[]", BOX)), partner)
    [group] = (await roller.roll_out([sample], step=0)).groups
    assert group.resting is not None
    assert group.resting.token_ids == (*encoder.tokenize(WRONG), encoder.end_token_ids[0])  # the first is vetoed
    evidence = gather(FullImage(sample.image.load()), [])
    asked = encoder.encode(reasoner_prompt(PROMPTS, sample, evidence, partner.profile.budget))
    assert group.resting.prompt.token_ids == asked.token_ids


async def test_the_evidence_of_the_kept_answer_is_that_on_which_it_was_given() -> None:
    encoder, sample = PromptEncoder(open_checkpoint(CHECKPOINT)), make_sample()
    partner = LockstepPartner(BatchScript(lambda prompt: RIGHT))
    roller = make_resting_roller("perceiver", FakeActor(in_turn(BOX, OTHER_BOX)), partner)
    [group] = (await roller.roll_out([sample], step=0)).groups
    evidence = gather(FullImage(sample.image.load()), [Box(x1=100, y1=200, x2=300, y2=400, label="sail")])
    asked = encoder.encode(reasoner_prompt(PROMPTS, sample, evidence, partner.profile.budget))
    assert group.resting is not None and group.resting.prompt.grids == asked.grids
    pixels = zip(group.resting.prompt.patches, asked.patches, strict=True)
    assert all((mine == theirs).all() for mine, theirs in pixels) and len(asked.patches) == 2


async def test_in_a_reasoner_phase_the_boxes_that_the_answers_look_at_are_kept(tmp_path: Path) -> None:
    encoder, sample = PromptEncoder(open_checkpoint(CHECKPOINT)), make_sample()
    partner = LockstepPartner(BatchScript(lambda prompt: BOX))
    with EvidenceStore(tmp_path, partner, ModelPerceiver(partner, PROMPTS), weights="w") as store:
        roller = make_resting_roller("reasoner", FakeActor(in_turn(RIGHT)), partner, evidence=store)
        first, again = [(await roller.roll_out([sample], step=step)).groups[0].resting for step in (0, 1)]
    assert first is not None and again is not None
    assert first.token_ids == again.token_ids == (*encoder.tokenize(BOX), encoder.end_token_ids[0])
    asked = perceiver_prompt(PROMPTS, sample, FullImage(sample.image.load()), partner.profile.budget)
    assert first.prompt.token_ids == encoder.encode(asked).token_ids


async def test_without_the_setting_nothing_is_kept() -> None:
    partner = LockstepPartner(BatchScript(lambda prompt: RIGHT))
    roller = Roller(make_recipe(), make_phase("perceiver"), FakeActor(in_turn(BOX)), partner, PROMPTS)
    assert [group.resting for group in (await roller.roll_out([make_sample()], step=0)).groups] == [None]


async def test_a_reply_that_was_cut_off_is_kept_without_an_end_and_one_with_a_special_token_is_not() -> None:
    encoder = PromptEncoder(open_checkpoint(CHECKPOINT))
    for text, reason, expected in (
        ("one two", "length", tuple(encoder.tokenize("one two"))),
        ("", "length", None),
        ("<|image_pad|>", "stop", None),
    ):
        script = BatchScript(lambda prompt, text=text: text)
        reply = script._reply(text).model_copy(update={"finish_reason": reason})  # type: ignore[union-attr]
        script._reply = lambda said, reply=reply: reply  # type: ignore[method-assign]
        roller = make_resting_roller("perceiver", FakeActor(in_turn(BOX)), LockstepPartner(script))
        [group] = (await roller.roll_out([make_sample()], step=0)).groups
        assert (group.resting and group.resting.token_ids) == expected, text


# Where it has a meaning.

ENDPOINT = 'partner={kind="endpoint", url="http://localhost:1/v1#other"}'
LAUNCHED = 'partner={kind="endpoint", url="http://localhost:1/v1", launch="vllm serve {checkpoint} --port {port}"}'
SFT = 'schedule=[{role="perceiver", method="sft", steps=1, data={source="rows.jsonl"}}]'


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["control=joint"], "the control joint trains both: set it to 0"),
        (["control=single-stage"], "the control single-stage has no other role: set it to 0"),
        (['schedule=[{role="answerer"}]'], "the phase 0-answerer has no other role: set it to 0"),
        ([SFT], "the recipe has supervised phases alone: leave it out"),
        ([ENDPOINT], "partner.url may be another model: give partner.kind"),
    ],
)
def test_a_recipe_without_a_role_at_rest_is_refused(changes: Sequence[str], message: str) -> None:
    parse_recipe(LEAST, changes)
    with pytest.raises(ConfigError, match=message):
        parse_recipe(LEAST, [ON, *changes])


@pytest.mark.parametrize(
    "changes",
    [
        [LAUNCHED],
        ['schedule=[{role="answerer", loss={resting_kl_coef=0}}, {role="perceiver"}]'],
        ['schedule=[{role="perceiver", method="sft", steps=1, data={source="rows.jsonl"}}, {role="reasoner"}]'],
    ],
)
def test_a_recipe_in_which_some_phase_has_one_is_taken(changes: Sequence[str]) -> None:
    check_resting(parse_recipe(LEAST, [ON, *changes]))


def test_a_perceiver_phase_that_asks_for_no_answer_has_none_to_keep() -> None:
    alone = 'schedule=[{role="perceiver", reward={set="paper", terms={format=1}}}]'
    check_resting(parse_recipe(LEAST, [alone]))
    with pytest.raises(ConfigError, match="the reward of phase 0-perceiver asks for no answer") as caught:
        check_resting(parse_recipe(LEAST, [ON, alone]))
    assert "loss.resting_kl_coef = 0" in caught.value.hint


def test_log_probs_of_kept_replies_are_those_of_repeated_rows() -> None:
    """What the exactness above rests on."""
    [group, *_] = rest(make_groups(*REWARDS))
    assert group.resting is not None
    model = make_learner().policy.model
    rows = [(group.resting.prompt, [group.resting.token_ids])]
    [logprobs], [(logits, tokens)] = repeated_logprobs(model, rows), repeated_logits(model, rows)
    assert torch.allclose(logprobs, logits.log_softmax(-1).gather(1, tokens[:, None])[:, 0])
