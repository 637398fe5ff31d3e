"""The search over parts of parts: what it asks, where it goes, when it stops, and what it costs."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from p2r.dialogue import Budget, Decoding, ModelProfile, Prompt
from p2r.errors import ModelError
from p2r.images.budget import FullImage
from p2r.images.load import MemoryImage
from p2r.models.scripted import ScriptedModel
from p2r.modes import make_roles
from p2r.pipeline import walk
from p2r.prompts import load_prompt_set
from p2r.roles import Search, ZoomPerceiver
from p2r.roles.parts import count_levels, split
from p2r.roles.zoom import find_search, read_confidence, read_cues
from p2r.types import Box, Completion, Perception, Sample

PROMPTS = load_prompt_set()
SIDE = 2048
WHOLE = Box(x1=0, y1=0, x2=1000, y2=1000)
FINE = np.arange(SIDE, dtype=np.float64) / SIDE
PIXELS = np.stack(
    [
        np.broadcast_to(FINE[None] * 250, (SIDE, SIDE)),
        np.broadcast_to(FINE[:, None] * 250, (SIDE, SIDE)),
        np.zeros((SIDE, SIDE)),
    ],
    axis=-1,
)
IMAGE = Image.fromarray(PIXELS.astype(np.uint8))
"""Red grows to the right and green downwards: the middle of a part tells where it lies."""
LEVELS = 3
SAMPLE = Sample("s1", MemoryImage(IMAGE), "What is on the sail?")
PROFILE = ModelProfile(
    family="test", frame="per_mille", budget=Budget(factor=32, min_pixels=32 * 32, max_pixels=256 * 32 * 32)
)


class Searcher(ScriptedModel):
    """A model that sees the thing in every part around `target`, and can answer from parts that are small enough."""

    def __init__(
        self, target: tuple[float, float] = (0.8, 0.3), clear_at: float = 0.3, cues: str = "sail", sure: float = 0.99
    ) -> None:
        super().__init__({"reasoner": "<answer>a star</answer>"}, name="searcher", profile=PROFILE)
        self.target, self.clear_at, self.cues, self.sure = target, clear_at, cues, sure
        self.asked: list[tuple[str, Prompt]] = []

    async def complete(self, prompt: Prompt, decoding: Decoding) -> Completion:
        if prompt.role != "perceiver":
            return await super().complete(prompt, decoding)
        kind = self._kind(prompt)
        self.asked.append((kind, prompt))
        if kind == "cues":
            assert decoding.first_words == ()
            return Completion(text=self.cues, finish_reason="stop", model=self.name)
        assert (decoding.first_words, decoding.max_new_tokens) == (("Yes", "No"), 1)
        yes = self._yes(kind, prompt)
        return Completion(text="Yes", finish_reason="length", model=self.name, first_probs=(yes / 2, (1 - yes) / 2))

    def _kind(self, prompt: Prompt) -> str:
        kinds = {"Name at most": "cues", "Is enough": "answerable", "large and sharp": "clear", "may the": "likely"}
        return next((kind for words, kind in kinds.items() if words in prompt.text), "exists")

    def _yes(self, kind: str, prompt: Prompt) -> float:
        x, y, side = where(prompt)
        inside = max(abs(x - self.target[0]), abs(y - self.target[1])) <= side / 2 + 0.01
        if kind in ("answerable", "clear"):
            return self.sure if inside and side <= self.clear_at else 0.05
        return 0.8 if inside else 0.1


def where(prompt: Prompt) -> tuple[float, float, float]:
    """The middle of the part that a prompt shows, and its longer side, as shares of the image."""
    pixels = np.asarray(prompt.images[-1], dtype=np.float64)
    x, y = pixels[..., 0].mean() / 250, pixels[..., 1].mean() / 250
    width = (pixels[:, -1, 0].mean() - pixels[:, 0, 0].mean()) / 250
    return x, y, min(1.0, width / 1.2) if len(prompt.images) == 2 else 1.0


async def look(model: ScriptedModel, search: Search | None = None, image: Image.Image = IMAGE) -> Perception:
    return await ZoomPerceiver(model, PROMPTS, search or Search())(SAMPLE, FullImage(image))


async def test_the_search_ends_at_the_part_from_which_the_question_can_be_answered() -> None:
    model = Searcher()
    perception = await look(model)
    assert [box.xyxy for box in perception.boxes] == [(750, 250, 1000, 500)]
    assert perception.boxes[0].label == "sail"
    assert perception.source == "zoom:searcher"
    kinds = [kind for kind, _ in model.asked]
    assert [kinds[0], kinds[1], kinds[10], kinds[19]] == ["cues", "answerable", "answerable", "answerable"]
    for asked_at_once in (kinds[2:10], kinds[11:19]):
        assert sorted(asked_at_once) == ["exists"] * 4 + ["likely"] * 4


async def test_every_question_is_kept_and_counted() -> None:
    model = Searcher()
    perception = await look(model)
    assert perception.completion is not None
    assert len(perception.completion.calls) == len(model.asked) == 20
    assert all(call.usage.visual_tokens for call in perception.completion.calls[1:])
    assert perception.completion.earlier[0].text == "sail"
    assert perception.parse is None


async def test_a_part_is_shown_larger_beside_the_whole_image_with_a_mark() -> None:
    model = Searcher()
    await look(model)
    prompt = next(prompt for kind, prompt in model.asked if kind == "exists")
    assert prompt.text == f"{PROMPTS.zoom_view}\n{PROMPTS.zoom_exists('sail')}"
    overview, part = prompt.images
    assert overview.width * overview.height <= 256 * 32 * 32
    assert (255, 0, 0) in {
        tuple(pixel) for pixel in np.asarray(overview).reshape(-1, 3)[:: overview.width // 64].tolist()
    }
    assert part.size == (512, 512)
    assert model.asked[0][1].images == ()
    assert len(model.asked[1][1].images) == 1


async def test_a_whole_image_that_is_enough_gives_no_box() -> None:
    model = Searcher(target=(0.5, 0.5), clear_at=1.0)
    assert (await look(model)).boxes == ()
    assert [kind for kind, _ in model.asked] == ["cues", "answerable"]


async def test_several_things_have_a_search_each_and_are_looked_for_below_the_whole() -> None:
    model = Searcher(cues="red sail; blue hull", clear_at=1.0)
    perception = await look(model)
    assert [box.label for box in perception.boxes] == ["red sail"]  # both lie in the same part
    kinds = [kind for kind, _ in model.asked]
    assert kinds.count("cues") == 1
    assert "answerable" not in kinds
    assert kinds.count("clear") == 2
    assert "red sail" in model.asked[1][1].text
    assert "blue hull" in model.asked[-1][1].text


async def test_what_is_never_sure_enough_is_believed_later_when_patience_runs_out() -> None:
    model = Searcher(sure=0.96)  # a confidence of 0.92, below 0.95 and above the next threshold
    perception = await look(model)
    assert [box.xyxy for box in perception.boxes] == [(750, 250, 1000, 500)]
    assert sum(kind == "answerable" for kind, _ in model.asked) == 3 * LEVELS


async def test_what_is_nowhere_is_not_found_and_the_search_ends() -> None:
    model = Searcher(target=(9.0, 9.0))
    assert (await look(model)).boxes == ()
    opened = sum(kind == "answerable" for kind, _ in model.asked)
    assert opened == 3 * LEVELS + 2 * 6  # then enough is 0.9, 0.8, 0.6, 0.4, 0.2, 0.0, -0.2


async def test_a_level_limit_bounds_the_search() -> None:
    model = Searcher(target=(9.0, 9.0))
    await look(model, Search(max_levels=1))
    assert sum(kind == "answerable" for kind, _ in model.asked) == 5
    assert sum(kind == "exists" for kind, _ in model.asked) == 4


async def test_a_image_too_small_to_be_divided_costs_nothing() -> None:
    model = Searcher()
    perception = await look(model, image=IMAGE.resize((400, 400)))
    assert (perception.boxes, perception.completion, model.asked) == ((), None, [])


async def test_no_more_things_are_looked_for_than_allowed() -> None:
    model = Searcher(cues="a; b; c; d", target=(9.0, 9.0))
    await look(model, Search(max_cues=2, max_levels=1))
    assert not any("Is the c " in prompt.text for _, prompt in model.asked)
    assert any("Is the b " in prompt.text for _, prompt in model.asked)


async def test_a_model_that_names_nothing_is_shown_the_image_alone() -> None:
    model = Searcher(cues=" ;\n")
    perception = await look(model)
    assert perception.boxes == ()
    assert perception.completion is not None
    assert len(perception.completion.calls) == 1


async def test_a_walk_answers_from_what_was_found_and_reads_back() -> None:
    model = Searcher()
    trace = await walk(SAMPLE, *make_roles("zoom", model, PROMPTS))
    assert trace.failure is None
    assert trace.evidence is not None and trace.evidence.annotated
    assert trace.answer is not None and trace.answer.text == "a star"
    assert type(trace).model_validate_json(trace.model_dump_json()) == trace


async def test_a_model_that_says_neither_yes_nor_no_fails_and_is_not_wrong() -> None:
    trace = await walk(SAMPLE, *make_roles("zoom", ScriptedModel({"perceiver": "a boat"}), PROMPTS))
    assert trace.failure is not None
    assert (trace.failure.stage, trace.failure.kind) == ("perceive", "ModelError")
    assert "neither Yes nor No" in trace.failure.message


def test_confidence_weighs_yes_against_no_alone() -> None:
    def said(yes: float, no: float) -> Completion:
        return Completion(text="", finish_reason="length", model="m", first_probs=(yes, no))

    assert read_confidence(said(0.3, 0.1)) == pytest.approx(0.5)
    assert read_confidence(said(0.0, 1e-9)) == -1.0
    with pytest.raises(ModelError, match="neither Yes nor No"):
        read_confidence(said(0.0, 0.0))


@pytest.mark.parametrize(
    ("reply", "cues"),
    [
        ("red sail; blue hull.", ["red sail", "blue hull"]),
        ("<think>a; b</think>1. the 'red' sail\n- \"hull\"\n", ["the 'red' sail", "hull"]),
        ("sail; sail", ["sail"]),
        ("- 3 boats; 2.5 litres", ["3 boats", "2.5 litres"]),
        ("", []),
    ],
)
def test_cues_are_read_from_lists_of_any_kind(reply: str, cues: list[str]) -> None:
    assert read_cues(reply) == cues


def test_long_images_are_divided_along_their_length() -> None:
    assert [box.xyxy for box in split(WHOLE, (400, 100))] == [
        (0, 0, 250, 1000),
        (250, 0, 500, 1000),
        (500, 0, 750, 1000),
        (750, 0, 1000, 1000),
    ]
    assert [box.xyxy for box in split(WHOLE, (100, 200))][1] == (0, 250, 1000, 500)
    assert [box.xyxy for box in split(WHOLE, (150, 100))][1] == (500, 0, 1000, 500)


def test_the_parts_of_a_image_cover_it_once() -> None:
    for size in ((100, 100), (640, 200), (200, 640)):
        parts = split(WHOLE, size)
        assert sum(box.area for box in parts) == pytest.approx(1.0)


@pytest.mark.parametrize(("size", "levels"), [((400, 447), 0), ((448, 300), 1), ((2048, 2048), 3), ((99999, 99999), 5)])
def test_levels_follow_from_the_size(size: tuple[int, int], levels: int) -> None:
    assert count_levels(size, smallest_px=448, most=5) == levels


def test_every_question_of_the_search_can_be_answered_by_yes_or_no() -> None:
    for key in ("zoom_answerable", "zoom_clear", "zoom_exists", "zoom_likely"):
        assert re.search(r"Answer Yes or No\.$", PROMPTS.texts[key])


async def test_a_small_part_is_shown_with_more_of_its_surroundings() -> None:
    model = Searcher(target=(9.0, 9.0))
    corner = IMAGE.crop((0, 0, 512, 512))
    await look(model, image=corner)
    sizes = {prompt.images[-1].size for kind, prompt in model.asked if kind == "exists"}
    assert sizes == {(352, 352)}  # parts of 256 pixels, 96 more on the two sides that have room for it


@pytest.mark.parametrize(
    ("name", "enough", "steps", "least"),
    [
        ("Qwen/Qwen2.5-VL-7B-Instruct", 0.95, (0.05, 0.1, 0.2), 0.0),
        ("hongxingli/P2R-4B", 0.95, (0.05, 0.1, 0.2), 0.0),
        ("OpenGVLab/InternVL2_5-8B", 0.2, (0.1, 0.1, 0.2), -0.2),
        ("lmms-lab/LLaVA-OneVision-7B", 0.6, (0.1, 0.1, 0.2), 0.0),
    ],
)
def test_the_settings_are_those_that_zoomeye_publishes_for_the_model(
    name: str, enough: float, steps: tuple[float, ...], least: float
) -> None:
    search = find_search(name)
    assert (search.enough, search.steps, search.least) == (enough, steps, least)
