"""Training on an NVIDIA GPU gives what it gives on the CPU, and what the stock model gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch

from p2r.dialogue import Decoding
from p2r.training.engines.local.generate import Generated
from p2r.training.engines.local.logprobs import compute_logprobs, pack
from tests.fakes.tiny_policy import (
    draw_groups,
    make_engine,
    make_model,
    make_prompt,
    make_responses,
    repeated_logprobs,
    use_exact_parts,
)
from tests.fakes.tiny_training import make_recipe, read_metrics, run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU"),
]

DEVICE = "cuda"
GROUPS = [
    (make_prompt([(2, 4)], seed=1), make_responses([3, 1, 6, 2], seed=1)),
    (make_prompt([(2, 2), (3, 2), (2, 4)], seed=2), make_responses([5, 4, 40], seed=2)),
    (make_prompt([], seed=4), make_responses([1, 1], seed=4)),
]
WARM = Decoding(max_new_tokens=30, temperature=1.3)
SHORT = [
    'schedule=[{role="perceiver",steps=1,lr=1e-4},{role="reasoner",steps=1,lr=1e-4}]',
    "model.dtype=float32",
    "checkpoint.every=1",
]


def measure(name: str, dtype: torch.dtype, *, packed: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs of all responses, and the gradient of their weighted sum, in float64 on the CPU."""
    model = make_model().to(name, dtype)
    if packed:
        computed = compute_logprobs(model, pack(model, GROUPS))
        logprobs = torch.cat([row[mask] for row, mask in zip(computed.logprobs_BT, computed.mask_BT, strict=True)])
    else:
        logprobs = torch.cat(repeated_logprobs(model, GROUPS))
    weights = torch.randn(len(logprobs), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (logprobs * weights.to(name, logprobs.dtype)).sum().backward()
    gradient = torch.cat([weight.grad.flatten() for _, weight in sorted(model.named_parameters())])
    return logprobs.detach().cpu().double(), gradient.cpu().double()


def distances(found: Sequence[torch.Tensor], true: Sequence[torch.Tensor]) -> tuple[float, float]:
    """Of log-probs, the largest; of gradients, in proportion to the true one's length."""
    return float((found[0] - true[0]).abs().max()), float((found[1] - true[1]).norm() / true[1].norm())


@pytest.fixture(scope="module")
def true() -> tuple[torch.Tensor, torch.Tensor]:
    """The plain way, in float64."""
    with pytest.MonkeyPatch.context() as patch:
        use_exact_parts(patch)
        return measure(DEVICE, torch.float64, packed=False)


@pytest.mark.parametrize(("dtype", "most"), [(torch.float64, 1e-7), (torch.float32, 3e-4)])
def test_log_probs_and_gradients_are_those_of_repeated_rows(
    true: tuple[torch.Tensor, torch.Tensor], dtype: torch.dtype, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_exact_parts(monkeypatch)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # of the convolution that a policy does without
    assert max(distances(measure(DEVICE, dtype, packed=True), true)) < most


def test_bfloat16_rounds_no_more_than_the_stock_model_does(true: tuple[torch.Tensor, torch.Tensor]) -> None:
    ours, stock = (distances(measure(DEVICE, torch.bfloat16, packed=packed), true) for packed in (True, False))
    assert 0 < ours[0] < 1.5 * stock[0] and 0 < ours[1] < 1.5 * stock[1]


def draw(
    name: str, dtype: torch.dtype, decoding: Decoding, num_at_once: int = 99, *, fixed_shapes: bool | None = None
) -> list[list[Generated]]:
    engine = make_engine(make_model().to(name, dtype))
    prompts = [make_prompt([(2, 2 + n)] * (n % 3), num_text=5 * n + 2, seed=n) for n in (7, 6, 5, 4, 3, 2, 1)]
    seeds = [[100 * place + each for each in range(4)] for place in range(len(prompts))]
    return draw_groups(engine, prompts, decoding, seeds, num_at_once=num_at_once, fixed_shapes=fixed_shapes)


@pytest.mark.parametrize("decoding", [WARM, WARM.model_copy(update={"top_p": 0.9, "repetition_penalty": 1.2})])
def test_recorded_steps_draw_the_tokens_of_the_cpu(decoding: Decoding, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slots are refilled, so that prompts are read between replays."""
    replays: list[object] = []
    replay = torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda graph: (replays.append(graph), replay(graph))[1])
    found = draw(DEVICE, torch.float64, decoding, num_at_once=3)
    there = draw("cpu", torch.float64, decoding)
    assert [[one.token_ids for one in row] for row in found] == [[one.token_ids for one in row] for row in there]
    assert len(replays) > 25
    assert len({*map(id, replays)}) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_recorded_steps_do_what_single_steps_do(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = draw(DEVICE, dtype, WARM, num_at_once=3)
    monkeypatch.setattr("p2r.training.engines.local.slots.is_split", lambda _: True)  # records nothing
    assert draw(DEVICE, dtype, WARM, num_at_once=3, fixed_shapes=True) == recorded


@pytest.fixture(scope="module")
def on_the_cpu(tmp_path_factory: pytest.TempPathFactory) -> list[Mapping[str, object]]:
    out = tmp_path_factory.mktemp("cpu")
    run(make_recipe(out, SHORT))
    return read_metrics(out)


def test_a_step_of_each_phase_is_that_of_the_cpu(tmp_path: Path, on_the_cpu: list[Mapping[str, object]]) -> None:
    run(make_recipe(tmp_path, [*SHORT, f"model.device={DEVICE}"]))
    assert_near(read_metrics(tmp_path)[:1], on_the_cpu[:1])
    assert len(read_metrics(tmp_path)) == 2


def test_a_crashed_run_goes_on_and_masters_may_wait_on_the_host(tmp_path: Path) -> None:
    """Adam's states move between GPU and host on the way. Sums are in no fixed order on a GPU."""
    changes = [*SHORT, f"model.device={DEVICE}", 'schedule=[{role="perceiver",steps=2,lr=1e-4}]']
    run(make_recipe(tmp_path / "whole", changes))
    with pytest.raises(KeyError):
        run(make_recipe(tmp_path / "cut", changes), stop_after=1)
    run(make_recipe(tmp_path / "cut", [*changes, "optimizer.kind=offload"]), resume=True)
    assert_near(read_metrics(tmp_path / "cut"), read_metrics(tmp_path / "whole"))


def test_bfloat16_with_adapters_trains(tmp_path: Path) -> None:
    changes = [f"model.device={DEVICE}", "model.dtype=bfloat16", "model.lora={rank=4}", "optimizer.lr=1e-4"]
    run(make_recipe(tmp_path, [*SHORT, *changes]))
    assert all(float(str(row["grad_norm"])) > 0 for row in read_metrics(tmp_path))


def assert_near(found: Sequence[Mapping[str, object]], expected: Sequence[Mapping[str, object]]) -> None:
    """Counts and rewards are equal, and what is computed in float32 is near."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name, value in other.items():
            if isinstance(value, float):
                assert one[name] == pytest.approx(value, rel=1e-3, abs=1e-5), name
            elif isinstance(value, (int, str)):
                assert one[name] == value, name
