"""Lines 3 and 4 of algorithm 1: a phase freezes its checkpoint, then one role learns while the other stays as it was.

Paper: section 3.3 ("load the previous-stage checkpoint for the other role"). A phase starts from a standard checkpoint:
its own `source`, or that of the phase before, or the recipe's. It ends with one. Everything that it needs is made here
and lives as long as the phase; the memo and the evidence belong to the frozen weights and go with them.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from uuid import uuid4

from pydantic import JsonValue

from p2r.config import OTHER_ROLE, PartnerSettings, Phase, Recipe
from p2r.dialogue import Decoding
from p2r.errors import ConfigError
from p2r.files import replace_folder
from p2r.loop import run_apart
from p2r.models.checkpoint import fingerprint_weights
from p2r.models.server.transport import is_this_machine
from p2r.prompts import PromptSet, load_prompt_set
from p2r.roles import ModelPerceiver
from p2r.runs.training import EVIDENCE_FOLDER
from p2r.training.engines.base import EngineActor
from p2r.training.engines.local.distributed import World, split_model, whole_tensor, whole_weights
from p2r.training.engines.local.export import gather_weights, save_policy
from p2r.training.engines.local.optimizer import Optimizer
from p2r.training.engines.local.policy import Policy, load_policy, take_snapshot
from p2r.training.engines.vllm import VllmActor
from p2r.training.engines.vllm_server import VllmServer
from p2r.training.failures import FailureGauge
from p2r.training.lockstep import BatchModel, Partner
from p2r.training.memo import EvidenceStore, Memo
from p2r.training.partner import Unasked, is_copy_asked, is_partner_asked, open_partner
from p2r.training.resting import RestingRole
from p2r.training.rollout import Roller
from p2r.training.starts import Start
from p2r.training.state.checkpoint import seed_random_states
from p2r.training.state.run_folder import RunFolder
from p2r.training.update import Learner


@dataclass(frozen=True, slots=True)
class PhaseState(Learner):
    """A phase under way.

    partner: the frozen role; None in a supervised phase. evidence: where it looks, in a reasoner phase. memo: what it
        has answered.
    failures: counts the rollouts, or the rows to learn from, that failed.
    asks_snapshot: whether the snapshot replies, and is not only the reference of the KL terms.
    sampler: samples the policy's replies; None for the policy itself.
    """

    prompts: PromptSet
    partner: Partner | None
    evidence: EvidenceStore | None
    memo: Memo
    failures: FailureGauge
    asks_snapshot: bool = False
    sampler: VllmActor | None = None

    @contextmanager
    def ready_to_sample(self) -> Generator[None, None, None]:
        """Let every process hold all weights that rollouts take, the frozen role's among them. All must enter.

        Raises:
            ModelError: vLLM cannot take the weights.
            StorageError: there is no room for them.
        """
        asked = [self.snapshot.engine.model] if self.snapshot is not None and self.asks_snapshot else []
        if self.sampler is None:
            asked.insert(0, self.policy.model)
        with nullcontext() if self.sampler is None else self.sampler.awake(), whole_weights(*asked):
            yield


@asynccontextmanager
async def open_phase(
    recipe: Recipe, phase: Phase, start: Start, run: RunFolder, world: World
) -> AsyncGenerator[PhaseState, None]:
    """Load, freeze and split the policy, and get the other role ready.

    Raises:
        ModelError: a checkpoint cannot be loaded, or the server of the other role does not come up.
        ConfigError: a setting is not usable here.
        StorageError: the evidence of the phase belongs to other weights.
    """
    prompts = load_prompt_set(phase.rollout.prompts)
    seed_random_states(recipe.seed + phase.index)  # new adapters are random
    model = recipe.model.model_copy(update={"freeze_vision": phase.freeze_vision})
    load = partial(load_policy, model, start.active, resting=start.resting, world=world)
    policy = load() if world.size > 1 else await run_apart(load)  # a large model can be left while it is loaded
    failures = FailureGauge(recipe.partner.max_error_rate)
    if phase.kind == "sft":
        split_model(policy.model, world, policy.device, policy.dtype)
        optimizer = Optimizer(policy.trainable, phase.optimizer, world)
        yield PhaseState(phase, policy, None, optimizer, world, prompts, None, None, Memo(), failures)
        return
    asks_snapshot = is_copy_asked(recipe, phase)
    snapshot = None
    if asks_snapshot or phase.loss.needs_reference:
        snapshot = take_snapshot(policy, batch_size=recipe.partner.concurrency, world=world)
    split_model(policy.model, world, policy.device, policy.dtype)
    optimizer = Optimizer(policy.trainable, phase.optimizer, world)
    # Without questions, without a server.
    settings = recipe.partner if is_partner_asked(recipe, phase) else PartnerSettings()
    local = snapshot.partner if snapshot is not None and asks_snapshot else Unasked(policy.profile)
    async with AsyncExitStack() as closing:
        partner = await closing.enter_async_context(_open_partner(settings, local, policy, run, world, recipe))
        evidence = None
        if phase.kind == "reasoner":
            weights = fingerprint_weights(policy.frozen_checkpoint.folder)
            folder = run.process_folder(EVIDENCE_FOLDER, phase, world)
            evidence = closing.enter_context(open_evidence(recipe, phase, folder, partner, weights))
        parts = (policy, snapshot, optimizer, world, prompts, partner, evidence, Memo(), failures, asks_snapshot)
        state = PhaseState(phase, *parts)
        if phase.rollout.engine == "vllm":
            starting = partial(start_sampler, state, recipe.engine, run.folder)
            sampler = starting() if world.size > 1 else await run_apart(starting)
            state = replace(state, sampler=closing.enter_context(contextlib.closing(sampler)))
        yield state


def start_sampler(state: PhaseState, engine_args: Mapping[str, JsonValue], folder: Path) -> VllmActor:
    """Start vLLM to sample the policy's replies. The first process launches a server; the others wait for it.

    Args:
        folder: of the run.

    Raises:
        ModelError: vLLM is not installed, or cannot run the model, or the server does not come up.
        ConfigError: an engine argument is not usable, or each of several processes would start an engine.
    """
    world, settings, start = state.world, state.phase.rollout, None
    if settings.url is not None:
        (owner,) = world.gather([uuid4().hex[:8]])[:1]
        start = partial(VllmServer, settings=settings, folder=folder, owner=owner, is_first=world.is_first)
    elif world.size > 1:
        raise ConfigError(
            f'rollout.engine is "vllm", and training runs in {world.size} processes, each of which would start '
            "an engine",
            hint="let all of them ask one server, by rollout.url and rollout.launch, or train in one process",
        )
    if not world.is_first:
        world.wait()
    sampler = VllmActor(
        state.policy,
        engine_args,
        version=lambda: state.optimizer.num_updates,
        write=partial(save_weights, state),
        folder=folder,
        start=start,
        is_here=settings.url is None or settings.launch is not None or is_this_machine(settings.url),
        world=world,
    )
    if world.is_first:
        world.wait()
    return sampler


def open_evidence(recipe: Recipe, phase: Phase, folder: Path, partner: Partner, weights: str) -> EvidenceStore:
    """Open the store of where the frozen perceiver looks. weights: a hash of those of the perceiver."""
    prompts, decoding = load_prompt_set(phase.rollout.prompts), Decoding(max_new_tokens=recipe.partner.max_new_tokens)
    perceiver = ModelPerceiver(partner.model, prompts, decoding)
    return EvidenceStore(folder, partner, perceiver, weights=weights)


def make_roller(
    recipe: Recipe,
    state: PhaseState,
    *,
    phase: Phase | None = None,
    memo: Memo | None = None,
    group_size: int | None = None,
    purpose: str | None = None,
) -> Roller:
    """A roller for the phase's steps, or for its pre-rollouts: with a memo, a group size and a purpose of their own.

    Args:
        phase: the phase with another reward, which pre-rollouts may have.
    """
    assert state.partner is not None, "a supervised phase rolls nothing out"
    policy = state.policy
    actor = state.sampler or EngineActor("policy", policy.profile, policy.encoder, policy.engine)
    resting = None
    if purpose is None and state.phase.loss.resting_kl_coef:
        resting = RestingRole(policy.encoder, state.prompts, state.partner.model.profile.budget)
    return Roller(
        recipe,
        phase or state.phase,
        actor,
        state.partner,
        state.prompts,
        memo=state.memo if memo is None else memo,
        evidence=state.evidence,
        failures=state.failures if purpose is None else None,
        group_size=group_size,
        purpose=purpose,
        resting=resting,
    )


def save_weights(state: PhaseState, folder: Path) -> float | None:
    """Write the policy as it is as a standard checkpoint. All processes must call.

    Returns:
        The share of what adapters change that merging them lost; None without adapters, and in processes that do not
        write.

    Raises:
        StorageError: it cannot be written.
    """
    weights = gather_weights(state.policy, whole_tensor, keeps=state.world.is_first)
    if state.world.is_first:
        save_policy(state.policy, weights, folder)
    state.world.wait()
    return weights.lost


def save_both_roles(state: PhaseState, folder: Path) -> None:
    """Write what plays both roles as it is: a standard checkpoint, or with an adapter for each role one for each.

    All processes must call. Raises as `save_weights`.
    """
    resting = state.policy.resting
    if resting is None:
        save_weights(state, folder)
        return
    with replace_folder(folder) if state.world.is_first else nullcontext(folder) as draft:
        save_weights(state, draft / state.phase.role)
        if state.world.is_first:
            shutil.copytree(resting.folder, draft / OTHER_ROLE[state.phase.role])
    state.world.wait()


@asynccontextmanager
async def _open_partner(
    settings: PartnerSettings, local: BatchModel, policy: Policy, run: RunFolder, world: World, recipe: Recipe
) -> AsyncGenerator[Partner, None]:
    """The other role. A server is launched by the first process; the others wait for it."""
    if settings.kind == "vllm" and world.size > 1:
        raise ConfigError(
            f'partner.kind is "vllm", and training runs in {world.size} processes, each of which would start an engine',
            hint='let all of them ask one server: partner.kind = "endpoint" with partner.launch = "vllm serve '
            '{checkpoint} ..."',
        )
    if not world.is_first:
        world.wait()
        settings = settings.model_copy(update={"launch": None})
    folder, dtype = policy.frozen_checkpoint.folder, str(policy.dtype).removeprefix("torch.")
    async with open_partner(settings, local, folder, run.folder, engine=recipe.engine, dtype=dtype) as partner:
        if world.is_first:
            world.wait()
        yield partner
