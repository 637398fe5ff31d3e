"""The rows of a run: which ones are read, which of them a phase learns from, and in which order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from p2r.benchmarks.load import load_benchmark
from p2r.config import ROLES, ActiveRole, DifficultySettings, Phase, Recipe, as_measured, find_measuring_phase
from p2r.errors import ConfigError, StorageError, count_nouns
from p2r.evaluation.choose import draw_limit
from p2r.loop import run_apart
from p2r.models.checkpoint import fingerprint_weights
from p2r.models.load import find_checkpoint
from p2r.models.local.encoding import PromptEncoder
from p2r.prompts import load_prompt_set
from p2r.runs.difficulty import DIFFICULTY_FILE, RowDifficulty, count_kinds, describe_kinds, is_told
from p2r.runs.training import DIFFICULTY_FOLDER
from p2r.runs.training_log import read_rows
from p2r.training.engines.local.distributed import World
from p2r.training.engines.local.policy import training_profile
from p2r.training.memo import Memo
from p2r.training.phases import PhaseState, make_roller
from p2r.training.rows.check import TrainingData, load_training_data
from p2r.training.rows.difficulty import ChosenRows, PreRolloutSettings, choose_rows, measure_difficulty
from p2r.training.rows.order import RowOrder
from p2r.training.rows.piles import write_piles
from p2r.training.state.run_folder import RunFolder
from p2r.training.stopping import StopRequest
from p2r.types import Sample

PHASES_A_SEED = 1000
"""Phases per seed: each phase shuffles its rows by a seed of its own."""


def load_rows(recipe: Recipe) -> dict[int, TrainingData]:
    """The checked rows of each phase that rewards, by its index, without loading the model.

    Phases with the same data share them: a row is used when it fits the prompts of all their roles.

    Raises:
        ModelError: a checkpoint is not usable.
        DataError: rows are not usable, or none is left.
    """
    sharing: dict[tuple[str, str, str], list[Phase]] = {}
    for phase in recipe.rewarded_phases:
        key = (phase.base, phase.rollout.prompts, phase.data.model_dump_json(exclude={"difficulty"}))
        sharing.setdefault(key, []).append(phase)
    loaded: dict[int, TrainingData] = {}
    for (base, prompts, _), phases in sharing.items():
        checkpoint = find_checkpoint(base)
        profile = training_profile(checkpoint, recipe.model.max_pixels, recipe.model.frame)
        roles: list[ActiveRole] = [role for role in ROLES if any(role in phase.roles for phase in phases)]
        encoder = PromptEncoder(checkpoint)
        data = load_training_data(
            phases[0].data,
            roles,
            encoder,
            profile,
            load_prompt_set(prompts),
            needs_target=any(each.reward.counts("correct") for phase in phases for each in (phase, as_measured(phase))),
            needs_gold=any(phase.reward.needs_gold(phase.rated_role) for phase in phases if phase.roles),
            needs_key_words=any(phase.reward.needs_key_words(phase.rated_role) for phase in phases),
        )
        loaded |= {phase.index: data for phase in phases}
    return loaded


def load_probe(recipe: Recipe) -> list[Sample]:
    """The probe's questions; [] without a probe."""
    probe = recipe.probe
    if probe.source is None:
        return []
    benchmark = load_benchmark(probe.source, seed=probe.seed, num_samples=probe.num)
    return draw_limit(list(benchmark), probe.num, probe.seed)


async def choose_phase_rows(
    recipe: Recipe,
    state: PhaseState,
    rows: Sequence[Sample],
    run: RunFolder,
    say: Callable[[str], object],
    stop: StopRequest,
) -> ChosenRows:
    """The rows of a phase and their order: all of them, or those that pre-rollouts tell to be of use.

    Args:
        say: is told how far pre-rollouts have come.
        stop: leaves them in all processes when one is asked to stop or fails.

    Raises:
        StopRequested: one was asked to stop.
        DataError: none can teach anything, or is of the kind that is kept.
        ConfigError: they are fewer than one step needs.
        StorageError: what an earlier phase has measured is gone.
    """
    phase = state.phase
    if (rule := phase.data.difficulty) is None:
        return ChosenRows(rows, order_rows(phase, len(rows)), num_left_out=0)
    measuring = find_measuring_phase(recipe, phase)
    if measuring.index == phase.index:
        found = await _measure_rows(recipe, state, rule, rows, run, say, stop)
    else:
        found = _read_measured(phase, measuring, rows, run, state.world)
    if rule.keep is not None:
        whose = f"rows as phase {measuring.name} measured them: " if measuring.index != phase.index else ""
        counts = describe_kinds(count_kinds(list(found.values())))
        say(f"phase {phase.name}: {whose}{counts}; trains on the {rule.keep} ones")
    chosen = choose_rows(rows, found, rule, _seed_rows(phase))
    _check_enough(phase, len(chosen.rows), kind=rule.keep or "")
    return chosen


