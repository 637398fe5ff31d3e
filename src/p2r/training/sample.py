"""Roll out rows with a model as it is, and sort them by right answers, as a phase with `data.difficulty.keep` does.

The rows are checked, rolled out, and judged by the code of a training run; only the optimizer and the frozen copy are
missing, because nothing learns: the model itself is the frozen role.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from p2r.config import JudgeSettings, Phase, Recipe, as_measured
from p2r.errors import ConfigError, ModelError
from p2r.files import check_folder, explain_write_errors, lock_folder, unlock_folder
from p2r.loop import run_apart
from p2r.models.checkpoint import fingerprint_weights
from p2r.models.load import find_checkpoint
from p2r.models.local.devices import is_out_of_memory, quote_out_of_memory
from p2r.models.local.encoding import PromptEncoder
from p2r.models.local.model import LocalModel
from p2r.prompts import PromptSet, load_prompt_set
from p2r.runs.difficulty import RowDifficulty, SampleSettings
from p2r.runs.training import EVIDENCE_FOLDER
from p2r.training.engines.base import EngineActor
from p2r.training.engines.local.policy import Policy, load_policy, training_profile
from p2r.training.lockstep import LockstepPartner, Partner
from p2r.training.memo import EvidenceStore, Memo
from p2r.training.phases import open_evidence
from p2r.training.rewards.verifier import check_judges
from p2r.training.rollout import Roller
from p2r.training.rows.check import TrainingData, load_training_data
from p2r.training.rows.difficulty import measure_difficulty
from p2r.training.rows.piles import write_piles
from p2r.types import Sample


@dataclass(frozen=True, slots=True)
class SampledRows:
    """Rows and their measurements.

    note: a sentence on rows that have no place in the files; "" without any.
    """

    folder: Path
    rows: Sequence[Sample]
    found: Sequence[RowDifficulty]
    num_rollouts: int
    note: str


async def sample_rows(
    recipe: Recipe,
    *,
    say: Callable[[str], object],
    on_checked: Callable[[int, int], None],
    on_progress: Callable[[int, int], object],
) -> SampledRows:
    """Roll out the rows of a recipe's only phase into the recipe's folder; whatever was measured there is kept.

    Args:
        recipe: its phase has `data.difficulty.keep`.
        say: is told which rows are used, in sentences.
        on_checked, on_progress: are told how many rows are checked, and rolled out, and how many there are.

    Raises:
        P2RError: the rows, the model, or the judge are not usable; the folder holds something else; too much failed.
    """
    phase = as_measured(recipe.phases()[0])
    rule = phase.data.difficulty
    if rule is None or rule.keep is None or len(recipe.phases()) > 1:
        raise ConfigError("rows are sampled by a recipe of one phase with data.difficulty.keep")
    folder = recipe.out
    check_folder(folder)
    prompts = load_prompt_set(phase.rollout.prompts)
    data = await run_apart(partial(_load, recipe, phase, prompts, on_checked))
    for sentence in data.explain():
        say(sentence)
    await check_judges(recipe)
    with ExitStack() as closing:
        with explain_write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        closing.callback(unlock_folder, lock_folder(folder))
        policy = await run_apart(partial(load_policy, recipe.model))
        settings = _describe(recipe, phase, data, prompts, policy)
        partner = _make_partner(recipe, policy)
        evidence = None
        if phase.kind == "reasoner":
            place = folder / EVIDENCE_FOLDER
            evidence = closing.enter_context(open_evidence(recipe, phase, place, partner, settings.model_weights))
        roller = _make_roller(recipe, phase, policy, partner, prompts, evidence)
        try:
            found = await measure_difficulty(roller, data.rows, folder, settings, on_progress=on_progress)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise ModelError(
                f"out of memory: {quote_out_of_memory(error)}",
                hint="lower `num_at_once`, `max_new_tokens`, or `max_pixels`; what was measured is kept",
            ) from error
        note = await run_apart(partial(write_piles, folder, data.rows, found, rule.num_rollouts))
    return SampledRows(folder, data.rows, found, rule.num_rollouts, note)


def _load(recipe: Recipe, phase: Phase, prompts: PromptSet, on_checked: Callable[[int, int], None]) -> TrainingData:
    checkpoint = find_checkpoint(phase.base)
    profile = training_profile(checkpoint, recipe.model.max_pixels, recipe.model.frame)
    encoder = PromptEncoder(checkpoint)
    return load_training_data(phase.data, phase.roles, encoder, profile, prompts, on_progress=on_checked)


def _make_partner(recipe: Recipe, policy: Policy) -> Partner:
    """The frozen role: the model itself, which does not change."""
    name = f"frozen:{policy.checkpoint.folder.name}"
    concurrency = recipe.partner.concurrency
    model = LocalModel(name, policy.profile, policy.encoder, policy.engine, batch_size=concurrency)
    return LockstepPartner(model, num_at_once=4 * concurrency)


def _make_roller(
    recipe: Recipe,
    phase: Phase,
    policy: Policy,
    partner: Partner,
    prompts: PromptSet,
    evidence: EvidenceStore | None,
) -> Roller:
    assert phase.data.difficulty is not None, "checked above"
    return Roller(
        recipe,
        phase,
        EngineActor("policy", policy.profile, policy.encoder, policy.engine),
        partner,
        prompts,
        memo=Memo(),
        evidence=evidence,
        group_size=phase.data.difficulty.num_rollouts,
        purpose=f"{phase.name}/difficulty",
    )


def _describe(recipe: Recipe, phase: Phase, data: TrainingData, prompts: PromptSet, policy: Policy) -> SampleSettings:
    assert phase.data.difficulty is not None, "checked above"
    judge = phase.reward.judge
    return SampleSettings(
        rows=_make_absolute(data.source),
        benchmark_fingerprint=data.fingerprint,
        num_rows=len(data.rows),
        model=_make_absolute(recipe.model.source),
        model_weights=fingerprint_weights(policy.checkpoint.folder),
        dtype=str(policy.dtype).removeprefix("torch."),
        frame=recipe.model.frame,
        max_pixels=recipe.model.max_pixels,
        role=phase.role,
        prompts=phase.rollout.prompts,
        prompt_fingerprint=prompts.fingerprint,
        num_rollouts=phase.data.difficulty.num_rollouts,
        temperature=phase.rollout.temperature,
        top_p=phase.rollout.top_p,
        max_new_tokens=phase.max_response_tokens,
        judge_model="#".join(filter(None, judge.address)) if isinstance(judge, JudgeSettings) else None,
        seed=recipe.seed,
    )


def _make_absolute(spec: str) -> str:
    """Return a path as it is named from everywhere, and any other name as it is."""
    return str(Path(spec).expanduser().resolve()) if Path(spec).expanduser().exists() else spec
