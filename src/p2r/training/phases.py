"""A phase: its checkpoint is frozen once, then one role learns while the other stays as it was.

Paper: section 3.3, algorithm 1 ("load the previous-stage checkpoint for the other role"). A phase begins from a
standard checkpoint, the recipe's or that of the phase before, and ends with one. What it needs is made here and lives
as long as the phase does; the memo and the evidence belong to the frozen weights and go with them.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from p2r.config import Phase, Recipe
from p2r.dialogue import Decoding
from p2r.prompts import PromptSet
from p2r.roles import ModelPerceiver
from p2r.training.engines.base import EngineActor
from p2r.training.engines.local.distributed import World, split_model, whole_tensor
from p2r.training.engines.local.optimizer import Optimizer
from p2r.training.engines.local.policy import Frozen, Policy, freeze, gather_weights, load_policy, save_policy
from p2r.training.evidence_store import EvidenceStore
from p2r.training.lockstep import Partner
from p2r.training.memo import Memo
from p2r.training.partner import open_partner
from p2r.training.rollout import Roller
from p2r.training.state.run_folder import RunFolder


@dataclass(frozen=True, slots=True)
class Stage:
    """A phase under way.

    partner: the other role. evidence: where it looks, in a reasoner phase.
    """

    phase: Phase
    policy: Policy
    frozen: Frozen
    optimizer: Optimizer
    partner: Partner
    evidence: EvidenceStore | None
    memo: Memo


@asynccontextmanager
async def open_stage(
    recipe: Recipe, phase: Phase, source: str, prompts: PromptSet, run: RunFolder, world: World
) -> AsyncGenerator[Stage, None]:
    """Load, freeze, split, and get the other role ready.

    Args:
        source: the checkpoint that the phase begins from.

    Raises:
        ModelError: it cannot be loaded, or the server of the other role does not come up.
        ConfigError: a setting is not usable here.
        StorageError: the evidence of the phase belongs to other weights.
    """
    policy = load_policy(recipe.model, source, world=world)
    frozen = freeze(policy, batch_size=recipe.partner.concurrency)
    split_model(policy.model, world)
    optimizer = Optimizer(policy.trainable, recipe.optimizer, world)
    async with AsyncExitStack() as closing:
        partner = await closing.enter_async_context(_open_partner(recipe, frozen, policy, run, world))
        evidence = None
        if phase.kind == "reasoner":
            evidence = closing.enter_context(_open_evidence(recipe, phase, policy, partner, prompts, run, world))
        yield Stage(phase, policy, frozen, optimizer, partner, evidence, Memo())


def make_roller(
    recipe: Recipe, stage: Stage, prompts: PromptSet, *, group_size: int | None = None, purpose: str | None = None
) -> Roller:
    """What rolls a phase out, or, with a group size and a purpose of its own, what finds out beforehand."""
    policy = stage.policy
    actor = EngineActor("policy", policy.profile, policy.encoder, policy.engine)
    return Roller(
        recipe,
        stage.phase,
        actor,
        stage.partner,
        prompts,
        memo=stage.memo,
        evidence=stage.evidence,
        group_size=group_size,
        purpose=purpose,
    )


def save_stage(stage: Stage, folder: Path, world: World) -> None:
    """Write the policy as it is as a standard checkpoint. All processes must call.

    Raises:
        StorageError: it cannot be written.
    """
    weights = gather_weights(stage.policy, whole_tensor)
    if world.is_first:
        save_policy(stage.policy, weights, folder)
    world.wait()


@asynccontextmanager
async def _open_partner(
    recipe: Recipe, frozen: Frozen, policy: Policy, run: RunFolder, world: World
) -> AsyncGenerator[Partner, None]:
    """The other role. A server is launched by the first process; the others wait for it."""
    settings = recipe.partner
    if not world.is_first:
        world.wait()
        settings = settings.model_copy(update={"launch": None})
    async with open_partner(settings, frozen.partner, policy.checkpoint.folder, run.folder) as partner:
        if world.is_first:
            world.wait()
        yield partner


def _open_evidence(
    recipe: Recipe,
    phase: Phase,
    policy: Policy,
    partner: Partner,
    prompts: PromptSet,
    run: RunFolder,
    world: World,
) -> EvidenceStore:
    decoding = Decoding(max_new_tokens=recipe.partner.max_new_tokens)
    perceiver = ModelPerceiver(partner.model, prompts, decoding)
    weights = fingerprint_weights(policy.checkpoint.folder)
    return EvidenceStore(run.process_folder("evidence", phase, world), partner, perceiver, weights=weights)


def fingerprint_weights(folder: Path) -> str:
    """Short hash of a checkpoint's weights."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            while block := file.read(1 << 24):
                digest.update(block)
    return digest.hexdigest()[:16]
