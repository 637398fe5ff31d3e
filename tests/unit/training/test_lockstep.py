"""Walks that ask two local models in turn, as a probe does when each role has its own adapter."""

from __future__ import annotations

from functools import partial

from p2r.dialogue import Decoding, Model, Prompt
from p2r.training.lockstep import LockstepPartner
from tests.fakes.training import BatchScript

DECODING = Decoding(max_new_tokens=8)


def ask(text: str) -> Prompt:
    return Prompt("perceiver", "", text, (), "test")


async def test_walks_may_ask_another_model_in_batches_of_its_own() -> None:
    own, other = BatchScript(lambda prompt: f"own {prompt.text}"), BatchScript(lambda prompt: f"other {prompt.text}")
    partner = LockstepPartner(own)
    beside = partner.beside(other)

    async def walk(number: int, first: Model, second: Model) -> tuple[str, str]:
        replies = [(await model.complete(ask(f"{number}"), DECODING)).text for model in (first, second)]
        return replies[0], replies[1]

    pairs = [(partner.model, beside), (beside, partner.model), (partner.model, beside)]
    told = await partner.run([partial(walk, number, *pair) for number, pair in enumerate(pairs)])
    assert told == [("own 0", "other 0"), ("other 1", "own 1"), ("own 2", "other 2")]
    assert (own.batches, other.batches) == ([["0", "2"], ["1"]], [["1"], ["0", "2"]])
    assert (beside.name, beside.profile) == (other.name, other.profile)
