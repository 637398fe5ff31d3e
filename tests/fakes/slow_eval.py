"""`p2r` with a scripted model that takes its time and whose replies depend on what it is asked: to be killed."""

from __future__ import annotations

import asyncio
import hashlib
from importlib import import_module

from p2r.cli.app import app
from p2r.dialogue import Decoding, Model, Prompt
from p2r.models.scripted import ScriptedModel
from p2r.types import Completion

NAME = "slow"
BOXES = '[{"bbox_2d": [100, 100, 400, 400], "label": "it"}]'


class SlowModel(ScriptedModel):
    async def complete(self, prompt: Prompt, decoding: Decoding) -> Completion:
        await asyncio.sleep(0.004)
        return await super().complete(prompt, decoding)


def answer(prompt: Prompt) -> str:
    return f"<answer>{'ABC'[hashlib.sha256(prompt.text.encode()).digest()[0] % 3]}</answer>"


def load(*_: object, **__: object) -> Model:
    return SlowModel({"perceiver": BOXES, "reasoner": answer}, name=NAME)


def evaluate_slowly(*arguments: str) -> None:
    """`p2r eval` with arguments, in a process that is left afterwards."""
    vars(import_module("p2r.evaluation.evaluate"))["load_model"] = load
    app(["eval", *arguments], prog_name="p2r")
