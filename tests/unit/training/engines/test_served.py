"""A policy behind servers: all replies of a call are asked for at once, from the thread of the rollouts."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("torch")

from p2r.dialogue import Decoding
from p2r.images.budget import FullImage
from p2r.models.checkpoint import open_checkpoint
from p2r.models.local.encoding import PromptEncoder
from p2r.models.nano import CHECKPOINT
from p2r.roles import perceiver_prompt
from p2r.training.engines.local.generate import Generated, Wanted
from p2r.training.engines.served import SeenPrompt, ServedActor
from tests.fakes.training import PROMPTS, make_sample


async def test_replies_come_in_the_order_of_their_prompts_and_seeds() -> None:
    checkpoint = open_checkpoint(CHECKPOINT)
    encoder, profile, sample = PromptEncoder(checkpoint), checkpoint.profile(), make_sample()
    prompt = perceiver_prompt(PROMPTS, sample, FullImage(sample.image.load()), profile.budget)
    under_way, everyone = 0, asyncio.Event()

    async def ask(asked: SeenPrompt, seed: int, decoding: Decoding) -> Generated:
        nonlocal under_way
        under_way += 1
        if under_way == 4:
            everyone.set()
        await asyncio.wait_for(everyone.wait(), 10)  # nobody is answered before all have asked
        await asyncio.sleep(0.02 * (4 - seed))  # the last one first
        return Generated((len(asked.images), seed, decoding.max_new_tokens), ended=True)

    actor = ServedActor(encoder, profile, ask, asyncio.get_running_loop())
    encoded = actor.encode(prompt)
    assert encoded.token_ids == encoder.encode(prompt).token_ids
    assert encoded.images == prompt.all_images and not encoded.patches
    wanted, decoding = [Wanted(encoded, [0, 1]), Wanted(encoded, [2, 3])], Decoding(max_new_tokens=9)
    found = await asyncio.to_thread(lambda: [*actor.sample(wanted, decoding, 1, lambda: False)])
    assert [(place, [one.token_ids for one in replies]) for place, replies in found] == [
        (0, [(1, 0, 9), (1, 1, 9)]),
        (1, [(1, 2, 9), (1, 3, 9)]),
    ]
