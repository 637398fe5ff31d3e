"""The zoom-in chat: what a call shows, what the model is told, and where the chat ends."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from p2r.dialogue import Budget, ModelProfile, Prompt
from p2r.errors import ConfigError, ToolError
from p2r.evidence import gather
from p2r.images.budget import FullImage
from p2r.images.load import MemoryImage
from p2r.models.profiles import PROFILES
from p2r.models.scripted import ScriptedModel
from p2r.pipeline import walk
from p2r.prompts import load_prompt_set
from p2r.roles import NoPerceiver, ToolReasoner
from p2r.roles.base import WHOLE
from p2r.roles.dialects.base import ToolCall, View
from p2r.roles.dialects.qwen3_vl import QWEN3_VL, read_calls, zoom_in
from p2r.types import Completion, Sample, ToolUse

PROMPTS = load_prompt_set()
IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8))
SAMPLE = Sample("s1", MemoryImage(IMAGE), "What is on the sail?")
ANSWER = "<think>I see.</think><answer>a star</answer>"
SMALL = Budget(factor=32, min_pixels=32 * 32, max_pixels=16 * 32 * 32)


def call(corners: Sequence[object], index: object = 0, label: object = "sail", name: str = "image_zoom_in_tool") -> str:
    arguments = {"bbox_2d": corners, "label": label, "img_idx": index}
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


class Chat:
    """A scripted model that keeps the prompts."""

    def __init__(self, *replies: str, profile: ModelProfile = PROFILES["qwen3_vl"]) -> None:
        self.prompts: list[Prompt] = []
        self._replies = iter(replies)
        self.model = ScriptedModel({"reasoner": self._say}, profile=profile)

    def _say(self, prompt: Prompt) -> str:
        self.prompts.append(prompt)
        return next(self._replies)


async def answer(chat: Chat, max_calls: int = 20, max_images: int = 16, budget: Budget | None = None) -> Completion:
    dialect = replace(QWEN3_VL, max_replies=max_calls, max_images=max_images)
    reasoner = ToolReasoner(chat.model, PROMPTS, budget=budget, dialect=dialect)
    return await reasoner(SAMPLE, gather(FullImage(IMAGE), ()))


async def test_a_reply_without_a_call_is_the_answer() -> None:
    chat = Chat(ANSWER)
    reply = await answer(chat)
    assert (reply.text, reply.earlier, reply.tool_use) == (ANSWER, (), None)
    (prompt,) = chat.prompts
    assert prompt.text == PROMPTS.thinking(SAMPLE)
    assert prompt.system == f"{PROMPTS.system}\n\n{PROMPTS.tools}"
    assert [image.size for image in prompt.all_images] == [(640, 480)]


async def test_what_a_call_asks_for_comes_back_in_the_users_turn() -> None:
    chat = Chat(f"Closer.\n{call([500, 500, 750, 1000])}", ANSWER)
    reply = await answer(chat)
    said, shown = chat.prompts[1].later
    assert (said.role, said.text) == ("assistant", f"Closer.\n{call([500, 500, 750, 1000])}")
    assert (shown.role, shown.text) == ("user", "<tool_response>\n\n</tool_response>")
    assert [type(part) for part in shown.parts] == [str, Image.Image, str]
    expected = IMAGE.crop((320, 240, 480, 480)).resize((448, 640), Image.Resampling.BICUBIC)
    assert shown.images[0].tobytes() == expected.tobytes()
    assert len(reply.calls) == 2
    assert reply.earlier[0].tool_use is not None
    assert [box.xyxy for box in reply.earlier[0].tool_use.boxes] == [(500, 500, 750, 1000)]


async def test_a_part_of_a_shown_part_is_found_in_the_whole_image() -> None:
    chat = Chat(call([500, 500, 1000, 1000]), call([0, 0, 500, 500], index=1, label="hull"), ANSWER)
    reply = await answer(chat)
    assert reply.earlier[1].tool_use is not None
    (box,) = reply.earlier[1].tool_use.boxes
    assert (box.xyxy, box.label) == ((500, 500, 750, 750), "hull")


async def test_several_calls_in_one_reply_are_answered_in_one_turn() -> None:
    chat = Chat(call([0, 0, 500, 500]) + call([0, 0, 500, 500], name="paint") + call([500, 500, 900, 900]), ANSWER)
    reply = await answer(chat)
    shown = chat.prompts[1].later[1]
    assert shown.text == (
        "<tool_response>\n\n</tool_response>\n<tool_response>\nTool paint does not exists.\n</tool_response>\n"
        "<tool_response>\n\n</tool_response>"
    )
    assert len(shown.images) == 2
    assert reply.earlier[0].tool_use is not None
    assert reply.earlier[0].tool_use.errors == ("Tool paint does not exists.",)


async def test_a_wrong_call_is_told_and_the_chat_goes_on() -> None:
    chat = Chat(call([900, 100, 100, 200]), ANSWER)
    reply = await answer(chat)
    assert "Coordinate 'right' is less than 'left'" in chat.prompts[1].later[1].text
    assert (reply.text, reply.finish_reason) == (ANSWER, "stop")


async def test_a_chat_that_never_answers_ends_truncated_with_all_its_calls() -> None:
    chat = Chat(*[call([0, 0, 500, 500])] * 9)
    reply = await answer(chat, max_calls=3)
    assert (len(chat.prompts), len(reply.calls), reply.finish_reason) == (3, 3, "length")


async def test_more_images_than_allowed_are_not_shown() -> None:
    chat = Chat(call([0, 0, 500, 500]), call([0, 0, 400, 400]), ANSWER)
    reply = await answer(chat, max_images=2)
    assert len(chat.prompts[2].all_images) == 2
    assert reply.earlier[1].tool_use is not None
    assert "no more than 2 images" in reply.earlier[1].tool_use.errors[0]


async def test_every_image_has_the_size_of_the_models_budget_and_is_counted() -> None:
    chat = Chat(call([0, 0, 500, 500]), ANSWER)
    reply = await answer(chat, budget=SMALL)
    sizes = [image.size for image in chat.prompts[1].all_images]
    assert all(width % 32 == height % 32 == 0 and width * height <= SMALL.max_pixels for width, height in sizes)
    assert [len(each.usage.visual_tokens) for each in reply.calls] == [1, 2]


async def test_a_walk_keeps_the_places_that_were_shown() -> None:
    chat = Chat(call([0, 0, 500, 500]), ANSWER)
    trace = await walk(SAMPLE, NoPerceiver(), ToolReasoner(chat.model, PROMPTS))
    assert trace.failure is None
    assert [box.xyxy for box in trace.boxes] == [(0, 0, 500, 500)]
    assert type(trace).model_validate_json(trace.model_dump_json()) == trace


async def test_a_model_with_boxes_in_pixels_is_refused() -> None:
    chat = Chat(ANSWER, profile=ModelProfile(family="test", frame="pixels", budget=Budget()))
    with pytest.raises(ConfigError, match="'pixels'") as caught:
        await answer(chat)
    assert caught.value.hint


def test_limits_are_part_of_the_fingerprint() -> None:
    model = ScriptedModel({})
    roles = [
        ToolReasoner(model, PROMPTS),
        ToolReasoner(model, PROMPTS, dialect=replace(QWEN3_VL, max_replies=5)),
        ToolReasoner(model, PROMPTS, dialect=replace(QWEN3_VL, max_images=5)),
    ]
    assert len({role.fingerprint for role in roles}) == 3


@pytest.mark.parametrize(
    ("reply", "names"),
    [
        ("no call", []),
        (call([1, 2, 3, 4]), ["image_zoom_in_tool"]),
        (f"<think>{call([1, 2, 3, 4])}</think>done", []),
        (f"<think>still {call([1, 2, 3, 4])}", []),
        (f"<think>so</think>{call([1, 2, 3, 4])}", ["image_zoom_in_tool"]),
        (call([1, 2, 3, 4]).removesuffix("</tool_call>"), ["image_zoom_in_tool"]),
        ('<tool_call>\n{"name": "image_zoom_in_tool", "arguments": {"bbox_2d": [1, 2', ["image_zoom_in_tool"]),
        ("<tool_call>zoom!</tool_call>", [""]),
        ("<tool_call>[1]</tool_call>", [""]),
        ("<tool_call></tool_call>", []),
        ("<tool_call>" + "[" * 100_000, [""]),
    ],
)
def test_calls_are_read_outside_of_thoughts(reply: str, names: list[str]) -> None:
    assert [each.name for each in read_calls(reply)] == names


GOOD = {"bbox_2d": [1, 2, 300, 400], "label": "sail", "img_idx": 0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (None, "Parameters must be formatted as a valid JSON!"),
        ("text", "'text' is not of type 'object'"),
        ({"bbox_2d": [1, 2, 3, 4], "label": "sail"}, "'img_idx' is a required property"),
        (GOOD | {"bbox_2d": "1 2 3 4"}, "'1 2 3 4' is not of type 'array'"),
        (GOOD | {"bbox_2d": [1, 2, 3]}, "is too short"),
        (GOOD | {"bbox_2d": [1, 2, 3, 4, 5]}, "is too long"),
        (GOOD | {"bbox_2d": [1, 2, 3, None]}, "None is not of type 'number'"),
        (GOOD | {"bbox_2d": [1, 2, 3, True]}, "True is not of type 'number'"),
        (GOOD | {"label": 7}, "7 is not of type 'string'"),
        (GOOD | {"img_idx": "first"}, "'first' is not of type 'number'"),
        (GOOD | {"img_idx": 1}, "Error: Invalid input image ['image 0']"),
        (GOOD | {"img_idx": 0.5}, "Error: Invalid input image ['image 0']"),
        (GOOD | {"bbox_2d": [1, 2, 3, float("nan")]}, "too large"),
        (GOOD | {"bbox_2d": [1, 2, 3, 10**400]}, "too large"),
        (GOOD | {"bbox_2d": [10, 20, 10, 40]}, "float division by zero"),
        (GOOD | {"bbox_2d": [100, 900, 400, 200]}, "Coordinate 'lower' is less than 'upper'"),
        (GOOD | {"bbox_2d": [1200, 100, 1300, 200]}, "Coordinate 'right' is less than 'left'"),
    ],
)
def test_a_call_that_cannot_be_carried_out_says_why(arguments: object, message: str) -> None:
    with pytest.raises(ToolError) as caught:
        zoom_in(ToolCall("image_zoom_in_tool", arguments), [View(IMAGE, WHOLE)])
    assert message in caught.value.message


def test_a_part_too_thin_for_any_model_is_refused() -> None:
    strip = View(Image.new("RGB", (9000, 33)), WHOLE)
    with pytest.raises(ToolError, match="aspect ratio"):
        zoom_in(ToolCall("image_zoom_in_tool", GOOD | {"bbox_2d": [0, 0, 1000, 1000]}), [strip])


async def test_half_a_character_in_a_call_reaches_nobody() -> None:
    """JSON can hold half a surrogate pair, which neither a trace nor a request can."""
    chat = Chat(call([0, 0, 500, 500], label="\ud800"), call([0, 0, 500, 500], name="\ud800"), ANSWER)
    reply = await answer(chat)
    uses = [earlier.tool_use for earlier in reply.earlier]
    assert [box.label for use in uses if use for box in use.boxes] == ["?"]
    assert uses[1] == ToolUse(errors=("Tool ? does not exists.",))
    assert chat.prompts[-1].later[-1].text.encode()
    assert reply.model_dump_json()
