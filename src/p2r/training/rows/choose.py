"""Which rows a run reads, which of them a phase learns from, and in which order."""

from __future__ import annotations

from collections.abc import Sequence

from p2r.benchmarks.load import load_benchmark
from p2r.config import Recipe
from p2r.errors import ConfigError
from p2r.evaluation.choose import draw_limit
from p2r.models.load import find_checkpoint
from p2r.models.local.encoding import PromptEncoder
from p2r.prompts import PromptSet
from p2r.training.engines.local.distributed import World, whole_weights
from p2r.training.phases import Stage, fingerprint_weights, make_roller
from p2r.training.profile import training_profile
from p2r.training.rows.check import TrainingData, load_training_data
from p2r.training.rows.difficulty import Choice, Difficulty, choose_rows, measure_difficulty
from p2r.training.rows.order import RowOrder
from p2r.training.state.run_folder import RunFolder
from p2r.types import Sample

PHASES_A_SEED = 1000
"""Seeds of the order of rows: one per phase."""


def load_rows(recipe: Recipe, prompts: PromptSet) -> TrainingData:
    """Rows to train on, all checked, without loading the model.

    Raises:
        ModelError: the recipe's checkpoint is not usable.
        DataError: rows are not usable, or none is left.
    """
    checkpoint = find_checkpoint(recipe.model.source)
    profile = training_profile(checkpoint, recipe.model.max_pixels)
    return load_training_data(recipe.data, recipe.roles, PromptEncoder(checkpoint), profile, prompts)


def load_probe(recipe: Recipe) -> list[Sample]:
    """The probe's questions; [] for no probe."""
    probe = recipe.probe
    if probe.source is None:
        return []
    benchmark = load_benchmark(probe.source, seed=probe.seed, num_samples=probe.num)
    return draw_limit(list(benchmark), probe.num, probe.seed)


async def choose_phase_rows(
    recipe: Recipe, stage: Stage, rows: Sequence[Sample], prompts: PromptSet, run: RunFolder, world: World
) -> Choice:
    """The rows of a phase and their order: all of them, or those that pre-rollouts find neither easy nor hopeless.

    Raises:
        DataError: none can teach anything.
        ConfigError: they are fewer than one step needs.
    """
    seed, rule = recipe.data.seed * PHASES_A_SEED + stage.phase.index, recipe.data.difficulty
    if rule is None:
        choice = Choice(rows, RowOrder(len(rows), seed), num_left_out=0)
    else:
        roller = make_roller(
            recipe, stage, prompts, group_size=rule.num_rollouts, purpose=f"{stage.phase.name}/difficulty"
        )
        weights = fingerprint_weights(stage.policy.checkpoint.folder)
        identity = f"{len(rows)} rows, weights {weights}, {rule.num_rollouts} rollouts, seed {recipe.seed}"
        folder = run.process_folder("difficulty", stage.phase, world)
        with whole_weights(stage.policy.model):
            own = await measure_difficulty(roller, world.share(rows), folder, identity)
        difficulty = Difficulty(identity=identity, means=dict(world.gather(list(own.means.items()))))
        choice = choose_rows(rows, difficulty, rule, seed)
    if len(choice.rows) < recipe.prompts_per_step:
        raise ConfigError(
            f"{len(choice.rows)} rows are fewer than one step's {recipe.prompts_per_step}",
            hint="lower rollout.prompts_per_step, or give more rows",
        )
    return choice
