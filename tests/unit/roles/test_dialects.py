"""A chat in each dialect from end to end: what is asked, what comes back, and where it ends."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from p2r.dialogue import Budget, Decoding, Prompt, cut_reply
from p2r.errors import ToolError
from p2r.images.load import MemoryImage
from p2r.models.profiles import PROFILES, limit_profile
from p2r.models.scripted import ScriptedModel
from p2r.modes import CHATS, Mode, make_roles
from p2r.pipeline import walk
from p2r.prompts import load_prompt_set
from p2r.roles import DEFAULT_DECODING, DecodingPreset, ToolReasoner
from p2r.roles.dialects import DIALECTS, deepeyes, mini_o3, texts
from p2r.roles.dialects.base import read_corners
from p2r.roles.dialects.literal import read_literal
from p2r.types import Sample, ToolUse, Trace
from tests.fakes.replies import keep_decodings

PROMPTS = load_prompt_set()
IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (1000, 2000, 3), dtype=np.uint8))
SAMPLE = Sample("s1", MemoryImage(IMAGE), "What is on the sail?", ("a star", "a fish"), "choice")
PROFILE = PROFILES["qwen2_5_vl"]
ANSWER = "<think>I see.</think><answer>A</answer>"
CALLING = ("deepeyes", "mini-o3", "pixel-reasoner")


class Chat:
    """A scripted model that keeps what it was asked."""

    def __init__(self, *replies: str) -> None:
        self.prompts: list[Prompt] = []
        self._replies = iter(replies)
        self.model = ScriptedModel({"reasoner": self._say}, profile=PROFILE)
        self.decodings = keep_decodings(self.model)

    def _say(self, prompt: Prompt) -> str:
        self.prompts.append(prompt)
        return next(self._replies)

    async def hold(self, mode: Mode, sample: Sample = SAMPLE) -> Trace:
        trace = await walk(sample, *make_roles(mode, self.model, PROMPTS))
        assert trace.failure is None, trace.failure
        return trace


def zoom(corners: object, name: str = "image_zoom_in_tool", **more: object) -> str:
    return f"<tool_call>{json.dumps({'name': name, 'arguments': {'bbox_2d': corners, **more}})}</tool_call>"


def ground(corners: object, source: str = "original_image") -> str:
    return f"<think>Closer.</think> <grounding>{json.dumps({'bbox_2d': corners, 'source': source})}</grounding>"


def crop(corners: object, target_image: object = 1) -> str:
    return zoom(corners, "crop_image_normalized", target_image=target_image)


def uses(trace: Trace) -> list[ToolUse | None]:
    assert trace.reasoning is not None
    return [reply.tool_use for reply in trace.reasoning.calls]


def boxes(trace: Trace) -> list[tuple[float, ...]]:
    return [tuple(round(side, 1) for side in box.xyxy) for box in trace.boxes]


async def test_deepeyes_asks_with_options_and_gets_the_place_in_the_file_back() -> None:
    seen_wh = (1988, 1008)  # 2000 x 1000 in whole patches
    chat = Chat(zoom([994, 504, 1988, 1008], label="sail"), ANSWER)
    trace = await chat.hold("tools:deepeyes")
    first, second = chat.prompts
    words = texts.load_texts("deepeyes")
    assert first.system == words["system"]
    assert first.text == f"Question: What is on the sail?\nOptions: \nA. a star\nB. a fish\n{words['suffix']}"
    assert first.images[0].size == seen_wh
    said, shown = second.later
    assert said.text == zoom([994, 504, 1988, 1008], label="sail")
    assert [part if isinstance(part, str) else part.size for part in shown.parts] == [
        "<tool_response>",
        (1008, 504),
        words["suffix"],
        "</tool_response>",
    ]
    expected = IMAGE.crop((1000, 500, 2000, 1000)).resize((1008, 504), Image.Resampling.BICUBIC)
    assert shown.images[0].tobytes() == expected.tobytes()
    assert boxes(trace) == [(500, 500, 1000, 1000)]
    assert trace.boxes[0].label == "sail"
    assert trace.answer is not None and trace.answer.text == "A"
    assert chat.decodings[0].max_new_tokens == 10_240


async def test_options_that_the_question_states_are_not_repeated() -> None:
    chat, stated = Chat(ANSWER), "Which?\n(A) a star (B) a fish"
    await chat.hold("tools:deepeyes", replace(SAMPLE, question=stated, options_in_question=True))
    assert chat.prompts[0].text == f"Question: {stated}\n{texts.load_texts('deepeyes')['suffix']}"


async def test_mini_o3_is_shown_at_most_two_million_pixels_and_cuts_the_file() -> None:
    large = replace(SAMPLE, image=MemoryImage(Image.new("RGB", (4000, 3000), "gray")))
    chat = Chat(ground([0, 0, 0.5, 0.5]), ANSWER)
    await chat.hold("tools:mini-o3", large)
    whole, part = chat.prompts[1].all_images
    assert (whole.size, part.size) == ((1624, 1232), (1624, 1232))  # 1632 x 1224 each, in whole patches


async def test_the_last_closed_call_counts_for_deepeyes_and_none_beside_an_answer() -> None:
    good, bad = zoom([100, 100, 300, 300]), "<tool_call>no</tool_call>"
    read = DIALECTS["deepeyes"]().read_calls
    assert [call.name for call in read(bad + good)] == ["image_zoom_in_tool"]
    assert [call.name for call in read(good + bad)] == [""]
    assert [call.name for call in read(f"<tool_call>and {good}")] == [""]
    assert read(f"{good}{ANSWER}") == read("<tool_call></tool_call>") == read("<tool_call>{}") == []


async def test_deepeyes_as_released_cuts_the_file_at_the_numbers_of_the_seen_image() -> None:
    chat = Chat(zoom([994, 504, 1988, 1008]), ANSWER)
    trace = await chat.hold("tools:deepeyes:released")
    expected = IMAGE.crop((994, 504, 1988, 1008)).resize((1008, 504), Image.Resampling.BICUBIC)
    assert chat.prompts[1].later[1].images[0].tobytes() == expected.tobytes()
    assert boxes(trace) == [(497, 504, 994, 1000)]  # what lies outside is black


async def test_deepeyes_tells_what_is_wrong_and_as_released_ends() -> None:
    bad = zoom([0, 0, 20, 20])
    chat = Chat(bad, ANSWER)
    trace = await chat.hold("tools:deepeyes")
    assert chat.prompts[1].later[1].text.startswith("Error: the region is 20 x 20 pixels")
    assert uses(trace)[0] == ToolUse(errors=("the region is 20 x 20 pixels, which is too small or too thin",))
    released = Chat("<tool_call>null</tool_call>")
    trace = await released.hold("tools:deepeyes:released")
    assert len(released.prompts) == 1
    assert uses(trace) == [ToolUse(errors=("the call cannot be read",))]


async def test_deepeyes_as_released_asks_again_until_there_is_an_answer() -> None:
    chat = Chat("hm", "hm", ANSWER)
    trace = await chat.hold("tools:deepeyes:released")
    assert chat.prompts[0] == chat.prompts[1] == chat.prompts[2]
    assert trace.reasoning is not None and len(trace.reasoning.calls) == 3
    endless = Chat(*["hm"] * 20)
    trace = await endless.hold("tools:deepeyes:released")
    assert len(endless.prompts) == 11
    assert trace.reasoning is not None and trace.reasoning.text == "hm"
    once = Chat("hm")
    await once.hold("tools:deepeyes")
    assert len(once.prompts) == 1


async def test_deepeyes_may_turn_the_image() -> None:
    turn = '<tool_call>{"name": "image_rotate_tool", "arguments": {"angle": 180}}</tool_call>'
    chat = Chat(turn, ANSWER)
    await chat.hold("tools:deepeyes")
    first, shown = chat.prompts[1].all_images
    assert shown.tobytes() == first.rotate(180).tobytes()


@pytest.mark.parametrize("angle", ["NaN", "Infinity", "1e10", "true", '"90"', "null"])
async def test_an_angle_that_is_none_is_told(angle: str) -> None:
    turn = f'<tool_call>{{"name": "image_rotate_tool", "arguments": {{"angle": {angle}}}}}</tool_call>'
    trace = await Chat(turn, ANSWER).hold("tools:deepeyes")
    assert uses(trace)[0] == ToolUse(errors=("angle is not a number of degrees",))


@pytest.mark.parametrize(
    ("corners", "message"),
    [
        ([100, 100, 100, 120], "the box has no area"),  # its size cannot be computed
        ([300, 100, 100, 120], "the box has no area"),
        ([300, 100, 100, 900], "the box has its corners in the wrong order"),
        ([100, 900, 300, 100], "the box has its corners in the wrong order"),
        ([0, 0, 9000, 9000], "the box is far larger than the image"),
    ],
)
async def test_a_box_that_deepeyes_scripts_fail_at_ends_the_chat(corners: list[int], message: str) -> None:
    trace = await Chat(zoom(corners)).hold("tools:deepeyes:released")
    assert uses(trace) == [ToolUse(errors=(message,))]


async def test_mini_o3_looks_at_parts_of_parts_at_full_resolution() -> None:
    chat = Chat(ground([0.5, 0, 1, 1]), ground([0, 0.5, 0.5, 1], "observation_1"), ANSWER)
    trace = await chat.hold("tools:mini-o3")
    words = texts.load_texts("mini_o3")
    first, second, third = chat.prompts
    assert first.text == "What is on the sail?\nOptions:\nA. a star\nB. a fish"
    assert first.images[0].size == (1988, 1008)  # all 2,000,000 pixels, in whole patches
    before, picture, after = second.later[1].parts
    assert isinstance(before, str) and isinstance(after, str) and not isinstance(picture, str)
    assert "action 0" in before and "observation 1" in before
    assert f"{before}<image>{after}" == texts.fill(words["observation"], action_turn=0, observation_turn=1)
    assert "action 1" in third.later[3].text and "observation 2" in third.later[3].text
    assert picture.size == (1008, 1008)  # 999 x 999
    assert third.later[3].images[0].size == (504, 504)  # 499 x 499, of full resolution
    assert boxes(trace) == [(500, 0, 999.5, 999), (500, 499.0, 749.5, 998.0)]
    assert uses(trace)[2] is None


@pytest.mark.parametrize(
    ("corners", "is_shown"),
    [
        ([0, 0, 0.9, 0.01], True),
        ([0, 0, 0.999, 0.0095], False),
        ([0.5, 0.5, 0.5, 0.9], False),
        ([0.9, 0, 0.1, 1], False),
    ],
)
def test_the_shapes_that_mini_o3_is_shown(corners: list[float], is_shown: bool) -> None:
    """The sides of 2000 x 1000 pixels: 1800 x 10, 1998 x 9 (222 times as wide), none, and reversed ones."""
    left, top, right, bottom = corners
    try:
        assert mini_o3.find_pixels((left, top, right, bottom), (2000, 1000))[2] > 0
        assert is_shown
    except ToolError:
        assert not is_shown


async def test_a_reply_of_mini_o3_ends_behind_its_first_call() -> None:
    chat = Chat(f"{ground([0.5, 0, 1, 1])} and <answer>B</answer>", ANSWER)
    trace = await chat.hold("tools:mini-o3")
    assert [decoding.stop for decoding in chat.decodings] == [("</grounding>",)] * 2
    assert chat.prompts[1].later[0].text == ground([0.5, 0, 1, 1])
    assert trace.reasoning is not None and trace.reasoning.earlier[0].text == ground([0.5, 0, 1, 1])


async def test_mini_o3_is_told_what_is_wrong() -> None:
    spaced = '<grounding> {"source": "original_image", "bbox_2d": [0, 0, 0.5, 0.5]} </grounding>'
    chat = Chat(ground([0, 0, 1, 1], "observation_7"), spaced, ANSWER)
    trace = await chat.hold("tools:mini-o3")
    assert "there is no source 'observation_7'" in chat.prompts[1].later[1].text
    assert boxes(trace) == [(0, 0, 500, 500)]
    chat = Chat(spaced, ANSWER)
    assert boxes(await chat.hold("tools:mini-o3:released")) == []


async def test_pixel_reasoner_cuts_what_was_shown_with_surroundings() -> None:
    chat = Chat(crop([0.4, 0.4, 0.6, 0.6]), crop([0, 0, 0.5, 0.5], 2), "It is \\boxed{A}")
    trace = await chat.hold("tools:pixel-reasoner")
    words = texts.load_texts("pixel_reasoner")
    first, second, _ = chat.prompts
    assert first.text == f"What is on the sail?\nOptions:\nA. a star\nB. a fish{words['guideline']}"
    before, picture = second.later[1].parts
    assert not isinstance(picture, str)
    assert before == texts.fill(words["observation"], width=picture.width, height=picture.height)
    assert picture.size == (784, 392)  # 795 x 403 of the 1988 x 1008 pixels that were shown
    assert [len(prompt.all_images) for prompt in chat.prompts] == [1, 2, 3]
    assert [tuple(round(side) for side in each) for each in boxes(trace)] == [
        (300, 300, 700, 699),
        (300, 300, 540, 539),
    ]
    assert trace.answer is not None and trace.answer.text == "A"


@pytest.mark.parametrize(("mode", "regions"), [("tools:pixel-reasoner", 1), ("tools:pixel-reasoner:released", 0)])
async def test_the_slips_of_pixel_reasoner_are_switched(mode: Mode, regions: int) -> None:
    late = f"{crop([0.5, 0.5, 0.9, 0.9])}\n"
    assert len(boxes(await Chat(late, "\\boxed{A}").hold(mode))) == regions
    (whole,) = boxes(await Chat(crop([0.5, 0.5, 1.0, 1.0]), "\\boxed{A}").hold(mode))
    assert (whole[2] == 1000) == bool(regions)  # as released, four pixels at the top left and what is around them
    assert len(boxes(await Chat(crop([0.1, 0.1, 0.9, 0.9], 0), "\\boxed{A}").hold(mode))) == 1 - regions


@pytest.mark.parametrize("number", [True, 2, 0, 1.0, "1", None])
async def test_the_numbers_of_pixel_reasoners_images(number: object) -> None:
    trace = await Chat(crop([0.1, 0.1, 0.9, 0.9], number), "\\boxed{A}").hold("tools:pixel-reasoner")
    assert uses(trace)[0] == ToolUse(errors=("target_image is not a number from 1 to 1",))


async def test_pixel_reasoner_is_shown_at_most_five_thousand_tokens() -> None:
    large = replace(SAMPLE, image=MemoryImage(Image.new("RGB", (4000, 3000), "gray")))
    chat = Chat("\\boxed{A}")
    await chat.hold("tools:pixel-reasoner", large)
    assert chat.prompts[0].images[0].size == (2296, 1708)


BOXES = "I see <box>[100,200,300,600]</box> and <box> [ 20.5, 30, 40, 50],[1,1,9000,99] </box> <box>[5,5,5,9]</box>"
SMALL = replace(SAMPLE, image=MemoryImage(IMAGE.resize((500, 400))))


@pytest.mark.parametrize("said", [f"{BOXES}</think><answer>A</answer>", f"<think>{BOXES}</think><answer>A</answer>"])
async def test_treevgr_is_begun_with_its_thought_and_looks_where_its_boxes_are(said: str) -> None:
    chat = Chat(said)
    trace = await chat.hold("tools:treevgr", SMALL)
    (prompt,) = chat.prompts
    assert prompt.begun is not None and prompt.begun.parts == ("<think>",)
    assert (prompt.system, prompt.text) == (
        texts.load_texts("treevgr")["system"],
        "What is on the sail?\nOptions:\nA. a star\nB. a fish",
    )
    width, height = prompt.images[0].size
    assert 1280 * 28 * 28 <= width * height < 1.1 * 1280 * 28 * 28
    assert chat.decodings == [Decoding(max_new_tokens=1024)]
    assert trace.reasoning is not None and trace.reasoning.text == f"<think>{BOXES}</think><answer>A</answer>"
    assert trace.answer is not None and trace.answer.letter == "A"
    expected = [(100, 200, 300, 600), (20.5, 30, 40, 50), (1, 1, width, 99)]
    found = [box.xyxy for box in trace.boxes]
    assert found == [
        pytest.approx((x1 / width * 1000, y1 / height * 1000, x2 / width * 1000, y2 / height * 1000))
        for x1, y1, x2, y2 in expected
    ]


async def test_treevgr_as_released_takes_pixels_of_the_file() -> None:
    trace = await Chat(f"{BOXES}</think><answer>A</answer>").hold("tools:treevgr:released", SMALL)
    assert [box.xyxy for box in trace.boxes] == [pytest.approx((200, 500, 600, 1500))]


async def test_a_box_that_treevgr_says_twice_is_one_and_one_that_is_outside_is_none() -> None:
    said = "<box>[1,2,30,40]</box> <box>[1,2,30,40]</box> <box>[99000,1,99999,9]</box></think><answer>A</answer>"
    trace = await Chat(said).hold("tools:treevgr", SMALL)
    assert len(trace.boxes) == 1
    without = await Chat("No boxes.</think><answer>B</answer>").hold("tools:treevgr", SMALL)
    assert without.reasoning is not None and without.reasoning.tool_use is None


async def test_zwz_answers_at_once_from_many_pixels() -> None:
    chat = Chat(zoom([0, 0, 9, 9]) + ANSWER)
    trace = await chat.hold("tools:zwz")
    (prompt,) = chat.prompts
    assert (prompt.system, prompt.text) == (
        texts.load_texts("zwz")["system"],
        "What is on the sail?\nOptions:\nA. a star\nB. a fish",
    )
    assert prompt.images[0].size == (1988, 1008)
    assert chat.decodings == [Decoding(max_new_tokens=8192, temperature=0.7, top_p=0.8, seed=42)]
    assert trace.answer is not None and trace.answer.text == "A"


def test_every_dialect_is_a_mode_and_every_chat_a_dialect() -> None:
    assert {f"tools:{name}".removesuffix(":") for name in DIALECTS} == CHATS


async def test_a_part_that_no_model_can_see_is_told_and_nothing_fails() -> None:
    wide = replace(SAMPLE, image=MemoryImage(Image.new("RGB", (9000, 300))))
    chat = Chat(zoom([0, 0, 9000, 31]))
    trace = await chat.hold("tools:deepeyes:released", wide)
    assert uses(trace) == [ToolUse(errors=("the region is too thin to be shown",))]


@pytest.mark.parametrize("name", CALLING)
async def test_a_chat_without_end_is_cut_off(name: str) -> None:
    dialect = DIALECTS[name]()
    reply = {"deepeyes": zoom([0, 0, 99, 99]), "mini-o3": ground([0, 0, 0.5, 0.5])}.get(name, crop([0, 0, 0.5, 0.5]))
    chat = Chat(*[reply] * 30)
    trace = await chat.hold(f"tools:{name}")  # type: ignore[arg-type]
    assert trace.reasoning is not None
    assert (len(chat.prompts), trace.reasoning.finish_reason) == (dialect.max_replies, "length")
    assert all(len(prompt.all_images) <= dialect.max_images for prompt in chat.prompts)


@pytest.mark.parametrize("name", DIALECTS)
def test_pixels_that_the_user_states_bound_those_of_a_dialect(name: str) -> None:
    def find_budget(most: int | None) -> Budget:
        role = ToolReasoner(
            ScriptedModel({}, profile=limit_profile("qwen2_5_vl", max_pixels=most)), PROMPTS, dialect=DIALECTS[name]()
        )
        return role.shown_budget

    own = find_budget(None)
    assert find_budget(500_000).max_pixels == 500_000
    assert find_budget(500_000).min_pixels == (own.min_pixels if own.min_pixels < 500_000 else 16 * 28 * 28)
    if DIALECTS[name]().budget_pixels is not None:
        assert find_budget(1 << 30) == own


@pytest.mark.parametrize("name", CALLING)
def test_what_can_change_a_result_is_in_the_fingerprint(name: str) -> None:
    def hash_mode(mode: str) -> str:
        return make_roles(mode, Chat().model, PROMPTS).reasoner.fingerprint  # type: ignore[arg-type]

    found = {hash_mode(f"tools:{name}"), hash_mode(f"tools:{name}:released"), hash_mode("tools")}
    model = Chat().model
    dialect = DIALECTS[name]()
    for changed in (
        replace(dialect, max_replies=3),
        replace(dialect, max_images=3),
        replace(dialect, budget_pixels=None),
        replace(dialect, stop=("</x>",)),
        replace(dialect, begun="<think>"),
    ):
        found.add(ToolReasoner(model, PROMPTS, DEFAULT_DECODING.reasoner, None, changed).fingerprint)
    assert len(found) == 8


async def test_a_limit_of_tokens_leaves_the_rest_of_a_dialects_decoding() -> None:
    zwz = Decoding(max_new_tokens=99, temperature=0.7, top_p=0.8, seed=42)
    limits = [Decoding(max_new_tokens=99), Decoding(max_new_tokens=99, temperature=0.5)]
    for limit, expected in zip(limits, (zwz, zwz.model_copy(update={"temperature": 0.5})), strict=True):
        chat, said = Chat(ANSWER), DecodingPreset(perceiver=DEFAULT_DECODING.perceiver, reasoner=limit)
        await walk(SAMPLE, *make_roles("tools:zwz", chat.model, PROMPTS, decoding=said))
        assert chat.decodings == [expected]


async def test_what_is_said_about_replies_and_pixels_counts_more_than_the_dialect() -> None:
    chat = Chat(ANSWER)
    said = DecodingPreset(perceiver=DEFAULT_DECODING.perceiver, reasoner=Decoding(max_new_tokens=99))
    small = Budget(factor=28, min_pixels=28 * 28, max_pixels=100 * 28 * 28)
    await walk(SAMPLE, *make_roles("tools:deepeyes", chat.model, PROMPTS, decoding=said, budget=small))
    assert chat.decodings[0].max_new_tokens == 99
    assert chat.prompts[0].images[0].size == (392, 196)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{'a': [1, -2.5, (3, 4)], 'b': None}", {"a": [1, -2.5, [3, 4]], "b": None}),
        ("[1/4, 2*3, 1+1, 5-2]", [0.25, 6, 2, 3]),
    ],
)
def test_a_literal_is_read(text: str, value: object) -> None:
    assert read_literal(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "f()",
        "a.b",
        "__import__('os').system('true')",
        "9**9**9",
        "1/0",
        "'a'*9",
        "[" * 5000,
        "1e99*1",
        "1 if 1 else 2",
    ],
)
def test_anything_else_is_refused_and_never_run(text: str) -> None:
    with pytest.raises(ToolError, match="the call cannot be read"):
        read_literal(text)
    with pytest.raises(ToolError, match="the call cannot be read"):
        read_literal(f"[{'1, ' * 4000}1]")


@pytest.mark.parametrize(
    "given",
    [None, "1234", [1, 2, 3], [1, 2, 3, True], [1, 2, 3, "4"], {1: 2}, [1, 2, 3, 1e10], [1, 2, 3, float("nan")]],
)
def test_a_box_is_four_numbers(given: object) -> None:
    with pytest.raises(ToolError, match="bbox_2d"):
        read_corners(given)


def test_only_what_has_a_value_is_filled_in() -> None:
    assert texts.fill("{error} {width} {other}", error="{width}") == "{width} {width} {other}"


def program(*lines: str) -> str:
    return "<think>Closer. <code>\n```python\n{}\n```\n</code>".format("\n".join(lines))


CROPS = (
    "from PIL import Image",
    "part = Image.open(image_path).crop((500, 250, 1500, 750))",
    "processed_path = '/mnt/data/temp_processed_images/part.png'",
    "part.save(processed_path)",
    "print(processed_path)",
)
TAGS = "<sandbox_output>", "</sandbox_output>"


async def test_thyme_goes_on_with_its_reply_behind_what_its_programs_show() -> None:
    second = program("small = part.resize((100, 50))", "print(part.size[0] * 2)")
    chat = Chat(program(*CROPS) + " dropped", second, ANSWER)
    trace = await chat.hold("tools:thyme")
    words = texts.load_texts("thyme")
    first = chat.prompts[0]
    assert first.system == words["system"]
    assert first.text == (
        f"Question: What is on the sail?\nOptions:\nA. a star\nB. a fish\n{words['choose']}{words['path']}"
        f"/mnt/data/image.png{words['size']}2000x1000{words['form']}"
    )
    assert first.images[0].size == (1988, 1008) and not first.later
    (begun,) = chat.prompts[2].later
    assert begun.role == "assistant"
    shown = [part if isinstance(part, str) else part.size for part in begun.parts]
    assert shown == [program(*CROPS), TAGS[0], (1008, 504), TAGS[1], second, TAGS[0], "2000", TAGS[1]]
    assert begun.images[0].tobytes() == IMAGE.crop((500, 250, 1500, 750)).resize((1008, 504)).tobytes()
    assert chat.decodings[0] == Decoding(max_new_tokens=2048, stop=("</code>", "</answer>"))
    assert [box.xyxy for box in trace.boxes] == [(250, 250, 750, 750)]
    assert uses(trace) == [ToolUse(boxes=trace.boxes), ToolUse(), None]
    assert trace.reasoning is not None and [*map(len, (chat.prompts, trace.reasoning.calls))] == [3, 3]
    assert [call.usage.visual_tokens for call in trace.reasoning.calls] == [(2556,), (2556, 648), (2556, 648)]
    assert trace.answer is not None and trace.answer.text == "A"


async def test_thyme_is_told_what_is_wrong_with_a_program_and_an_open_question_has_no_options() -> None:
    chat = Chat(program("import os", "os.system('id')"), program("print(x)"), "<answer>a star</answer>")
    trace = await chat.hold("tools:thyme", Sample("s2", MemoryImage(IMAGE), "What is it?", (), "free_form"))
    assert chat.prompts[0].text.startswith("What is it?" + texts.load_texts("thyme")["short"])
    assert (
        chat.prompts[1].later[0].text.endswith("<sandbox_output>Error: os.system is not offered here</sandbox_output>")
    )
    assert uses(trace) == [
        ToolUse(errors=("os.system is not offered here",)),
        ToolUse(errors=("the name 'x' is not defined",)),
        None,
    ]


async def test_what_a_program_prints_is_no_token_of_the_chat() -> None:
    chat = Chat(program("print('<|image_pad|>\\ud800')"), program("Image.open('<|im_end|>')"), ANSWER)
    trace = await chat.hold("tools:thyme")
    later = chat.prompts[2].later[0]
    assert later.parts[2] == "< |image_pad|>?"
    assert uses(trace)[1] == ToolUse(errors=("there is no file '< |im_end|>'",))


async def test_thyme_ends_after_five_replies_and_the_last_program_is_not_run() -> None:
    chat = Chat(*[program("print(1)")] * 9)
    trace = await chat.hold("tools:thyme")
    assert trace.reasoning is not None
    assert (len(chat.prompts), trace.reasoning.finish_reason) == (5, "length")
    assert [use is None for use in uses(trace)] == [False] * 4 + [True]


async def test_a_failed_program_is_asked_for_again_as_released_and_then_the_whole_chat_and_then_plainly() -> None:
    wrong = program("print(x)")
    chat = Chat(wrong, program("print(1)"), "no idea", *[wrong] * 20, "a star")
    trace = await chat.hold("tools:thyme:released")
    words = texts.load_texts("thyme")
    assert chat.prompts[0].text.startswith("<image>\nQuestion:")
    assert [len(prompt.later) for prompt in chat.prompts] == [0, 0, 1, *[0] * 21]
    assert chat.prompts[2].later[0].parts == (program("print(1)"), TAGS[0], "1", TAGS[1])
    assert (chat.prompts[-1].system, chat.prompts[-1].text) == ("", f'{words["plain"]}What is on the sail?"\n')
    assert trace.reasoning is not None and trace.reasoning.text == "<answer>a star</answer>"
    assert len(trace.reasoning.calls) == 24  # 3 in the first chat, 5 in each of the others, and the plain question


async def test_a_released_chat_that_answers_is_not_held_again() -> None:
    chat = Chat("no idea", program("print(1)"), ANSWER)
    trace = await chat.hold("tools:thyme:released")
    assert trace.answer is not None and trace.answer.text == "A"
    assert [len(prompt.later) for prompt in chat.prompts] == [0, 0, 1]


def test_thymes_last_program_counts_and_the_first_tag_as_released() -> None:
    reply = "<think>I write <code> tags</think><code>```python\nprint(2)\n```</code>"
    (call,) = DIALECTS["thyme"]().read_calls(reply)
    released_reads = DIALECTS["thyme:released"]().read_calls
    (released,) = released_reads(reply)
    assert (call.arguments, str(released.arguments)[:4]) == ("print(2)", "tags")
    started = time.monotonic()
    assert not released_reads("<code>" + " " * 900) and not released_reads("<code>" * 900)
    assert released_reads(f"<code>x{' ' * 9000}y</code>")[0].arguments == f"x{' ' * 9000}y"
    assert time.monotonic() - started < 3
    (turkish,) = DIALECTS["thyme"]().read_calls("the sign says \u0130STANBUL <code>print(1)</code>")
    assert turkish.arguments == "print(1)"  # a small \u0130 has two letters
    assert not DIALECTS["thyme"]().read_calls("no <code> here") + DIALECTS["thyme"]().read_calls("</code>")


def test_a_reply_is_cut_behind_the_first_stop() -> None:
    assert cut_reply("a</x>b</y>c</x>", ("</y>", "</x>")) == "a</x>"
    assert cut_reply("abc", ("</x>",)) == "abc"


@pytest.mark.parametrize(
    ("window", "is_refused"), [((0, 0, 31, 3100), False), ((0, 0, 31, 3101), True), ((0, 0, 30, 40), True)]
)
def test_the_shapes_that_deepeyes_training_refuses(window: tuple[int, int, int, int], is_refused: bool) -> None:
    try:
        deepeyes.check_window(window)
        assert not is_refused
    except ToolError:
        assert is_refused


@pytest.mark.parametrize(
    ("size", "is_refused"), [((28, 1429), False), ((27, 1500), True), ((1, 1), False), ((1, 100), True)]
)
def test_the_sides_that_mini_o3_refuses(size: tuple[int, int], is_refused: bool) -> None:
    try:
        mini_o3.size_image(Image.new("RGB", size))
        assert not is_refused
    except ToolError:
        assert is_refused
