"""Whatever a recipe asks for: a run that was killed and resumed is that of an undisturbed one, to the last bit."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.fakes.killed_training import Case, kill_and_resume
from tests.fakes.processes import Fork, finish
from tests.fakes.tiny_training import read_metrics

LONGEST_WAIT_S = 900.0
SCHEDULE = 'schedule=[{role="perceiver", steps=2, lr=1e-4}, {role="reasoner", steps=2, lr=1e-4}]'
COMMON = [
    "model.source=nano-base",
    SCHEDULE,
    "checkpoint.every=1",
    "optimizer.updates_per_batch=1",
    "rollout.max_new_tokens.perceiver=40",
    "probe={}",
    "rollout.temperature=1.3",
    "reward.overlong=0.5",
    "reward.overlong_buffer=1.0",
]
"""A reward that depends on lengths, so that most groups teach something."""
ONE_PHASE = 'schedule=[{role="perceiver", steps=2, lr=1e-4}]'
KEEPING = (
    'schedule=[{role="answerer", steps=2, lr=1e-4, data={difficulty={keep="medium"}}}, '
    '{role="answerer", steps=2, lr=1e-4, data={difficulty={keep="medium"}}}]'
)
"""Two phases that share a measurement."""
EARLY, LATE = [("0-perceiver", 1)], [("0-perceiver", 2), ("1-reasoner", 1)]
LORA = ["model.lora.rank=4", "model.lora.alpha=8", "schedule.0.lr=1e-2"]
"""With a rate at which the adapter's change is not rounded away."""
PROBE = ["probe.source=needles", "probe.seed=7", "probe.num=2", "probe.every=1"]
PER_ROLE = [
    *LORA[:2],
    "model.lora.per_role=true",
    'schedule=[{role="perceiver", steps=1, lr=1e-2}, {role="reasoner", steps=1, lr=1e-2}]',
    "iterations=2",
    *PROBE,
]
PER_ROLE_KILLS = [("2-perceiver", 1), ("3-reasoner", 1)]
RESTING = "loss.resting_kl_coef=0.5"

QUICK, SLOW, VERY_SLOW = [], [pytest.mark.slow], [pytest.mark.very_slow]
"""Very slow are variants: a slow case has what they have, often together with another thing."""
needs_peft = pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="peft is not installed")


def case(
    name: str,
    changes: Sequence[str],
    kills: Sequence[tuple[str, int]],
    marks: Sequence[pytest.MarkDecorator],
    processes: int = 1,
) -> Any:  # noqa: ANN401  # pytest has no public name for it
    settings = Case(changes=[*COMMON, *changes], kills=[*kills], processes=processes)
    return pytest.param(settings, id=name.replace(",", "").replace(" ", "-"), marks=[*marks])


CASES = [
    case("plain", [], [*EARLY, *LATE], SLOW),
    case("dynamic sampling in two processes", ["rollout.dynamic_sampling=true"], LATE, VERY_SLOW, processes=2),
    case("difficulty drop", ["data.difficulty.rule=drop", "data.num_rows=20"], LATE, VERY_SLOW),
    case("difficulty weight, early", ["data.difficulty.rule=weight", ONE_PHASE], EARLY, QUICK),
    case("rows kept", [KEEPING, "data.num_rows=20"], [("0-answerer", 1), ("1-answerer", 1)], SLOW),
    case("LoRA, early", [*LORA[:2], ONE_PHASE], EARLY, [needs_peft]),
    case("LoRA in the second phase", LORA, LATE, [needs_peft, *VERY_SLOW]),
    case("LoRA in two processes", LORA, LATE, [needs_peft, *VERY_SLOW], processes=2),
    case("two processes", [], LATE, VERY_SLOW, processes=2),
    case("joint", ["control=joint"], [("0-joint", 1), ("0-joint", 2)], VERY_SLOW),
    case(
        "answerer",
        ['schedule=[{role="answerer", steps=3, lr=1e-4}]'],
        [("0-answerer", 1), ("0-answerer", 2)],
        VERY_SLOW,
    ),
    case("gspo", ["loss.estimator=gspo", "optimizer.updates_per_batch=2"], LATE, VERY_SLOW),
    case("three updates a batch", ["optimizer.updates_per_batch=3"], LATE, VERY_SLOW),
    case("states in host memory", ["optimizer.kind=offload"], LATE, VERY_SLOW),
    case("gradient checkpointing", ["model.gradient_checkpointing=true"], LATE, VERY_SLOW),
    case("bfloat16", ["model.dtype=bfloat16"], LATE, VERY_SLOW),
    case("LoRA in bfloat16", [*LORA, "model.dtype=bfloat16"], LATE, [needs_peft, *SLOW]),
    case("resting KL", [RESTING, "loss.kl_coef=0"], LATE, VERY_SLOW),
    case("resting KL in two processes", [RESTING, "rollout.dynamic_sampling=true"], LATE, VERY_SLOW, processes=2),
    case("resting KL with LoRA", [RESTING, *LORA], LATE, [needs_peft, *VERY_SLOW]),
    case(
        "resting KL with LoRA in two processes",
        [RESTING, "rollout.dynamic_sampling=true", *LORA],
        LATE,
        [needs_peft, *SLOW],
        processes=2,
    ),
    case("an adapter for each role", [*LORA, "model.lora.per_role=true"], LATE, [needs_peft, *VERY_SLOW]),
    case("an adapter for each role, in its second iteration", PER_ROLE, PER_ROLE_KILLS, [needs_peft, *SLOW]),
    case("probe and best", PROBE, [*EARLY, ("1-reasoner", 1)], SLOW),
]


@pytest.mark.parametrize("settings", CASES)
def test_a_killed_and_resumed_run_is_the_undisturbed_one(tmp_path: Path, settings: Case) -> None:
    finish(Fork(kill_and_resume, tmp_path, settings), longest_wait_s=LONGEST_WAIT_S)
    ours, whole = tmp_path / "run", tmp_path / "whole"
    assert any(step["grad_norm"] for step in read_metrics(whole))
    for file in ("metrics.jsonl", "probes.jsonl"):
        assert read_metrics(ours, file) == read_metrics(whole, file)
    assert [without_seconds(row) for row in read_metrics(ours, "rollouts.jsonl")] == [
        without_seconds(row) for row in read_metrics(whole, "rollouts.jsonl")
    ]
    assert list_files(ours) == list_files(whole)
    for path in list_files(whole):
        if path.suffix == ".safetensors":
            assert_equal(load_file(ours / path), load_file(whole / path), str(path))
        if path.suffix == ".pt":
            states = [torch.load(folder / path, weights_only=True) for folder in (ours, whole)]
            assert_equal(
                *({**state, "memo": without_seconds(json.loads(state["memo"]))} for state in states), str(path)
            )


def list_files(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def without_seconds(value: object) -> object:
    """Times are the only thing that may differ."""
    if isinstance(value, dict):
        return {name: without_seconds(each) for name, each in value.items() if name not in ("seconds", "timing")}
    return [without_seconds(each) for each in value] if isinstance(value, list) else value


def assert_equal(one: object, other: object, place: str) -> None:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        assert one.keys() == other.keys(), place
        for name in one:
            assert_equal(one[name], other[name], f"{place}/{name}")
    elif isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        assert len(one) == len(other), place
        for number, pair in enumerate(zip(one, other, strict=True)):
            assert_equal(*pair, f"{place}/{number}")
    elif isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        assert torch.equal(one, other), place
    else:
        assert type(one) is type(other), place
        assert one == other, place
