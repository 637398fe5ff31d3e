"""The loss: a case worked out by hand, and what each of its parts promises."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from p2r.config import AdvantageSettings, LossSettings  # noqa: E402
from p2r.training.advantages import compute_advantages  # noqa: E402
from p2r.training.loss import BatchSize, LossReport, policy_loss  # noqa: E402

PLAIN = LossSettings(kl_coef=0.0)


# Two prompts, three rollouts each, of 2, 1, 3 and 1, 2, 1 tokens; the last of the second prompt could not be judged.
#
# Rewards 1, 0, 0: mean 1/3, squares 4/9 + 1/9 + 1/9 = 2/3, by 2: variance 1/3, A = 2/sqrt 3, -1/sqrt 3, -1/sqrt 3.
# Rewards 0, 1, none: mean 1/2, variance 1/2, A = -1/sqrt 2, 1/sqrt 2, 0.
REWARDS = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, math.nan]], dtype=torch.float64)
MASK = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 0, 0], [1, 1, 0], [0, 0, 0]], dtype=torch.bool)
A, B, C = 2 / math.sqrt(3), 1 / math.sqrt(3), 1 / math.sqrt(2)
# Ratios new / old, and reference / new, chosen freely; entries beyond a reply's end are never read.
RATIO = torch.tensor(
    [[1.5, 0.5, 9], [0.5, 9, 9], [1.0, 1.1, 1.5], [1.0, 9, 9], [1.15, 1.3, 9], [9, 9, 9]],
    dtype=torch.float64,
)
REF = torch.tensor(
    [[2.0, 1.0, 9], [1.0, 9, 9], [1.0, 0.5, 1.0], [1.0, 9, 9], [1.0, 1.0, 9], [9, 9, 9]],
    dtype=torch.float64,
)
SIZE = BatchSize(num_rollouts=5, num_tokens=9, max_response_tokens=16, num_measured=9)

# -min(ratio * A, clip(ratio) * A), token by token, with the clip range 0.8 to 1.2.
POLICY = [
    [-1.2 * A, -0.5 * A],  # 1.5 is clipped; 0.5 is not, since raising it is wanted
    [0.8 * B],  # 0.5 is clipped: lowered enough
    [1.0 * B, 1.1 * B, 1.5 * B],  # 1.5 is not: it has to come down
    [1.0 * C],
    [-1.15 * C, -1.2 * C],  # 1.3 is clipped
]
# k3: q - log q - 1 for q = ref / new: 2 - log 2 - 1 and 1/2 + log 2 - 1; 0 where q is 1.
KL = 1 - math.log(2) + math.log(2) - 0.5


def hand_case() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """New, old and reference log-probs and the advantages."""
    new = torch.full(MASK.shape, -1.0, dtype=torch.float64, requires_grad=True)
    old = new.detach() - RATIO.log()
    ref = new.detach() + REF.log()
    computed = compute_advantages(REWARDS, ~REWARDS.isnan(), AdvantageSettings(eps=1e-12))
    return new, old, ref, computed.advantages_PG.flatten()


def test_the_advantages_of_the_hand_case() -> None:
    assert hand_case()[3].tolist() == pytest.approx([A, -B, -B, -C, C, 0])


def test_token_mean_number_by_number() -> None:
    new, old, ref, advantages = hand_case()
    report = policy_loss(new, old, ref, advantages, MASK, LossSettings(kl_coef=0.01), SIZE)
    policy = sum(sum(row) for row in POLICY) / 9
    assert report.policy.item() == pytest.approx(policy)
    assert report.kl.item() == pytest.approx(KL / 9)
    assert report.loss.item() == pytest.approx(policy + 0.01 * KL / 9)
    assert report.clip_share.item() == pytest.approx(3 / 9)  # 1.5, 0.5 and 1.3
    assert report.ratio.item() == pytest.approx((1.5 + 0.5 + 0.5 + 1 + 1.1 + 1.5 + 1 + 1.15 + 1.3) / 9)


def test_sequence_mean_number_by_number() -> None:
    new, old, ref, advantages = hand_case()
    settings = LossSettings(kl_coef=0.01, reduction="sequence-mean")
    report = policy_loss(new, old, ref, advantages, MASK, settings, SIZE)
    policy = sum(sum(row) / len(row) for row in POLICY) / 5
    kl = ((1 - math.log(2)) / 2 + (math.log(2) - 0.5) / 3) / 5
    assert report.policy.item() == pytest.approx(policy)
    assert report.loss.item() == pytest.approx(policy + 0.01 * kl)
    assert report.kl.item() == pytest.approx(KL / 9)


def test_dr_grpo_number_by_number() -> None:
    new, old, _, advantages = hand_case()
    settings = LossSettings(kl_coef=0.0, reduction="dr-grpo")
    report = policy_loss(new, old, None, advantages, MASK, settings, SIZE)
    assert report.loss.item() == pytest.approx(sum(sum(row) for row in POLICY) / (5 * 16))


def test_gspo_number_by_number() -> None:
    new, old, _, advantages = hand_case()
    settings = LossSettings(clip_low=0.2, clip_high=0.2, kl_coef=0.0, reduction="sequence-mean", ratio="sequence")
    report = policy_loss(new, old, None, advantages, MASK, settings, SIZE)
    # Geometric means of the rollouts' ratios: sqrt 0.75, 0.5, cbrt 1.65, 1, sqrt 1.495 (above 1.2: clipped).
    expected = [-math.sqrt(0.75) * A, 0.8 * B, 1.65 ** (1 / 3) * B, 1.0 * C, -1.2 * C]
    assert report.loss.item() == pytest.approx(sum(expected) / 5)
    assert report.clip_share.item() == pytest.approx((1 + 2) / 9)


def test_clip_higher_lets_ratios_rise_further() -> None:
    new, old, _, advantages = hand_case()
    report = policy_loss(new, old, None, advantages, MASK, LossSettings(clip_high=0.28, kl_coef=0.0), SIZE)
    policy = [[-1.28 * A, -0.5 * A], *POLICY[1:4], [-1.15 * C, -1.28 * C]]
    assert report.loss.item() == pytest.approx(sum(sum(row) for row in policy) / 9)


def test_the_gradient_of_the_hand_case() -> None:
    new, old, ref, advantages = hand_case()
    policy_loss(new, old, ref, advantages, MASK, LossSettings(kl_coef=0.01), SIZE).loss.backward()
    # -ratio * A where the clip has not stopped it; the KL's is 1 - ref / new.
    expected = [
        [0.01 * (1 - 2), -0.5 * A, 0],
        [0, 0, 0],
        [B, 1.1 * B + 0.01 * 0.5, 1.5 * B],
        [C, 0, 0],
        [-1.15 * C, 0, 0],
        [0, 0, 0],
    ]
    found = new.grad
    assert found is not None
    assert (found * 9).tolist() == [pytest.approx(row) for row in expected]


def test_without_old_log_probs_every_ratio_is_one_and_the_gradient_is_the_plain_one() -> None:
    new, _, _, advantages = hand_case()
    report = policy_loss(new, None, None, advantages, MASK, PLAIN, SIZE)
    report.loss.backward()
    expected = -advantages[:, None] * MASK / 9
    assert report.ratio.item() == pytest.approx(1)
    assert report.clip_share.item() == 0
    assert new.grad is not None and torch.allclose(new.grad, expected)


@pytest.mark.parametrize("reduction", ["token-mean", "sequence-mean", "dr-grpo"])
@pytest.mark.parametrize("ratio", ["token", "sequence"])
def test_micro_batches_add_up_to_the_batch(reduction: str, ratio: str) -> None:
    generator = torch.Generator().manual_seed(0)
    new, old, ref = (-torch.rand(12, 6, generator=generator, dtype=torch.float64) for _ in range(3))
    mask = torch.arange(6) < torch.randint(1, 7, (12, 1), generator=generator)
    advantages = torch.randn(12, generator=generator, dtype=torch.float64)
    entropy = torch.rand(12, 6, generator=generator, dtype=torch.float64)
    settings = LossSettings(reduction=reduction, ratio=ratio)  # type: ignore[arg-type]
    size = BatchSize(12, int(mask.sum()), 16, int(mask.sum()))

    def part(rows: slice) -> LossReport:
        longest = int(mask[rows].sum(1).max())
        one, two, three, four, five = (each[rows, :longest] for each in (new, old, ref, mask, entropy))
        return policy_loss(one, two, three, advantages[rows], four, settings, size, entropy_BT=five)

    whole, parts = part(slice(0, 12)), [part(slice(0, 1)), part(slice(1, 6)), part(slice(6, 12))]
    for name in ("loss", "policy", "kl", "entropy", "clip_share", "ratio"):
        assert sum(getattr(each, name).item() for each in parts) == pytest.approx(getattr(whole, name).item())
    assert whole.entropy.item() == pytest.approx(entropy[mask].mean().item())


def test_what_stands_beyond_a_reply_s_end_is_never_read() -> None:
    new, old, ref, advantages = hand_case()
    report = policy_loss(new, old, ref, advantages, MASK, LossSettings(), SIZE)
    other = [torch.where(MASK, each, -50.0) for each in (new, old, ref)]
    again = policy_loss(*other, advantages, MASK, LossSettings(), SIZE)
    assert again.loss.item() == report.loss.item()


def test_a_group_that_is_all_alike_still_pulls_toward_the_reference() -> None:
    new, old, ref, _ = hand_case()
    none = torch.zeros(6, dtype=torch.float64)
    assert policy_loss(new, old, ref, none, MASK, LossSettings(kl_coef=0.5), SIZE).loss.item() == pytest.approx(
        0.5 * KL / 9
    )
    assert policy_loss(new, old, None, none, MASK, PLAIN, SIZE).loss.item() == 0
