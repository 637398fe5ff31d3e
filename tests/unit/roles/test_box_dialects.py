"""A checkpoint is asked for a box as VLM-R1 and Visual-RFT ask it, and its reply is read as theirs or as ours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from p2r.dialogue import Decoding, Prompt
from p2r.images.load import MemoryImage
from p2r.models.profiles import PROFILES
from p2r.models.scripted import ScriptedModel
from p2r.modes import Mode, make_roles
from p2r.pipeline import walk
from p2r.prompts import load_prompt_set
from p2r.roles import DEFAULT_DECODING, DecodingPreset, ModelPerceiver
from p2r.roles.dialects import texts
from p2r.types import Completion, Perception, Sample

PROMPTS = load_prompt_set()
SAMPLE = Sample("s1", MemoryImage(Image.new("RGB", (640, 480), "navy")), "the sail")  # seen at 644 x 476
JSON = '<think>On the left {"bbox": [1, 2, 3, 4]}</think><answer>{"bbox": [161, 119, 322, 238]}</answer>'
POINTS = "<think>On the left.</think><answer>(250,250),(500,500)</answer>"


class Asked:
    """A scripted model that keeps what it was asked."""

    def __init__(self, reply: str) -> None:
        self.prompts: list[Prompt] = []
        self.decodings: list[Decoding] = []
        self._reply = reply
        self.model = ScriptedModel(
            {"perceiver": self._say, "reasoner": "<answer>a star</answer>"}, profile=PROFILES["qwen2_5_vl"]
        )
        complete = self.model.complete

        async def keep(prompt: Prompt, decoding: Decoding) -> Completion:
            self.decodings.append(decoding)
            return await complete(prompt, decoding)

        self.model.complete = keep

    def _say(self, prompt: Prompt) -> str:
        self.prompts.append(prompt)
        return self._reply

    async def look(self, mode: Mode, sample: Sample = SAMPLE) -> Perception:
        trace = await walk(sample, *make_roles(mode, self.model, PROMPTS))
        assert trace.failure is None, trace.failure
        assert trace.perception is not None and trace.answer is not None and trace.answer.text == "a star"
        return trace.perception


async def find(mode: Mode, reply: str) -> list[tuple[float, ...]]:
    boxes = (await Asked(reply).look(mode)).boxes
    return [tuple(round(side, 1) for side in box.xyxy) for box in boxes]


@pytest.mark.parametrize(
    ("mode", "reply", "tokens"),
    [
        ("p2r:vlm-r1", JSON, 256),
        ("p2r:vlm-r1:released", JSON, 256),
        ("p2r:vlm-r1-od:released", '```json\n[{"bbox_2d": [160, 120, 320, 240]}]\n```', 256),
        ("p2r:visual-rft", POINTS, 128),
        ("p2r:visual-rft:released", POINTS, 128),
    ],
)
async def test_a_walk_looks_where_the_reply_says(mode: Mode, reply: str, tokens: int) -> None:
    asked = Asked(reply)
    (box,) = (await asked.look(mode)).boxes
    assert box.xyxy == pytest.approx((250, 250, 500, 500))
    (prompt,) = asked.prompts
    assert prompt.images[0].size == (644, 476)
    assert "the sail" in prompt.text and "<answer>" in prompt.text and "{" not in prompt.text.split("<answer>{")[0]
    assert asked.decodings[0] == Decoding(max_new_tokens=tokens)
    assert asked.decodings[1] == DEFAULT_DECODING.reasoner
