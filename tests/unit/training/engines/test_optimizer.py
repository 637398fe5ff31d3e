"""AdamW on float32 masters."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from p2r.config import OptimizerSettings
from p2r.errors import ConfigError, TrainingError
from p2r.training.engines.local.distributed import World
from p2r.training.engines.local.optimizer import Optimizer, rate_at


def make(weight: nn.Parameter, **settings: object) -> Optimizer:
    chosen = OptimizerSettings.model_validate({"weight_decay": 0.0, "grad_clip": 1e9, **settings})
    return Optimizer({"weight": weight}, chosen, World())


def follow(weight: nn.Parameter, optimizer: Optimizer, rate: float, num_steps: int) -> None:
    for _ in range(num_steps):
        (weight.float() ** 2).sum().backward()
        optimizer.step(rate)


def test_float32_weights_move_as_by_plain_adamw() -> None:
    ours, theirs = nn.Parameter(torch.tensor([1.0, -2.0])), nn.Parameter(torch.tensor([1.0, -2.0]))
    plain = torch.optim.AdamW([theirs], lr=0.1, betas=(0.9, 0.999), weight_decay=0.0)
    follow(ours, make(ours), 0.1, 3)
    for _ in range(3):
        plain.zero_grad()
        (theirs**2).sum().backward()
        plain.step()
    assert torch.equal(ours, theirs)


def test_weights_decay_by_the_rate_times_the_setting() -> None:
    weight = nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = make(weight, weight_decay=0.5)
    weight.grad = torch.zeros(2)
    optimizer.step(0.1)
    assert weight.tolist() == pytest.approx([0.95, -1.9])


def test_bfloat16_weights_add_up_steps_that_are_too_small_for_them() -> None:
    weight = nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
    follow(weight, make(weight), 1e-3, 20)
    assert float(weight.detach()) == pytest.approx(0.98, abs=0.004)
    alone = nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
    plain = torch.optim.AdamW([alone], lr=1e-3, weight_decay=0.0)
    for _ in range(20):
        plain.zero_grad()
        (alone**2).sum().backward()
        plain.step()
    assert float(alone.detach()) == 1.0


def test_gradients_of_several_micro_batches_add_up_in_float32() -> None:
    weight = nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
    optimizer = make(weight)
    for _ in range(300):
        (weight * 1.0).sum().backward()
    assert weight.grad is None
    assert optimizer.step(0.0) == 300.0


def test_offloaded_masters_move_the_weights_too() -> None:
    ours, theirs = (nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.bfloat16)) for _ in range(2))
    follow(ours, make(ours, kind="offload"), 0.1, 3)
    follow(theirs, make(theirs), 0.1, 3)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("limit", "factor"), [(6.5, 0.5), (12.9, 12.9 / 13), (13.5, 1.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_adam_gets_gradients_that_are_clipped_by_their_common_norm(
    limit: float, factor: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = {"pair": nn.Parameter(torch.ones(2, dtype=dtype)), "one": nn.Parameter(torch.ones(1, dtype=dtype))}
    optimizer = Optimizer(weights, OptimizerSettings(grad_clip=limit), World())
    gradients: list[float] = []

    def look() -> None:
        [group] = optimizer._adam.param_groups
        gradients.extend(value for master in group["params"] for value in master.grad.tolist())

    monkeypatch.setattr(optimizer._adam, "step", look)
    (weights["pair"] * torch.tensor([3.0, 4.0], dtype=dtype)).sum().backward()
    (weights["one"] * 12.0).sum().backward()
    assert optimizer.step(0.1) == pytest.approx(13.0)  # the norm before clipping
    assert gradients == pytest.approx([3 * factor, 4 * factor, 12 * factor], rel=1e-6)


def test_the_norm_is_exact_where_float32_would_round_and_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sum of squares that float32 cannot hold: 2**26 and many ones."""
    weights = {str(place): nn.Parameter(torch.zeros(3)) for place in range(40)}
    optimizer = Optimizer(weights, OptimizerSettings(grad_clip=1e9), World())
    for place, weight in weights.items():
        weight.grad = torch.tensor([8192.0 if place == "7" else 1.0, 1.0, -1.0])
    reads: list[int] = []
    read = torch.Tensor.__float__
    monkeypatch.setattr(torch.Tensor, "__float__", lambda tensor: (reads.append(1), read(tensor))[1])
    monkeypatch.setattr(optimizer._adam, "step", lambda: None)
    assert optimizer.step(0.0) == pytest.approx(math.sqrt(2**26 + 119), rel=1e-15)
    assert len(reads) == 1


def test_gradients_within_the_limit_are_left_alone() -> None:
    free, bound = (nn.Parameter(torch.tensor([0.3, -0.4])) for _ in range(2))
    follow(free, make(free, grad_clip=1e9), 0.01, 3)
    follow(bound, make(bound, grad_clip=1.01), 0.01, 3)  # the norm is 1 at first
    assert torch.equal(free, bound)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_stops_and_changes_nothing(bad: float) -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    optimizer = make(weight)
    (weight * bad).sum().backward()
    with pytest.raises(TrainingError, match="norm is") as caught:
        optimizer.step(0.1)
    assert float(weight.detach()) == 1.0
    assert "optimizer.lr" in caught.value.hint


def test_a_resumed_optimizer_continues_to_the_bit() -> None:
    weights = [nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.bfloat16)) for _ in range(2)]
    first = make(weights[0])
    follow(weights[0], first, 0.01, 3)
    with torch.no_grad():
        weights[1].copy_(weights[0])
    second = make(weights[1])
    second.load(copy.deepcopy(first.state()))
    for weight, optimizer in zip(weights, (first, second), strict=True):
        follow(weight, optimizer, 0.01, 3)
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(first.state()["masters"]["weight"], second.state()["masters"]["weight"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_eight_bit_states_need_a_gpu() -> None:
    with pytest.raises(ConfigError, match="needs an NVIDIA GPU"):
        make(nn.Parameter(torch.ones(1)), kind="adamw8bit")


@pytest.mark.parametrize(
    ("scheduler", "rates"),
    [("constant", [0.5, 1.0, 1.0, 1.0]), ("linear", [0.5, 1.0, 1.0, 0.5]), ("cosine", [0.5, 1.0, 1.0, 0.5])],
)
@pytest.mark.parametrize(
    "warmup",
    [{"warmup_steps": 2}, {"warmup_share": 0.5}, {"warmup_share": 0.3}, {"warmup_steps": 1, "warmup_share": 0.4}],
)
def test_the_rate_warms_up_and_falls(scheduler: str, rates: list[float], warmup: dict[str, float]) -> None:
    settings = OptimizerSettings.model_validate({**warmup, "scheduler": scheduler})
    assert [rate_at(settings, 1.0, step, 4) for step in range(4)] == pytest.approx(rates)
