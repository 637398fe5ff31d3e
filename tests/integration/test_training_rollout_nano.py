"""Rolling out with the model in the box: real tokens, the same whatever shares the batch; the plan of its recipe."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("torch")

from p2r.benchmarks.needles import TRAINING_SEEDS, Needles
from p2r.cli.app import app
from p2r.config import Recipe, load_recipe
from p2r.dialogue import Decoding, Prompt
from p2r.errors import DataError
from p2r.models.local.model import LocalModel
from p2r.models.nano import CHECKPOINT
from p2r.prompts import load_prompt_set
from p2r.roles import ModelPerceiver
from p2r.training.engines.base import EngineActor
from p2r.training.engines.local.policy import Policy, Snapshot, load_policy, take_snapshot
from p2r.training.groups import Rolled
from p2r.training.memo import EvidenceStore
from p2r.training.partner import open_partner
from p2r.training.plan.plan import describe_plan, list_untimed
from p2r.training.rollout import Roller

RECIPE = Path(__file__).parents[2] / "recipes" / "nano" / "pra_grpo.toml"
CHANGES = ["rollout.group_size=4", "rollout.prompts_per_step=4", "data.num_rows=4", "probe.source=needles"]
PROMPTS = load_prompt_set("release")
ROWS = list(Needles(seed=TRAINING_SEEDS, num_samples=4))


@pytest.fixture(scope="module")
def models() -> tuple[Policy, Snapshot]:
    recipe = load_recipe(RECIPE, CHANGES)
    policy = load_policy(recipe.model)
    return policy, take_snapshot(policy, batch_size=8)


@asynccontextmanager
async def start(
    recipe: Recipe, index: int, models: tuple[Policy, Snapshot], folder: Path
) -> AsyncGenerator[Roller, None]:
    policy, snapshot = models
    async with open_partner(recipe.partner, snapshot.partner, CHECKPOINT, folder) as partner:
        perceiver = ModelPerceiver(partner.model, PROMPTS, Decoding(max_new_tokens=64))
        actor = EngineActor("policy", policy.profile, policy.encoder, policy.engine)
        with EvidenceStore(folder, partner, perceiver, weights="nano") as evidence:
            yield Roller(recipe, recipe.phases()[index], actor, partner, PROMPTS, evidence=evidence)


def outcome(rolled: Rolled) -> list[tuple[str, list[tuple[tuple[int, ...], float | None]]]]:
    return [(group.sample.id, [(one.token_ids, one.reward) for one in group.rollouts]) for group in rolled.groups]


@pytest.mark.parametrize("index", [0, 1])
async def test_rollouts_and_rewards_do_not_depend_on_the_batch(
    models: tuple[Policy, Snapshot], tmp_path: Path, index: int
) -> None:
    together, apart = (load_recipe(RECIPE, [*CHANGES, f"rollout.prompts_at_once={count}"]) for count in (4, 1))
    async with start(together, index, models, tmp_path / "together") as roller:
        first = await roller.roll_out(ROWS, step=0)
    async with start(apart, index, models, tmp_path / "apart") as roller:
        second = await roller.roll_out(ROWS[::-1], step=0)
    assert outcome(first) == outcome(second)[::-1]
    rewards = [rollout.reward for group in first.groups for rollout in group.rollouts]
    assert None not in rewards
    assert 1.0 in rewards
    assert first.stats.num_rollouts == 16


def test_many_prompts_at_once_are_answered_as_one_by_one_and_errors_stay_apart(models: tuple[Policy, Snapshot]) -> None:
    model: LocalModel = models[1].partner
    texts = ["What is the red star?", "<|image_pad|>", "Where is the blue circle, then?"]
    prompts = [Prompt("reasoner", PROMPTS.system, text, (), PROMPTS.fingerprint) for text in texts]
    first, error, last = model.complete_all(prompts, Decoding(max_new_tokens=8))
    assert isinstance(error, DataError)
    alone = model.complete_all(prompts[:1], Decoding(max_new_tokens=8))[0]
    assert not isinstance(first, Exception)
    assert not isinstance(last, Exception)
    assert not isinstance(alone, Exception)
    assert first.text == alone.text
    assert first.usage.prompt_tokens != last.usage.prompt_tokens


def test_the_plan_says_what_a_recipe_would_do() -> None:
    recipe = load_recipe(RECIPE, CHANGES)
    lines = "\n".join(describe_plan(recipe, probe=False))
    num_steps = [phase.count_steps(4) for phase in recipe.phases()]
    assert "4 of 4 rows of needles:1000000 are used" in lines
    assert f"phase 0-perceiver: {num_steps[0]} steps of 4 rows, 16 rollouts each" in lines
    assert f"{16 * sum(num_steps):,} rollouts (control: none)" in lines
    assert "GiB on the device at most" in lines


def test_the_plan_counts_pre_rollouts_where_they_are_made() -> None:
    keeping = ['schedule=[{role="answerer", data={difficulty={keep="easy"}}}, {role="answerer", steps=3}]']
    recipe = load_recipe(RECIPE, [*CHANGES, *keeping, "data.difficulty={keep='medium', num_rollouts=5}"])
    lines = list(describe_plan(recipe, probe=False))
    before = "20 rollouts before it tell which of 4 rows to train on; the steps below are those of all rows"
    assert f"phase 0-answerer: {before}" in lines
    assert "phase 1-answerer: trains on rows as phase 0-answerer measures them" in lines
    assert f"in all: {20 + 16 + 3 * 16} rollouts (control: none)" in lines


def test_the_plan_says_what_keeps_the_roles_apart() -> None:
    resting = list(describe_plan(load_recipe(RECIPE, [*CHANGES, "loss.resting_kl_coef=0.1"]), probe=False))
    limit = load_recipe(RECIPE, CHANGES).partner.max_new_tokens
    for name, other in (("0-perceiver", "reasoner"), ("1-reasoner", "perceiver")):
        [longest] = [line for line in resting if line.startswith(f"rows: the longest prompt of the {other}")]
        most = int(longest.split()[-2].replace(",", "")) + limit
        said = f"the {other} rests, and each step also trains on at most 4 replies of it, of at most {most:,} tokens"
        assert f"phase {name}: {said} with the prompt" in resting
    adapters = list(describe_plan(load_recipe(RECIPE, [*CHANGES, "model.lora.per_role=true"]), probe=False))
    assert any(line.startswith("adapters: one for each role, of ") for line in adapters)
    assert not any("rests" in line for line in adapters) and not any("adapters: " in line for line in resting)


def test_the_plan_names_what_its_minutes_leave_out() -> None:
    supervised = '{role="answerer", method="sft", data={source="rows.jsonl"}}'
    rewarded = '{role="answerer", steps=3, data={difficulty={keep="easy"}}}'
    for phases, untimed in (
        ('{role="answerer", steps=3}', ["probes"]),
        (rewarded, ["probes", "rollouts before a phase"]),
        (f"{supervised}, {rewarded}", ["probes", "rollouts before a phase"]),
    ):
        assert list_untimed(load_recipe(RECIPE, [*CHANGES, f"schedule=[{phases}]"])) == untimed


def test_the_plan_of_a_single_step_is_in_the_singular() -> None:
    recipe = load_recipe(RECIPE, [*CHANGES, "schedule.0.steps=1"])
    assert any(line.startswith("phase 0-perceiver: 1 step of 4 rows") for line in describe_plan(recipe, probe=False))


def test_the_plan_calls_a_role_what_the_recipe_calls_it() -> None:
    answering = load_recipe(RECIPE, [*CHANGES, 'schedule=[{role="answerer", steps=3}]'])
    lines = list(describe_plan(answering, probe=False))
    assert any(line.startswith("rows: the longest prompt of the answerer has") for line in lines)
    assert any("tokens per reply of the answerer)" in line for line in lines)
    assert any(line.startswith("memory, answerer: ") for line in lines)
    assert not any("reasoner" in line or "perceiver" in line for line in lines)
    both = load_recipe(RECIPE, [*CHANGES, 'schedule=[{role="answerer", steps=3}, {role="reasoner", steps=3}]'])
    lines = list(describe_plan(both, probe=False))
    assert any(line.startswith("rows: the longest prompt of the answerer and the reasoner has") for line in lines)
    for name in ("answerer", "reasoner"):
        assert any(line.startswith(f"memory, {name}: ") for line in lines)


def test_the_plan_of_a_supervised_phase_has_memory_and_time(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "What color is it?"}, {"role": "assistant", "content": "red"}]
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"messages": turns}) + "\n" for _ in range(6)))
    warm_up = f'{{role="answerer", method="sft", steps=4, data={{source="{rows}"}}}}'
    recipe = load_recipe(RECIPE, [f"schedule=[{warm_up}]", "sft.rows_per_step=3"])
    lines = list(describe_plan(recipe))
    assert any(line.startswith("memory, 0-sft: ") and line.endswith("at most, estimated") for line in lines)
    step = next(line for line in lines if "seconds per sft step, scaled up from 3 rows" in line)
    seconds = float(step.split()[1])
    total = float(lines[-1].removeprefix("time: ").split()[0])
    assert total == pytest.approx(4 * seconds / 60, abs=0.05 + 4 * 0.05 / 60)
    assert lines[-1].endswith("minutes in all, without probes and checkpoints")
    with_rewards = load_recipe(RECIPE, [*CHANGES, f'schedule=[{warm_up}, {{role="answerer", steps=3}}]'])
    lines = list(describe_plan(with_rewards, probe=False))
    most = [line.partition(":")[0] for line in lines if line.endswith("at most, estimated")]
    assert most == ["memory, 0-sft", "memory, answerer"]


def test_the_command_prints_the_plan_with_measured_seconds() -> None:
    small = ["rollout.group_size=2", "rollout.prompts_per_step=2", "data.num_rows=2"]
    result = CliRunner().invoke(app, ["train", str(RECIPE), "--plan", *(f"--set={change}" for change in small)])
    assert result.exit_code == 0, result.output
    assert "seconds per reasoner step, scaled up from 2 rows" in result.stdout
    assert "minutes in all" in result.stdout
