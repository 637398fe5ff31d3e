"""Dual clip, clamps and CISPO, beside formulas written out token by token in plain Python, as in verl 0.9.1."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product

import pytest

torch = pytest.importorskip("torch")

from p2r.config import LossSettings, parse_recipe  # noqa: E402
from p2r.errors import ConfigError  # noqa: E402
from p2r.training.loss import BatchSize, LossReport, policy_loss  # noqa: E402

LOG_RATIOS = (-30.0, -19.0, -2.0, -0.1, 0.0, 0.15, 1.0, 1.2, 3.0, 12.0, 19.0, 30.0)
TOWARDS = (-90.0, -25.0, -9.0, -1.0, 0.0, 0.3, 2.0, 2.7, 5.0, 21.0, 90.0)
"""Logarithms of new / old and of reference / new. k3 passes 10 between 2.6 and 2.7, and below -11."""
ADVANTAGES = (-1.5, 0.0, 0.7)
LOGPROB = -1.25
LIMITED, FREE = {"dual_clip": 3.0, "clamp": True}, {"dual_clip": 0.0, "clamp": False}


def one_token(
    advantage: float, log_ratio: float, toward: float = 0.0, **settings: object
) -> tuple[LossReport, float, float]:
    """The report, the value and the derivative of the loss of a single token."""
    new = torch.tensor([[LOGPROB]], dtype=torch.float64, requires_grad=True)
    chosen = LossSettings.model_validate({"kl_coef": 0.01, **settings})
    report = policy_loss(
        new,
        new.detach() - log_ratio,
        new.detach() + toward,
        torch.tensor([advantage], dtype=torch.float64),
        torch.ones(1, 1, dtype=torch.bool),
        chosen,
        BatchSize(1, 1, 1, 1),
    )
    report.loss.backward()
    assert new.grad is not None
    return report, report.loss.item(), new.grad.item()


def written_out(
    advantage: float, log_ratio: float, toward: float, limits: Mapping[str, object], *, is_sequence: bool = False
) -> tuple[float, float, float, bool]:
    """Loss, derivative, divergence, and whether a clip holds; clip range 0.8 to 1.2, KL weight 0.01."""
    low, high = (-math.inf, 10.0) if is_sequence else (-20.0, 20.0)
    moves = True  # whether the ratio still moves with the log-prob
    if limits["clamp"]:
        moves, log_ratio = low <= log_ratio <= high, min(max(log_ratio, low), high)
    ratio = math.exp(log_ratio)
    if advantage >= 0:
        holds = ratio > 1.2 and advantage > 0
        loss = -advantage * min(ratio, 1.2)
    else:
        cap = limits["dual_clip"] or math.inf
        assert isinstance(cap, float)
        holds = ratio < 0.8 or ratio > cap
        loss = -advantage * min(max(ratio, 0.8), cap)
    slope = -advantage * ratio if moves and not holds else 0.0
    moves = True
    if limits["clamp"]:
        moves, toward = abs(toward) <= 20, min(max(toward, -20.0), 20.0)
    k3, k3_slope = math.exp(toward) - toward - 1, 1 - math.exp(toward)
    if limits["clamp"] and k3 > 10:
        k3, moves = 10.0, False
    return loss + 0.01 * k3, slope + (0.01 * k3_slope if moves else 0.0), k3, holds


@pytest.mark.parametrize("limits", [LIMITED, FREE, {"dual_clip": 5.0, "clamp": False}], ids=["on", "off", "far"])
@pytest.mark.parametrize("ratio", ["token", "sequence"])
def test_each_token_is_limited_as_written_out(limits: Mapping[str, object], ratio: str) -> None:
    for advantage, log_ratio, toward in product(ADVANTAGES, LOG_RATIOS, TOWARDS):
        report, loss, slope = one_token(advantage, log_ratio, toward, ratio=ratio, **limits)
        expected = written_out(advantage, log_ratio, toward, limits, is_sequence=ratio == "sequence")
        case = (advantage, log_ratio, toward)
        assert loss == pytest.approx(expected[0], rel=1e-12), case
        assert slope == pytest.approx(expected[1], rel=1e-9, abs=1e-12), case
        assert report.kl.item() == pytest.approx(expected[2], rel=1e-12), case
        assert report.clip_share.item() == expected[3], case


def test_the_limits_are_on_unless_a_recipe_says_otherwise() -> None:
    plain = LossSettings()
    assert (plain.dual_clip, plain.clamp) == (3.0, True)
    # Without them one token has a divergence of 4.8e8 nats, and its gradient fills the clipped step.
    assert one_token(0.0, 0.0, 20.0)[1:] == (pytest.approx(0.1), 0.0)
    assert one_token(0.0, 0.0, 20.0, **FREE)[1:] == pytest.approx((4.85165e6, -4.85165e6), 1e-4)
    assert one_token(-1.0, 3.0)[2] == 0.0
    assert one_token(-1.0, 3.0, **FREE)[2] == pytest.approx(math.exp(3))


def test_with_one_update_a_batch_the_limits_change_no_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    values = [-torch.rand(12, 6, generator=generator) for _ in range(2)]
    mask = torch.arange(6) < torch.randint(1, 7, (12, 1), generator=generator)
    advantages = torch.randn(12, generator=generator)
    size = BatchSize(12, int(mask.sum()), 6, int(mask.sum()))
    found: list[tuple[torch.Tensor, ...]] = []
    for limits in (LIMITED, FREE):
        new = values[0].clone().requires_grad_()
        settings = LossSettings.model_validate(limits)
        report = policy_loss(new, None, values[1], advantages, mask, settings, size)
        report.loss.backward()
        assert new.grad is not None
        found.append((report.loss, report.kl, report.ratio, new.grad))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("value", [0.5, 1.0, -3.0])
def test_a_dual_clip_that_would_stop_every_token_is_refused(value: float) -> None:
    with pytest.raises(ConfigError, match=rf"loss.dual_clip is {value}: it must be above 1, or 0 for no limit"):
        parse_recipe({"out": "x", "data": {"num_rows": 9}, "loss": {"dual_clip": value}})


def test_cispo_weights_each_log_prob_by_its_clipped_ratio() -> None:
    for advantage, log_ratio in product(ADVANTAGES, LOG_RATIOS):
        report, loss, slope = one_token(advantage, log_ratio, objective="cispo", kl_coef=0.0, clip_low=0.5, clip_high=4)
        ratio = math.exp(min(max(log_ratio, -20.0), 20.0))
        weight = min(max(ratio, 0.5), 5.0)
        assert loss == pytest.approx(-weight * advantage * LOGPROB, rel=1e-12)
        assert slope == pytest.approx(-weight * advantage, rel=1e-12)  # of every token, however far it has moved
        assert report.clip_share.item() == (weight != ratio)


def test_the_estimator_cispo_bounds_weights_from_above_alone() -> None:
    recipe = parse_recipe({"out": "x", "data": {"num_rows": 9}, "loss": {"estimator": "cispo"}})
    settings = recipe.loss
    assert (settings.objective, settings.kl_coef, settings.reduction) == ("cispo", 0.0, "token-mean")
    for log_ratio, weight in ((-15.0, math.exp(-15)), (1.0, math.e), (3.0, 5.0)):
        slope = one_token(-1.0, log_ratio, **settings.model_dump())[2]
        assert slope == pytest.approx(weight)


def test_gspo_has_no_dual_clip_as_in_verl() -> None:
    recipe = parse_recipe({"out": "x", "data": {"num_rows": 9}, "loss": {"estimator": "gspo"}})
    assert recipe.loss.dual_clip == 0.0 and recipe.loss.clamp
