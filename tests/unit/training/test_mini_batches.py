"""Updates on parts of a batch, beside a plain loop over the stock model: its loss, AdamW, one part after the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from p2r.config import AdvantageSettings, parse_recipe  # noqa: E402
from p2r.errors import ConfigError  # noqa: E402
from p2r.training.engines.local.distributed import World  # noqa: E402
from p2r.training.groups import Group  # noqa: E402
from p2r.training.update import compare_groups, learn_step, split_groups  # noqa: E402
from p2r.training.watch.stopwatch import Stopwatch  # noqa: E402
from tests.fakes.tiny_policy import make_groups, make_learner, make_model, repeated_logprobs  # noqa: E402

RATE = 1e-2
REWARDS = ((1.0, 0.0, 0.5), (0.0, 1.0, 0.0), (1.0, 1.0, 1.0), (0.0, 0.0, 1.0), (0.5, 0.0, 1.0), (1.0, 0.0, 0.0))
LEAST = {"out": "x", "data": {"num_rows": 9}}


def plain_weights(groups: Sequence[Group], size: int, num_passes: int) -> tuple[dict[str, torch.Tensor], list[float]]:
    """Weights after the updates, and losses: the token mean of each part, clip 0.2, dual clip 3, k3 times 0.01."""
    model, reference = make_model(), make_learner().snapshot.engine.model
    adam = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.999), weight_decay=0.01)

    def logprobs(of: torch.nn.Module, part: Sequence[Group]) -> torch.Tensor:
        rows = [(group.prompt, [one.token_ids for one in group.rollouts]) for group in part]
        return torch.cat(repeated_logprobs(of, rows))  # type: ignore[arg-type]

    parts = [groups[first : first + size] for first in range(0, len(groups), size)]
    with torch.no_grad():
        olds, refs = ([logprobs(of, part) for part in parts] for of in (model, reference))
    losses: list[float] = []
    for _ in range(num_passes):
        for part, old, ref in zip(parts, olds, refs, strict=True):
            advantages: list[float] = []
            for group in part:
                rewards = [one.reward or 0.0 for one in group.rollouts]
                mean = sum(rewards) / 3
                std = math.sqrt(sum((each - mean) ** 2 for each in rewards) / 2)
                for one, reward in zip(group.rollouts, rewards, strict=True):
                    advantages += [(reward - mean) / (std + 1e-6)] * len(one.token_ids)
            new, adv = logprobs(model, part), torch.tensor(advantages)
            ratio = (new - old).exp()
            gain = torch.minimum(ratio * adv, ratio.clamp(0.8, 1.2) * adv)
            gain = torch.where(adv < 0, torch.maximum(gain, 3 * adv), gain)
            loss = (-gain + 0.01 * ((ref - new).exp() - (ref - new) - 1).clamp(max=10)).mean()
            adam.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            adam.step()
            losses.append(loss.item())
    return {name: weight.detach() for name, weight in model.named_parameters()}, losses


@pytest.mark.parametrize(("size", "num_passes"), [(2, 1), (3, 1), (2, 2), (6, 2)])
def test_weights_move_as_in_a_plain_loop_over_the_parts(size: int, num_passes: int) -> None:
    groups = make_groups(*REWARDS)
    expected, losses = plain_weights(groups, size, num_passes)
    changes = ["rollout.prompts_per_step=6", f"optimizer.mini_batch_prompts={size}"]
    learner = make_learner([*changes, f"optimizer.updates_per_batch={num_passes}"])
    report = learn_step(learner, groups, RATE).report
    assert report is not None
    assert report.loss == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    before = make_learner().policy.trainable
    for name, weight in learner.policy.trainable.items():
        moved, wanted = weight.detach() - before[name].detach(), expected[name] - before[name].detach()
        # A weight without a gradient moves by the sign of rounding, in AdamW; few do.
        assert float((moved - wanted).abs().mean()) < 2e-3 * max(float(wanted.abs().mean()), RATE), name


def test_old_log_probs_are_measured_once_and_only_where_a_first_pass_will_not_do() -> None:
    watch, silent, changes = Stopwatch(), Stopwatch(), ["rollout.prompts_per_step=6", "optimizer.updates_per_batch=2"]
    learn_step(make_learner([*changes, "optimizer.mini_batch_prompts=3"]), make_groups(*REWARDS), RATE, watch)
    learn_step(make_learner([*changes, "optimizer.mini_batch_prompts=6"]), make_groups(*REWARDS), RATE, silent)
    assert "old" in watch.seconds and "old" not in silent.seconds


def test_mini_batches_of_the_whole_batch_change_no_bit() -> None:
    reports = [
        learn_step(make_learner(["rollout.prompts_per_step=6", *changes]), make_groups(*REWARDS), RATE).report
        for changes in ((), ("optimizer.mini_batch_prompts=6",))
    ]
    assert reports[0] == reports[1]


def test_an_answer_goes_where_the_box_set_goes_that_it_was_given_on() -> None:
    *boxes, first, second = make_groups((1.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0,), (0.0,))
    groups = [*boxes, replace(first, parent=(2, 0)), replace(second, parent=(0, 1))]
    compared = compare_groups(groups, AdvantageSettings())
    parts = split_groups(compared, 2)
    assert [[compared.index(each) for each in part] for part in parts] == [[0, 1, 4], [2, 3]]
    assert split_groups([], 2) == []


def test_a_part_that_teaches_nothing_is_passed_over() -> None:
    changes = ["rollout.prompts_per_step=4", "optimizer.mini_batch_prompts=2", "loss.kl_coef=0"]
    alive = make_groups((1.0, 0.0), (0.0, 1.0))
    dead = [replace(group, rollouts=tuple(replace(one, reward=1.0) for one in group.rollouts)) for group in alive]
    alone, beside = (make_learner(changes) for _ in range(2))
    one, other = learn_step(alone, alive, RATE).report, learn_step(beside, [*dead, *alive], RATE).report
    assert one is not None and one == other
    same = zip(alone.policy.trainable.values(), beside.policy.trainable.values(), strict=True)
    assert all(torch.equal(mine, theirs) for mine, theirs in same)


def test_each_process_takes_its_share_of_every_part() -> None:
    """Two processes with the same four groups are one with eight, whose parts hold two groups of each."""

    class Twins(World):
        __slots__ = ()

        def gather(self, own: Sequence[object]) -> list[object]:
            return [item for item in own for _ in range(2)]

        def add_up(self, values: Sequence[float]) -> list[float]:
            return [2 * value for value in values]

    changes = ["rollout.prompts_per_step=8", "optimizer.mini_batch_prompts=4"]
    four = make_groups(*REWARDS[:4])
    eight = [four[place] for place in (0, 1, 0, 1, 2, 3, 2, 3)]
    pair = learn_step(make_learner(changes, world=Twins(size=2)), four, RATE).report
    alone = learn_step(make_learner(changes), eight, RATE).report
    assert pair is not None and alone is not None
    assert pair.num_tokens == alone.num_tokens and pair.num_micro_batches * 2 == alone.num_micro_batches
    assert pair.loss == pytest.approx(alone.loss, rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["optimizer.mini_batch_prompts=24"], "rollout.prompts_per_step is 64: it must be a multiple of"),
        (["control=joint", "optimizer.mini_batch_prompts=1"], "the control joint halves optimizer.mini_batch_prompts"),
        (
            ["schedule=[{role='reasoner', rollout={prompts_per_step=6}}]", "optimizer.mini_batch_prompts=4"],
            "prompts_per_step is 6",
        ),
    ],
)
def test_parts_that_do_not_fit_the_step_are_refused(changes: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_recipe(LEAST, changes)


def test_joint_halves_the_prompts_of_an_update_as_it_halves_those_of_a_step() -> None:
    [phase] = parse_recipe(LEAST, ["control=joint", "optimizer.mini_batch_prompts=16"]).phases()
    assert (phase.prompts_per_step, phase.prompts_per_update) == (32, 8)
