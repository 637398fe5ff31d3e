"""`p2r` with a scripted model that takes its time and whose replies depend on what it is asked: to be killed."""

from __future__ import annotations

import asyncio
import hashlib

from p2r.cli import evaluate
from p2r.cli.app import app
from p2r.dialogue import Decoding, Model, Prompt
from p2r.models.scripted import ScriptedModel
from p2r.types import Completion

BOXES = '[{"bbox_2d": [100, 100, 400, 400], "label": "it"}]'


class SlowModel(ScriptedModel):
    async def complete(self, prompt: Prompt, decoding: Decoding) -> Completion:
        await asyncio.sleep(0.004)
        return await super().complete(prompt, decoding)


def answer(prompt: Prompt) -> str:
    return f"<answer>{'ABC'[hashlib.sha256(prompt.text.encode()).digest()[0] % 3]}</answer>"


def load(*_: object, **__: object) -> Model:
    return SlowModel({"perceiver": BOXES, "reasoner": answer}, name="slow")


if __name__ == "__main__":
    evaluate.load_model = load
    app(prog_name="p2r")
