"""Perceivers and reasoners: what they ask, what they size, and what their fingerprint is made of."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from p2r.boxes import RELEASE
from p2r.dialogue import Budget, Decoding, ModelProfile, Prompt
from p2r.errors import ConfigError, DataError, ImageError
from p2r.evidence import Evidence, gather
from p2r.images.budget import FullImage
from p2r.images.load import MemoryImage
from p2r.models.scripted import ScriptedModel
from p2r.prompts import load_prompt_set
from p2r.roles import (
    DEFAULT_DECODING,
    RELEASE_DECODING,
    EvidenceReasoner,
    FixedPerceiver,
    GivenPerceiver,
    ModelPerceiver,
    NoPerceiver,
    OraclePerceiver,
    PlainReasoner,
    RandomPerceiver,
    Search,
    ToolReasoner,
    ZoomPerceiver,
)
from p2r.types import Box, Completion, Frame, Perception, Sample, Usage

PROMPTS = load_prompt_set("release")
IMAGE = FullImage(Image.fromarray(np.random.default_rng(0).integers(0, 256, (150, 200, 3), dtype=np.uint8)))
GOLD = (Box(x1=100, y1=100, x2=150, y2=200, label="sail"), Box(x1=900, y1=950, x2=1000, y2=1000))
SAMPLE = Sample("s1", MemoryImage(IMAGE.image), "What is on the sail?", gold_boxes=GOLD)
REPLY = '[{"bbox_2d": [100, 200, 300, 400], "label": "sail"}]'
SMALL = Budget(factor=32, min_pixels=32 * 32, max_pixels=4 * 32 * 32)


class Listener(ScriptedModel):
    """A scripted model that keeps what it is asked, and reports no usage."""

    def __init__(self, reply: str = REPLY, frame: Frame = "per_mille", finish: str = "stop") -> None:
        profile = ModelProfile(family="test", frame=frame, budget=Budget())
        super().__init__({"perceiver": reply, "reasoner": reply}, name="listener", profile=profile)
        self.finish = finish
        self.asked: list[tuple[Prompt, Decoding]] = []

    async def complete(self, prompt: Prompt, decoding: Decoding) -> Completion:
        self.asked.append((prompt, decoding))
        reply = await super().complete(prompt, decoding)
        return reply.model_copy(update={"usage": Usage(generated_tokens=7), "finish_reason": self.finish})


def evidence_with_a_box() -> Evidence:
    return gather(IMAGE, GOLD[:1])


async def test_model_perceiver_sends_the_sized_image_and_reads_boxes() -> None:
    model = Listener()
    perception = await ModelPerceiver(model, PROMPTS)(SAMPLE, IMAGE)
    prompt, decoding = model.asked[0]
    assert (prompt.role, prompt.system, prompt.fingerprint) == ("perceiver", PROMPTS.system, PROMPTS.fingerprint)
    assert prompt.text == PROMPTS.perceiver(SAMPLE)
    assert [image.size for image in prompt.images] == [(192, 160)]
    assert decoding == Decoding(max_new_tokens=256)
    assert perception.boxes == (Box(x1=100, y1=200, x2=300, y2=400, label="sail"),)
    assert perception.source == "model:listener"
    assert perception.parse is not None
    assert perception.parse.step == "strict"


async def test_absolute_boxes_are_pixels_of_the_sized_image() -> None:
    model = Listener('[{"bbox_2d": [0, 0, 96, 80], "label": "sail"}]', frame="pixels")
    perception = await ModelPerceiver(model, PROMPTS)(SAMPLE, IMAGE)
    assert perception.boxes[0].xyxy == (0, 0, 500, 500)


async def test_boxes_in_pixels_of_the_file_are_asked_for_with_its_size() -> None:
    model = Listener('[{"bbox_2d": [0, 0, 100, 75], "label": "sail"}]', frame="file_pixels")
    perception = await ModelPerceiver(model, PROMPTS)(SAMPLE, IMAGE)
    assert perception.boxes[0].xyxy == (0, 0, 500, 500)
    assert model.asked[0][0].text == f"{PROMPTS.perceiver(SAMPLE)}\nSize of the image in pixels: 200x150"


async def test_reply_cut_off_at_the_limit_still_gives_its_whole_boxes() -> None:
    cut_off = REPLY[:-1] + ', {"bbox_2d": [500, 6'
    perception = await ModelPerceiver(Listener(cut_off, finish="length"), PROMPTS)(SAMPLE, IMAGE)
    assert [box.xyxy for box in perception.boxes] == [(100, 200, 300, 400)]
    assert perception.completion is not None
    assert perception.completion.finish_reason == "length"


async def test_release_rules_keep_a_box_out_of_frame() -> None:
    model = Listener('[{"bbox_2d": [-10, -20, 30, 40], "label": "sail"}]')
    assert (await ModelPerceiver(model, PROMPTS, rules=RELEASE)(SAMPLE, IMAGE)).boxes[0].x1 == -10
    assert (await ModelPerceiver(model, PROMPTS)(SAMPLE, IMAGE)).boxes[0].x1 == 0


async def test_budget_override_is_used_instead_of_the_profile() -> None:
    model = Listener()
    await ModelPerceiver(model, PROMPTS, budget=SMALL)(SAMPLE, IMAGE)
    await EvidenceReasoner(model, PROMPTS, budget=SMALL)(SAMPLE, evidence_with_a_box())
    await PlainReasoner(model, PROMPTS, budget=SMALL)(SAMPLE, evidence_with_a_box())
    sizes = [[image.size for image in prompt.images] for prompt, _ in model.asked]
    assert sizes == [[(64, 32)], [(64, 32), (64, 32)], [(64, 32)]]


async def test_visual_tokens_of_each_image_are_noted() -> None:
    completion = await EvidenceReasoner(Listener(), PROMPTS, budget=SMALL)(SAMPLE, evidence_with_a_box())
    assert completion.usage == Usage(visual_tokens=(2, 2), generated_tokens=7)


async def test_reasoner_sees_annotated_image_then_crops() -> None:
    model, evidence = Listener(), evidence_with_a_box()
    await EvidenceReasoner(model, PROMPTS)(SAMPLE, evidence)
    prompt, decoding = model.asked[0]
    assert prompt.role == "reasoner"
    assert prompt.text == PROMPTS.reasoner(SAMPLE)
    assert decoding == Decoding(max_new_tokens=1024)
    assert [image.tobytes() for image in prompt.images] == [image.tobytes() for image in evidence.sized(Budget())]
    assert len(prompt.images) == 2


async def test_reasoner_without_a_usable_box_gets_the_image_and_the_other_wording() -> None:
    model = Listener()
    outside = Box(x1=1200, y1=100, x2=1300, y2=200)
    for boxes in ((), (outside,)):
        await EvidenceReasoner(model, PROMPTS)(SAMPLE, gather(IMAGE, boxes))
        prompt, _ = model.asked[-1]
        assert prompt.text == PROMPTS.reasoner_without_evidence(SAMPLE)
        assert [image.tobytes() for image in prompt.images] == [IMAGE.fitted(Budget()).tobytes()]


async def test_plain_reasoner_ignores_evidence() -> None:
    model = Listener()
    await PlainReasoner(model, PROMPTS)(SAMPLE, evidence_with_a_box())
    await PlainReasoner(model, PROMPTS, style="thinking")(SAMPLE, evidence_with_a_box())
    assert [prompt.text for prompt, _ in model.asked] == [PROMPTS.direct(SAMPLE), PROMPTS.thinking(SAMPLE)]
    for prompt, _ in model.asked:
        assert [image.tobytes() for image in prompt.images] == [IMAGE.fitted(Budget()).tobytes()]


async def test_perceiver_and_plain_reasoner_share_one_resize() -> None:
    model, full_image = Listener(), FullImage(IMAGE.image)
    await ModelPerceiver(model, PROMPTS)(SAMPLE, full_image)
    await PlainReasoner(model, PROMPTS)(SAMPLE, gather(full_image, ()))
    assert model.asked[0][0].images[0] is model.asked[1][0].images[0]


async def test_oracle_looks_at_the_gold_boxes() -> None:
    perception = await OraclePerceiver()(SAMPLE, IMAGE)
    assert (perception.source, perception.boxes) == ("oracle", GOLD)


async def test_oracle_without_gold_boxes_says_what_to_do() -> None:
    with pytest.raises(DataError, match="'s2' has no gold boxes") as caught:
        await OraclePerceiver()(Sample("s2", MemoryImage(IMAGE.image), "?"), IMAGE)
    assert caught.value.hint


async def test_no_perceiver_and_fixed_perceiver() -> None:
    assert (await NoPerceiver()(SAMPLE, IMAGE)).boxes == ()
    assert (await FixedPerceiver(GOLD[:1])(SAMPLE, IMAGE)).boxes == GOLD[:1]


async def test_what_was_perceived_before_is_handed_over_with_its_reply() -> None:
    before = await ModelPerceiver(Listener(), PROMPTS)(SAMPLE, IMAGE)
    assert await GivenPerceiver(before)(SAMPLE, IMAGE) is before


def test_what_was_given_is_told_apart_by_what_it_says_and_not_by_how_long_it_took() -> None:
    def given(text: str = "[]", seconds: float = 1.0, earlier_seconds: float = 1.0, earlier: str = "Yes") -> str:
        call = Completion(text=earlier, finish_reason="stop", model="m", seconds=earlier_seconds)
        reply = Completion(text=text, finish_reason="stop", model="m", seconds=seconds, earlier=(call,))
        return GivenPerceiver(Perception(source="zoom:m", boxes=GOLD, completion=reply)).fingerprint

    assert given() == given(seconds=2.0) == given(earlier_seconds=2.0)
    assert len({given(), given(text="[ ]"), given(earlier="No")}) == 3


async def test_random_boxes_have_the_gold_sizes_at_other_places() -> None:
    boxes = (await RandomPerceiver(seed=3)(SAMPLE, IMAGE)).boxes
    sizes = [(box.x2 - box.x1, box.y2 - box.y1) for box in boxes]
    assert sizes == [pytest.approx((50, 100)), pytest.approx((100, 50))]
    assert all(box.x1 >= 0 and box.y1 >= 0 and box.x2 <= 1000 and box.y2 <= 1000 for box in boxes)
    assert boxes != GOLD


async def test_random_boxes_follow_from_seed_and_sample_alone() -> None:
    first = await RandomPerceiver(seed=3)(SAMPLE, IMAGE)
    assert first == await RandomPerceiver(seed=3)(SAMPLE, IMAGE)
    assert first.boxes != (await RandomPerceiver(seed=4)(SAMPLE, IMAGE)).boxes
    other = Sample("s2", SAMPLE.image, SAMPLE.question, gold_boxes=GOLD)
    assert first.boxes != (await RandomPerceiver(seed=3)(other, IMAGE)).boxes


async def test_random_boxes_are_uniform_over_the_places_they_fit() -> None:
    perceiver = RandomPerceiver(num_boxes=4000, sizes=((200.0, 500.0),))
    boxes = (await perceiver(SAMPLE, IMAGE)).boxes
    assert np.mean([box.x1 for box in boxes]) == pytest.approx(400, abs=15)
    assert np.mean([box.y1 for box in boxes]) == pytest.approx(250, abs=10)
    assert max(box.x1 for box in boxes) > 790


async def test_random_boxes_of_asked_count_draw_from_asked_sizes() -> None:
    boxes = (await RandomPerceiver(num_boxes=50, sizes=((10.0, 20.0), (1000.0, 30.0)))(SAMPLE, IMAGE)).boxes
    assert len(boxes) == 50
    assert {round(box.x2 - box.x1) for box in boxes} == {10, 1000}


async def test_random_boxes_without_sizes_need_gold_boxes() -> None:
    with pytest.raises(DataError, match="random boxes without sizes"):
        await RandomPerceiver()(Sample("s2", SAMPLE.image, "?"), IMAGE)


def test_impossible_random_boxes_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"\(0, 10\) is not a size"):
        RandomPerceiver(sizes=((0, 10),))
    with pytest.raises(ConfigError, match="an empty list is not a size"):
        RandomPerceiver(sizes=())
    with pytest.raises(ConfigError, match="-1 boxes"):
        RandomPerceiver(num_boxes=-1)


async def test_thin_image_is_refused_with_a_hint() -> None:
    with pytest.raises(ImageError, match="more than 200 times") as caught:
        await ModelPerceiver(Listener(), PROMPTS)(SAMPLE, FullImage(Image.new("RGB", (2001, 10))))
    assert caught.value.hint


def test_fingerprint_changes_with_all_that_can_change_a_result() -> None:
    model, paper = Listener(), load_prompt_set("paper")
    perceivers = [
        ModelPerceiver(model, PROMPTS),
        ModelPerceiver(model, paper),
        ModelPerceiver(model, PROMPTS, RELEASE_DECODING.perceiver),
        ModelPerceiver(model, PROMPTS, budget=SMALL),
        ModelPerceiver(model, PROMPTS, rules=RELEASE),
        ModelPerceiver(ScriptedModel({}), PROMPTS),
        OraclePerceiver(),
        NoPerceiver(),
        RandomPerceiver(),
        RandomPerceiver(seed=1),
        FixedPerceiver(GOLD),
        GivenPerceiver(Perception(source="fixed", boxes=GOLD)),
        ZoomPerceiver(model, PROMPTS),
        ZoomPerceiver(model, PROMPTS, Search(enough=0.5)),
    ]
    reasoners = [
        EvidenceReasoner(model, PROMPTS),
        PlainReasoner(model, PROMPTS),
        PlainReasoner(model, PROMPTS, "thinking"),
        ToolReasoner(model, PROMPTS),
    ]
    assert len({role.fingerprint for role in (*perceivers, *reasoners)}) == len(perceivers) + len(reasoners)
    assert ModelPerceiver(Listener(), PROMPTS).fingerprint == perceivers[0].fingerprint


def test_default_decoding_is_greedy_and_the_release_penalizes_repetition() -> None:
    assert DEFAULT_DECODING.perceiver == Decoding(max_new_tokens=256, temperature=0, repetition_penalty=1.0)
    assert DEFAULT_DECODING.reasoner.max_new_tokens == 1024
    assert RELEASE_DECODING.reasoner == Decoding(max_new_tokens=1024, repetition_penalty=1.05)
