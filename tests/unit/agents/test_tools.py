"""The tools for agents: what they find, what they refuse, and in which words."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp import Client, MCPError
from PIL import Image

from p2r.agents.arguments import CropArguments
from p2r.agents.server import list_tools
from p2r.agents.tools import find_rect
from p2r.dialogue import Decoding, Prompt
from p2r.errors import EndpointError, ModelError
from p2r.models.scripted import ScriptedModel
from p2r.serving.answering import ServedModel
from p2r.serving.refusal import Refused
from p2r.serving.settings import Limits
from p2r.types import Completion
from tests.fakes.agents import SlowModel, make_kit, read_fields, read_images, read_words
from tests.fakes.served import BOX, data_url, scripted

SECRET = "/home/somebody/secret/model.safetensors"


async def ask(client: Client, **more: object) -> Any:  # noqa: ANN401
    return await client.call_tool("ask", {"image": "below/a boat.png", "question": "What is on the sail?"} | more)


async def test_an_agent_learns_what_there_is() -> None:
    async with make_kit().connect() as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert (client.server_info.name, list(tools)) == ("perceive-to-reason", ["look", "ask", "crop"])
        assert "`ask`" in (client.instructions or "")
    assert all(tool.annotations and tool.annotations.read_only_hint for tool in tools.values())
    assert tools["ask"].input_schema["required"] == ["image", "question"]
    assert tools["crop"].input_schema["required"] == ["image", "box"]
    assert all("description" in each for tool in tools.values() for each in tool.input_schema["properties"].values())
    assert "1,000,000 pixels" in (tools["crop"].description or "")


async def test_what_may_be_left_out_may_be_null(folder: Path) -> None:
    async with make_kit(folder=folder).connect() as client:
        assert read_fields(await ask(client, options=None))["answer"] == "a star"
        crop = {"image": "below/a boat.png", "box": [0, 0, 9, 9], "unit": None}
        assert read_fields(await client.call_tool("crop", crop))["crops"][0]["pixels"] == [0, 0, 9, 9]


async def test_looking_says_where_and_shows_it(folder: Path) -> None:
    model = ScriptedModel({"perceiver": BOX})  # nobody is asked for an answer
    async with make_kit(model, folder=folder).connect() as client:
        result = await client.call_tool("look", {"image": "below/a boat.png", "question": "What is on the sail?"})
    fields = read_fields(result)
    assert result.structured_content is None  # some clients would show it in place of the images
    box = {"label": "sail", "pixels": [64, 64, 192, 128], "per_mille": [100.0, 200.0, 300.0, 400.0]}
    (crop,) = fields.pop("crops")
    assert fields == {"state": "found", "image_wh": [640, 320], "boxes": [box]}
    (image,) = read_images(result)
    assert list(image.size) == crop["shown_wh"]
    left, top, right, bottom = crop["pixels"]
    whole = Image.open(folder / "below" / "a boat.png")
    assert image.tobytes() == whole.crop((left, top, right, bottom)).tobytes()  # at full resolution, without loss


async def test_an_answer_comes_with_its_evidence(folder: Path) -> None:
    async with make_kit(folder=folder).connect() as client:
        result = await ask(client)
        fields = read_fields(result)
        assert (fields["answer"], fields["reply"]) == (
            "a star",
            "<think>It is a star.</think><answer>a star</answer>",
        )
        assert (len(fields["boxes"]), len(fields["crops"]), len(read_images(result))) == (1, 1, 1)
    async with make_kit(scripted(reasoner="<answer>B</answer>"), folder=folder).connect() as client:
        for options in (["a star", "a fish"], '["A. a star", "B. a fish"]'):  # some agents write a list as text
            assert read_fields(await ask(client, options=options))["answer"] == "B. a fish"


async def test_what_is_not_found_is_told(folder: Path) -> None:
    async with make_kit(scripted("[]", "I do not know"), folder=folder).connect() as client:
        result = await ask(client)
    fields = read_fields(result)
    assert (fields["state"], fields["boxes"], fields["crops"]) == ("whole image", [], [])
    assert (fields["answer"], fields["reply"], read_images(result)) == (None, "I do not know", [])


async def test_another_model_may_look(folder: Path) -> None:
    looker = ScriptedModel({"perceiver": BOX.replace("sail", "mast")})
    async with make_kit(scripted("[]"), looker=looker, folder=folder).connect() as client:
        assert read_fields(await ask(client))["boxes"][0]["label"] == "mast"


async def test_a_part_is_cut_out_without_a_model(folder: Path) -> None:
    def fail() -> ServedModel:
        raise ModelError("there is no model")

    async with make_kit(folder=folder, load=fail).connect() as client:
        for image in ("below/a boat.png", str(folder / "below" / "a boat.png"), (folder / "below/a boat.png").as_uri()):
            result = await client.call_tool("crop", {"image": image, "box": [10, 20, 110, 70]})
            assert read_fields(result)["crops"] == [{"pixels": [10, 20, 110, 70], "shown_wh": [100, 50]}]
            (part,) = read_images(result)
            assert part.tobytes() == Image.open(folder / "below" / "a boat.png").crop((10, 20, 110, 70)).tobytes()


@pytest.mark.parametrize(
    ("box", "unit", "rect"),
    [
        ([0, 0, 640, 320], "pixels", (0, 0, 640, 320)),
        ([-10, -20, 9000, 9000], "pixels", (0, 0, 640, 320)),
        ([1.5, 2.5, 3.2, 4.2], "pixels", (1, 2, 4, 5)),
        ([500, 500, 1000, 1000], "per_mille", (320, 160, 640, 320)),
        ([0, 0, 0.1, 0.1], "per_mille", (0, 0, 1, 1)),
    ],
)
def test_a_box_is_the_whole_pixels_that_it_touches(box: list[float], unit: str, rect: tuple[int, ...]) -> None:
    arguments = CropArguments.model_validate({"image": "a", "box": box, "unit": unit})
    assert find_rect(arguments, (640, 320)) == rect


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("ask", {"question": None}, "question is None: it must be text"),
        ("ask", {"question": " "}, "question is ' ': it must be text, and not empty"),
        ("ask", {"color": "red"}, "there is no argument 'color': the tool takes image, question, options"),
        ("ask", {"options": "a or b"}, "options is 'a or b': it must be a list"),
        (
            "ask",
            {"options": ["a", "a"]},
            "the question has the option 'a' more than once; each option must be",
        ),
        ("ask", {"options": [""]}, "the question has a single option, ''; give two or more options, or none"),
        ("ask", {"options": ["a", " "]}, "option B is empty; write the option, or leave it out"),
        ("ask", {"options": list("abcdefghijklmnopqrstuvwxyz0")}, "the question has 27 options"),
        ("ask", {"question": None, "options": None}, "question is None: it must be text"),
        ("ask", {"color": None}, "there is no argument 'color': the tool takes image, question, options"),
        ("ask", {"question": "x" * 100_001}, "the texts have 100,001 characters together; this server takes 100,000"),
        (
            "ask",
            {"question": "<|im_start|>system"},
            "the question holds <|im_start|>, a special token of the model; remove",
        ),
        ("look", {"options": ["a", "b"]}, "there is no argument 'options': the tool takes image, question"),
        ("crop", {"box": [1, 2, 3]}, "box is [1, 2, 3]: it must be [left, top, right, bottom]"),
        ("crop", {"box": [1, 2, 3, 4, 5]}, "box is [1, 2, 3, 4, 5]: it must be [left, top, right, bottom]"),
        ("crop", {"box": {"left": 1}}, "box is {'left': 1}: it must be [left, top, right, bottom]"),
        ("crop", {"box": "1, 2, 3, 4"}, "box is '1, 2, 3, 4': it must be [left, top, right, bottom]"),
        ("crop", {"box": [1, 2, 3, "x"]}, "box.3 is 'x': it must be a number"),
        ("crop", {"box": "[1, 2, 3, Infinity]"}, "box.3 is inf: it must be a finite number"),
        ("crop", {"box": [3, 2, 1, 4]}, "it must be [left, top, right, bottom], left < right, top < bottom"),
        ("crop", {"box": [700, 0, 800, 10]}, "it is outside of the image, of 640 x 320 pixels"),
        ("crop", {"box": [0, 0, 9, 9], "unit": "inches"}, "unit is 'inches': it must be 'pixels' or 'per_mille'"),
    ],
)
async def test_what_is_wrong_is_told_in_a_sentence(
    name: str, arguments: dict[str, object], said: str, folder: Path
) -> None:
    question = {} if name == "crop" else {"question": "What is it?"}
    given = {"image": "below/a boat.png"} | question | arguments
    async with make_kit(folder=folder).connect() as client:
        result = await client.call_tool(name, given)
    assert result.is_error
    assert said in read_words(result)
    assert "\n" not in read_words(result)


async def test_what_is_missing_is_told() -> None:
    async with make_kit().connect() as client:
        assert read_words(await client.call_tool("ask", {})) == "image is missing"
        assert read_words(await client.call_tool("crop", {"image": data_url()})) == "box is missing"
        with pytest.raises(MCPError, match="there is no tool 'paint': the tools are look, ask, crop"):
            await client.call_tool("paint", {})


class _Failing(ScriptedModel):
    """Raises what it is given."""

    def __init__(self, error: Exception) -> None:
        super().__init__({})
        self.error = error

    async def complete(self, prompt: Prompt, decoding: Decoding) -> Completion:
        raise self.error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ModelError(f"{SECRET} is broken"), "the model failed; the server's log says why"),
        (EndpointError("http://10.0.0.7/v1 is gone"), "the model's server sent no usable reply"),
        (RuntimeError(SECRET), "something went wrong inside p2r"),
    ],
)
async def test_a_failure_of_the_model_names_no_place(
    error: Exception, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with make_kit(_Failing(error)).connect() as client:
        result = await client.call_tool("look", {"image": data_url(), "question": "What is it?"})
    assert (result.is_error, read_words(result)) == (True, said)
    assert "secret" not in caplog.text
    assert "10.0.0.7" not in caplog.text
    assert said in caplog.text


async def test_a_model_that_cannot_be_loaded_is_told_at_every_call() -> None:
    num_loads = 0

    def fail() -> ServedModel:
        nonlocal num_loads
        num_loads += 1
        raise ModelError(f"{SECRET} is not a checkpoint")

    async with make_kit(load=fail).connect() as client:
        for _ in range(2):
            result = await client.call_tool("look", {"image": data_url(), "question": "What is it?"})
            assert read_words(result) == "the model cannot be loaded: [path] is not a checkpoint"
    assert num_loads == 1


async def test_the_model_is_loaded_beside_what_needs_none() -> None:
    kit, may_load = make_kit(), threading.Event()
    load = kit.tools.load

    def load_late() -> ServedModel:
        assert may_load.wait(30)
        return load()

    kit.tools.load = load_late
    async with kit.connect() as client:
        looking = asyncio.ensure_future(client.call_tool("look", {"image": data_url(), "question": "What is it?"}))
        assert len((await client.list_tools()).tools) == 3
        assert not (await client.call_tool("crop", {"image": data_url(), "box": [0, 0, 9, 9]})).is_error
        assert not looking.done()
        may_load.set()
        assert read_fields(await looking)["state"] == "found"


async def test_the_model_is_loaded_though_the_first_call_is_given_up() -> None:
    kit, may_load = make_kit(), threading.Event()
    load = kit.tools.load

    def load_late() -> ServedModel:
        assert may_load.wait(30)
        return load()

    kit.tools.load = load_late
    look = {"image": data_url(), "question": "What is it?"}
    async with kit.connect() as client:
        first = asyncio.ensure_future(client.call_tool("look", look))
        while not kit.line.num_running:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)  # it has read its image, and waits
        first.cancel()
        while kit.line.num_running:
            await asyncio.sleep(0.01)
        may_load.set()
        assert read_fields(await client.call_tool("look", look))["state"] == "found"


async def test_a_call_ends_after_some_time_and_the_model_is_left() -> None:
    model = SlowModel()
    async with make_kit(model, limits=Limits(timeout_s=0.2)).connect() as client:
        result = await client.call_tool("look", {"image": data_url(), "question": "What is it?"})
    assert read_words(result) == "there was no answer within 0.2 seconds"
    assert model.left.is_set()


async def test_a_call_that_is_given_up_leaves_the_model() -> None:
    model = SlowModel()
    kit = make_kit(model)
    async with kit.connect() as client:
        asking = asyncio.ensure_future(client.call_tool("look", {"image": data_url(), "question": "What is it?"}))
        await model.asked.wait()
        asking.cancel()
        await asyncio.wait_for(model.left.wait(), 30)
        assert kit.line.num_inside == 0


async def test_too_many_calls_are_sent_away() -> None:
    model = SlowModel()
    async with make_kit(model, limits=Limits(num_at_once=1, num_waiting=0)).connect() as client:
        asking = asyncio.ensure_future(client.call_tool("look", {"image": data_url(), "question": "What is it?"}))
        await model.asked.wait()
        result = await client.call_tool("crop", {"image": data_url(), "box": [0, 0, 9, 9]})
        assert read_words(result) == "too many requests are waiting: try again in 1 second"
        asking.cancel()


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)
NUMBERS = st.floats() | st.integers(-(10**30), 10**30)


@settings(max_examples=100, deadline=None)
@given(
    name=st.sampled_from(["look", "ask", "crop"]),
    place=st.sampled_from(["image", "question", "options", "box", "unit"]),
    value=JSON_VALUES | st.lists(NUMBERS, min_size=4, max_size=4) | st.text(max_size=20).map(json.dumps),
)
def test_whatever_is_given_is_answered_or_refused_in_a_sentence(name: str, place: str, value: object) -> None:
    kit = make_kit()
    tool = {tool.name: tool for tool in list_tools(kit.tools)}[name]
    usual: dict[str, object] = {"image": data_url(), "box": [0, 0, 9, 9]}
    if name != "crop":
        usual = {"image": data_url(), "question": "What is it?"}
    try:
        result = asyncio.run(tool.call(usual | {place: value}))
        json.dumps(result.fields, allow_nan=False)
    except Refused as refused:
        assert refused.message and "\n" not in refused.message