def order_rows(phase: Phase, num_rows: int) -> RowOrder:
    """The order of a phase's rows. Raises ConfigError when a step needs more."""
    _check_enough(phase, num_rows)
    return RowOrder(num_rows, _seed_rows(phase))


def _check_enough(phase: Phase, num_rows: int, *, kind: str = "") -> None:
    """Raise ConfigError when a step needs more rows; kind: of all of them, or ""."""
    if num_rows < phase.prompts_per_step:
        setting = "sft.rows_per_step" if phase.kind == "sft" else "rollout.prompts_per_step"
        row = f"{kind} row".strip()
        raise ConfigError(
            f"phase {phase.name}: {count_nouns(num_rows, f'{row} is', f'{row}s are')} fewer than one step's "
            f"{phase.prompts_per_step}",
            hint=f"lower {setting}, or give more rows",
        )


def _seed_rows(phase: Phase) -> int:
    return phase.data.seed * PHASES_A_SEED + phase.index


async def _measure_rows(
    recipe: Recipe,
    state: PhaseState,
    rule: DifficultySettings,
    rows: Sequence[Sample],
    run: RunFolder,
    say: Callable[[str], object],
    stop: StopRequest,
) -> dict[str, RowDifficulty]:
    """The difficulty of each row, by its id; each process measures its share."""
    phase, world = as_measured(state.phase), state.world
    own = world.share(rows)
    purpose = f"{phase.name}/difficulty"
    roller = make_roller(recipe, state, phase=phase, memo=Memo(), group_size=rule.num_rollouts, purpose=purpose)
    settings = PreRolloutSettings(
        weights=fingerprint_weights(state.policy.checkpoint.folder),
        num_rows=len(own),
        num_rollouts=rule.num_rollouts,
        seed=recipe.seed,
        recipe=_hash_recipe(recipe, phase),
    )

    def tell(done: int, total: int) -> None:
        if is_told(done, total):
            so_far = min(done * world.size, len(rows))
            say(f"phase {phase.name}: difficulty of {so_far:,} of {count_nouns(len(rows), 'row')} measured")

    folder = run.process_folder(DIFFICULTY_FOLDER, phase, world)
    with state.ready_to_sample():
        measuring = measure_difficulty(roller, own, folder, settings, on_progress=tell)
        measured = await stop.run_together(measuring, world)
    found = {row.id: row for row in world.gather(measured)}
    if rule.keep is not None:
        in_order = [found[row.id] for row in rows] if world.is_first else []
        place = run.folder / DIFFICULTY_FOLDER / phase.name
        note = await stop.run_together(_sort_into_files(place, rows, in_order, rule.num_rollouts), world)
        if note:
            say(f"phase {phase.name}: {note}")
    return found


async def _sort_into_files(
    folder: Path, rows: Sequence[Sample], found: Sequence[RowDifficulty], num_rollouts: int
) -> str:
    """Write the rows by kind, as `p2r sample` does; only the first process has found any."""
    return await run_apart(partial(write_piles, folder, rows, found, num_rollouts)) if found else ""


def _read_measured(
    phase: Phase, measuring: Phase, rows: Sequence[Sample], run: RunFolder, world: World
) -> dict[str, RowDifficulty]:
    """Read what an earlier phase has measured, by the rows' ids; each process reads its share."""
    path = run.process_folder(DIFFICULTY_FOLDER, measuring, world) / DIFFICULTY_FILE
    found = {row.id: row for row in world.gather(read_rows(path, RowDifficulty))}
    if found.keys() != {row.id for row in rows}:
        raise StorageError(
            f"phase {phase.name} keeps rows as phase {measuring.name} measured them, and {path} does not hold each of "
            f"{count_nouns(len(rows), 'row')}",
            hint=f"put {path.name} back, or choose another `out`",
        )
    return found


def _hash_recipe(recipe: Recipe, phase: Phase) -> str:
    """A hash of the settings that pre-rollouts depend on, without those that a resumed run may have otherwise."""
    model, partner = recipe.model, recipe.partner
    parts = [
        phase.kind,
        phase.data.model_dump_json(exclude={"skip_bad": True, "difficulty": {"keep"}}),
        phase.rollout.model_dump_json(exclude={"prompts_at_once"}),
        phase.reward.model_dump_json(exclude={"judge": {"url", "concurrency", "timeout_s"}, "caption": {"device"}}),
        model.model_dump_json(include={"dtype", "frame", "max_pixels"}),
        partner.model_dump_json(include={"kind", "max_new_tokens"}),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
