"""A checkpoint is asked for a box as VLM-R1 and Visual-RFT ask it, and its reply is read as theirs or as ours."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from p2r.dialogue import Decoding, Prompt
from p2r.images.load import MemoryImage
from p2r.models.profiles import PROFILES, limit_profile
from p2r.models.scripted import ScriptedModel
from p2r.modes import Mode, make_roles
from p2r.pipeline import walk
from p2r.prompts import load_prompt_set
from p2r.roles import DEFAULT_DECODING, DecodingPreset, ModelPerceiver
from p2r.roles.dialects import texts
from p2r.types import Perception, Sample
from tests.fakes.replies import keep_decodings

PROMPTS = load_prompt_set()
SAMPLE = Sample("s1", MemoryImage(Image.new("RGB", (640, 480), "navy")), "the sail")  # seen at 644 x 476
JSON = '<think>On the left {"bbox": [1, 2, 3, 4]}</think><answer>{"bbox": [161, 119, 322, 238]}</answer>'
POINTS = "<think>On the left.</think><answer>(250,250),(500,500)</answer>"


class Asked:
    """A scripted model that keeps what it was asked."""

    def __init__(self, reply: str) -> None:
        self.prompts: list[Prompt] = []
        self._reply = reply
        self.model = ScriptedModel(
            {"perceiver": self._say, "reasoner": "<answer>a star</answer>"}, profile=PROFILES["qwen2_5_vl"]
        )
        self.decodings = keep_decodings(self.model)

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
    assert "the sail" in prompt.text and "<answer>" in prompt.text
    assert asked.decodings[0] == Decoding(max_new_tokens=tokens)
    assert asked.decodings[1] == DEFAULT_DECODING.reasoner


async def test_ours_reads_any_form_and_theirs_one() -> None:
    floats = '<answer>{"bbox": [161.0, 119, 322, 238]}</answer>'
    untagged = '{"bbox": [161, 119, 322, 238]}'
    expected = [(250, 250, 500, 500)]
    for reply in (floats, untagged):
        assert await find("p2r:vlm-r1", reply) == expected
        assert await find("p2r:vlm-r1:released", reply) == []
    for reply in ("<answer>(250.0, 250), (500, 500)</answer>", "<answer>[250, 250, 500, 500]</answer>"):
        assert await find("p2r:visual-rft", reply) == expected
        assert await find("p2r:visual-rft:released", reply) == []


async def test_the_first_box_counts_and_theirs_is_the_last_in_the_braces() -> None:
    two = '<answer>[{"bbox": [161, 119, 322, 238]}, {"bbox": [0, 0, 322, 238]}]</answer>'
    assert await find("p2r:vlm-r1", two) == [(250, 250, 500, 500)]
    assert await find("p2r:vlm-r1:released", two) == [(0, 0, 500, 500)]
    points = "<think>(0,0),(500,500)</think><answer>(250,250),(500,500)</answer><answer>(1,2),(3,4)</answer>"
    assert await find("p2r:visual-rft", points) == [(250, 250, 500, 500)]
    assert await find("p2r:visual-rft", f"<think><answer>(0,0),(9,9)</answer>?</think>{POINTS}") == [
        (250, 250, 500, 500)
    ]
    assert await find("p2r:visual-rft", "Not (0,0),(9,9). <answer>(250,250),(500,500)</answer>") == [
        (250, 250, 500, 500)
    ]
    assert await find("p2r:visual-rft:released", points) == [(0, 0, 500, 500)]


async def test_theirs_keeps_what_lies_outside_the_image() -> None:
    assert await find("p2r:visual-rft:released", "(500,0),(1500,1)") == [(500, 0, 1500, 1)]
    assert await find("p2r:visual-rft", "(500,0),(1500,1)") == []


@pytest.mark.parametrize("mode", ["p2r:vlm-r1", "p2r:vlm-r1:released", "p2r:visual-rft", "p2r:visual-rft:released"])
@pytest.mark.parametrize("reply", ["", "I see none.", "<answer>", '<answer>{"a": [300, 300, 100, 100]}</answer>'])
async def test_a_reply_without_a_usable_box_looks_at_the_whole_image(mode: Mode, reply: str) -> None:
    perception = await Asked(reply).look(mode)
    assert perception.boxes == ()
    assert perception.parse is not None and perception.parse.reason


async def test_a_stated_frame_replaces_the_dialects() -> None:
    asked = Asked('<answer>{"bbox": [0.25, 0.25, 0.5, 0.5]}</answer>')
    asked.model.profile = asked.model.profile.model_copy(update={"frame": "unit", "frame_is_stated": True})
    (box,) = (await asked.look("p2r:vlm-r1")).boxes
    assert box.xyxy == (250, 250, 500, 500)


async def test_pixels_are_those_of_the_authors_and_what_is_stated_counts() -> None:
    large = replace(SAMPLE, image=MemoryImage(Image.new("RGB", (2800, 2800))))
    asked = Asked(POINTS)
    await asked.look("p2r:visual-rft", large)
    assert asked.prompts[0].images[0].size == (2800, 2800)
    said = DecodingPreset(perceiver=Decoding(max_new_tokens=32), reasoner=DEFAULT_DECODING.reasoner)
    small = asked.model.profile.budget.model_copy(update={"max_pixels": 280 * 280})
    perceiver = make_roles("p2r:visual-rft", asked.model, PROMPTS, decoding=said, budget=small).perceiver
    assert isinstance(perceiver, ModelPerceiver)
    assert (perceiver.decoding.max_new_tokens, perceiver.shown_budget) == (32, small)


async def test_the_options_of_a_choice_are_asked_with_it() -> None:
    asked = Asked(JSON)
    await asked.look("p2r:vlm-r1", replace(SAMPLE, question="What is {this}?", options=("a {question}", "a fish")))
    assert "What is {this}?\nOptions:\nA. a {question}\nB. a fish" in asked.prompts[0].text


async def test_imported_words_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    before = make_roles("p2r:vlm-r1", Asked("").model, PROMPTS).perceiver.fingerprint
    for name, words in {
        "vlm-r1": {"template": "{Question} Well?"},
        "visual-rft": {"system": "S", "before": "Find: ", "after": "! Now."},
    }.items():
        known = {key: texts.Constant("a.py", hashlib.sha256(text.encode()).hexdigest()) for key, text in words.items()}
        monkeypatch.setitem(texts.AUTHORS, name, known)  # type: ignore[arg-type]
        (texts.imported_folder() / name).mkdir(parents=True)
        for key, text in words.items():
            (texts.imported_folder() / name / f"{key}.txt").write_text(text)
    asked = Asked("")
    await asked.look("p2r:vlm-r1:released")
    await asked.look("p2r:visual-rft")
    template, points = asked.prompts
    assert template.text.endswith("the sail Well?") and template.system == "You are a helpful assistant."
    assert (points.system, points.text) == ("S", "Find: the sail! Now.")
    assert make_roles("p2r:vlm-r1", asked.model, PROMPTS).perceiver.fingerprint != before


async def test_pixels_that_the_user_states_bound_those_of_the_authors() -> None:
    large = replace(SAMPLE, image=MemoryImage(Image.new("RGB", (2800, 2800))))
    asked = Asked(POINTS)
    asked.model.profile = limit_profile("qwen2_5_vl", max_pixels=280 * 280)
    await asked.look("p2r:visual-rft", large)
    assert asked.prompts[0].images[0].size == (280, 280)
