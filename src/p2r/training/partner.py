"""The frozen role of a phase: in this process, or behind a server that the trainer starts, watches and ends.

In this process it is a copy of the weights, or vLLM's engine, which loads the frozen checkpoint for the phase alone.

A server is asked over HTTP like any other; images are sent without loss. `partner.launch` is a command that the trainer
runs at the phase's start, with the folder of the frozen checkpoint in it, and ends with the phase. A server that a
killed run of the same folder has left is ended first. Anything else that answers at the URL before is refused: it is
not ours, and would silently answer with other weights.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import JsonValue

from p2r.config import PartnerSettings, Phase, Recipe, as_measured
from p2r.dialogue import Decoding, Model, ModelProfile, Prompt
from p2r.errors import EndpointError, P2RError, count_nouns
from p2r.loop import run_apart
from p2r.models.checkpoint import open_checkpoint
from p2r.models.server.lookup import read_address
from p2r.models.server.model import EndpointModel
from p2r.models.vllm.model import ENGINE_MEMORY, VllmModel
from p2r.training.lockstep import BatchModel, FreePartner, LockstepPartner, Partner
from p2r.training.rewards.reward import make_rewarder
from p2r.training.server import Listing, Server, look
from p2r.types import Completion

SPARE_WALKS = 8
"""Walks beyond the requests under way: their images are made while those wait."""


class Unasked:
    """Stands in for the frozen weights where nobody asks them, so that they need not be held."""

    name = "frozen"

    def __init__(self, profile: ModelProfile) -> None:
        self.profile = profile

    def complete_all(
        self, prompts: Sequence[Prompt], decoding: Decoding, abandoned: Callable[[], bool]
    ) -> Sequence[Completion | P2RError]:
        raise AssertionError("the frozen role is asked in a phase that does not need it")


@dataclass(frozen=True, slots=True)
class WatchedModel:
    """A model behind a server that may be launched again: what its death has cut off is asked once more."""

    model: Model
    server: Server

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def profile(self) -> ModelProfile:
        return self.model.profile

    async def complete(self, prompt: Prompt, decoding: Decoding) -> Completion:
        while True:
            await self.server.up.wait()
            num_starts = self.server.num_starts
            try:
                return await self.model.complete(prompt, decoding)
            except EndpointError:
                if self.server.has_lived_since(num_starts):
                    raise


def is_partner_asked(recipe: Recipe, phase: Phase) -> bool:
    """Tell whether the frozen role is asked for anything that a phase rewards, its pre-rollouts included."""
    rewarders = [make_rewarder(recipe, each) for each in (phase, as_measured(phase))]
    return phase.kind == "reasoner" or any(rewarder.asks_partner for rewarder in rewarders)


def is_copy_asked(recipe: Recipe, phase: Phase) -> bool:
    """Tell whether the frozen weights in this process answer.

    Where no reward needs them, they still judge for the metrics, if they are the judge.
    """
    if is_partner_asked(recipe, phase):
        return recipe.partner.kind == "local"
    return phase.reward.judge == "partner"


@asynccontextmanager
async def open_partner(
    settings: PartnerSettings,
    local: BatchModel,
    checkpoint: Path,
    log_folder: Path,
    *,
    engine: Mapping[str, JsonValue] | None = None,
    dtype: str | None = None,
) -> AsyncGenerator[Partner, None]:
    """Get the frozen role ready to be asked.

    Args:
        local: the frozen weights in this process, used unless the recipe names another kind; see `is_copy_asked`.
        checkpoint: the folder of the frozen weights, for a server or for vLLM to load.
        log_folder: for the output of a server, and for a record of it while it runs.
        engine: more arguments of vLLM's engine.
        dtype: that of the policy, such as "float32", for vLLM.

    Raises:
        ModelError: vLLM is not installed, or cannot run the checkpoint.
        ConfigError: the command cannot be run, or something answers at the URL before it is.
        EndpointError: the server ended, or was not healthy in time.
    """
    known = local.profile
    if settings.kind == "vllm":
        loaded = await run_apart(
            partial(
                VllmModel.load,
                open_checkpoint(checkpoint),
                name="frozen",
                dtype=dtype,
                frame=known.stated_frame,
                max_pixels=known.budget.max_pixels,
                engine_args={"gpu_memory_utilization": ENGINE_MEMORY, **(engine or {})},
            )
        )
        try:
            yield FreePartner(loaded, num_at_once=settings.concurrency + SPARE_WALKS)
        finally:
            loaded.close()
        return
    if settings.url is None:
        yield LockstepPartner(local, num_at_once=4 * settings.concurrency)
        return
    # The family is the checkpoint's, whatever name a server gives it.
    profile = open_checkpoint(checkpoint).profile(
        frame=known.stated_frame, max_pixels=known.budget.max_pixels, for_server=True
    )
    async with _serve(settings, checkpoint, log_folder) as (url, name, server):
        model: Model = EndpointModel(
            url,
            name,
            profile,
            api_key=os.environ.get("OPENAI_API_KEY", ""),
            concurrency=settings.concurrency,
            timeout_s=settings.timeout_s,
            transport=settings.transport,
            image_check=settings.image_check,
        )
        if server is not None:
            model = WatchedModel(model, server)
        yield FreePartner(
            model, num_at_once=settings.concurrency + SPARE_WALKS, guard=None if server is None else server.guard
        )


@asynccontextmanager
async def _serve(
    settings: PartnerSettings, checkpoint: Path, folder: Path
) -> AsyncGenerator[tuple[str, str, Server | None], None]:
    """The URL and model of a healthy server, and the server itself if the recipe has a command for it."""
    url, _, name = (settings.url or "").partition("#")
    read_address(url)  # it is one
    if settings.launch is None:
        yield (*_choose(url, name, await look(url)), None)
        return
    server = Server(settings.launch, url, checkpoint, folder, timeout_s=settings.launch_timeout_s)
    async with server.running() as found:
        yield (*_choose(url, name, found), server)


def _choose(url: str, name: str, found: Listing) -> tuple[str, str]:
    """The URL of the API and the model to ask. Raises EndpointError when it is missing, or there are several."""
    base, names = found
    if name in names or (not name and len(names) == 1):
        return base, name or names[0]
    raise EndpointError(
        f"{url} has {'no model ' + repr(name) if name else count_nouns(len(names), 'model')}",
        hint=f"name one in partner.url, after a #: {', '.join(names[:20])}",
    )
