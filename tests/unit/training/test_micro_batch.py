"""The first pass beside what the sampler found, and importance weights."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from p2r.config import LossSettings  # noqa: E402
from p2r.errors import ConfigError  # noqa: E402
from p2r.training.groups import Group  # noqa: E402
from p2r.training.loss import BatchSize, policy_loss  # noqa: E402
from p2r.training.micro_batch import SamplerGap  # noqa: E402
from p2r.training.update import learn_step  # noqa: E402
from tests.fakes.tiny_policy import make_groups, make_learner, repeated_logprobs  # noqa: E402

REWARDS = ((1.0, 0.0, 0.5), (0.0, 1.0, None), (1.0, 1.0, 1.0))


def sample(groups: Sequence[Group], noise: float) -> tuple[list[Group], list[list[list[float]]]]:
    """Groups whose sampler found the tiny policy's own log-probs with some noise, and the policy's."""
    model, draw = make_learner().policy.model, random.Random(0)
    with torch.no_grad():
        flat = repeated_logprobs(model, [(each.prompt, [one.token_ids for one in each.rollouts]) for each in groups])
    own = iter([row.tolist() for row in flat])
    known: list[list[list[float]]] = []
    told: list[Group] = []
    for group in groups:
        rows = [next(own) for _ in group.rollouts]
        known.append(rows)
        rollouts = [
            replace(one, logprobs=tuple(value + draw.uniform(-noise, noise) for value in row))
            for one, row in zip(group.rollouts, rows, strict=True)
        ]
        told.append(replace(group, rollouts=tuple(rollouts)))
    return told, known


def find_gap(groups: Sequence[Group], *changes: str) -> SamplerGap | None:
    report = learn_step(make_learner(changes), groups, 1e-3).report
    assert report is not None
    return report.sampler


@pytest.mark.parametrize(
    "changes",
    [(), ("optimizer.micro_batch_groups=3",), ("optimizer.updates_per_batch=3",), ("optimizer.mini_batch_prompts=1",)],
    ids=["", "one micro-batch", "three updates", "mini-batches"],
)
def test_the_gap_is_between_the_sampler_and_the_policy_before_its_first_update(changes: Sequence[str]) -> None:
    told, known = sample(make_groups(*REWARDS), 0.3)
    pairs = [
        (policy, sampler)
        for group, rows in zip(told, known, strict=True)
        for one, row in zip(group.rollouts, rows, strict=True)
        if one.reward is not None  # the one that could not be judged does not go through the model
        for policy, sampler in zip(row, one.logprobs, strict=True)
    ]
    differences = [abs(math.exp(policy) - math.exp(sampler)) for policy, sampler in pairs]
    apart = [policy - sampler for policy, sampler in pairs]
    gap = find_gap(told, "rollout.prompts_per_step=3", *changes)
    assert gap is not None
    assert gap.diff == pytest.approx(sum(differences) / len(pairs), rel=1e-5)
    assert gap.diff_max == pytest.approx(max(differences), rel=1e-5)
    assert gap.ratio == pytest.approx(sum(math.exp(each) for each in apart) / len(pairs), rel=1e-5)
    assert gap.kl == pytest.approx(sum(math.exp(each) - each - 1 for each in apart) / len(pairs), rel=1e-4)


def test_there_is_no_gap_where_the_sampler_says_what_the_policy_says_and_none_where_it_says_nothing() -> None:
    told, _ = sample(make_groups(*REWARDS), 0.0)
    gap = find_gap(told)
    assert gap is not None and gap.diff_max < 1e-6 and gap.ratio == pytest.approx(1)
    assert find_gap(make_groups(*REWARDS)) is None


@pytest.mark.parametrize("objective", ["clipped", "cispo"])
@pytest.mark.parametrize("has_old", [True, False])
def test_importance_weights_are_those_written_out(objective: str, has_old: bool) -> None:
    """Per token: min(old / sampler, cap) times the policy's part; the KL term has no weight."""
    draw = random.Random(1)
    new, old, ref, sampler = ([draw.uniform(-3, -0.1) for _ in range(40)] for _ in range(4))
    old = old if has_old else new
    advantages = [draw.uniform(-1, 1) for _ in range(40)]
    tensors = [torch.tensor(each, dtype=torch.float64)[:, None] for each in (new, old, ref, sampler)]
    tensors[0].requires_grad_()
    settings = LossSettings.model_validate({"importance_cap": 2.0, "kl_coef": 0.1, "objective": objective})
    report = policy_loss(
        tensors[0],
        tensors[1] if has_old else None,
        tensors[2],
        torch.tensor(advantages, dtype=torch.float64),
        torch.ones(40, 1, dtype=torch.bool),
        settings,
        BatchSize(40, 40, 1, 40),
        sampler_logprobs_BT=tensors[3],
    )
    report.loss.backward()
    losses: list[float] = []
    slopes: list[float] = []
    for n, o, r, s, a in zip(new, old, ref, sampler, advantages, strict=True):
        weight, ratio = min(math.exp(o - s), 2.0), math.exp(n - o)
        bounded = min(max(ratio, 0.8), 1.2)
        if objective == "cispo":
            part, slope = -bounded * a * n, -bounded * a
        elif a < 0:
            part = -a * min(max(ratio, 0.8), 3.0)
            slope = -a * ratio if 0.8 < ratio < 3 else 0.0
        else:
            part, slope = -a * min(ratio, 1.2), -a * ratio if ratio < 1.2 else 0.0
        losses.append(weight * part + 0.1 * min(math.exp(r - n) - (r - n) - 1, 10))
        slopes.append(weight * slope + 0.1 * (1 - math.exp(r - n)))
    assert report.loss.item() == pytest.approx(sum(losses) / 40)
    assert tensors[0].grad is not None
    assert (tensors[0].grad[:, 0] * 40).tolist() == pytest.approx(slopes)


def test_without_a_cap_the_sampler_changes_no_bit() -> None:
    told, _ = sample(make_groups(*REWARDS), 0.3)
    with_it, without = (learn_step(make_learner(), groups, 1e-3).report for groups in (told, make_groups(*REWARDS)))
    assert with_it is not None and without is not None
    assert replace(with_it, sampler=None) == without


def test_a_cap_needs_a_sampler_that_tells_its_log_probs() -> None:
    with pytest.raises(ConfigError, match="importance_cap needs the log-probs of the sampler"):
        learn_step(make_learner(["loss.importance_cap=2"]), make_groups(*REWARDS), 1e-3)
