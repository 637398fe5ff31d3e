"""Every mode sends the images and the wording that its name says."""

from __future__ import annotations

from typing import cast

import pytest
from PIL import Image

from p2r.dialogue import Decoding, Prompt
from p2r.errors import ConfigError
from p2r.images.load import MemoryImage
from p2r.judges import judge_for
from p2r.models.profiles import UNKNOWN
from p2r.models.scripted import ScriptedModel
from p2r.modes import CAPTIONS, LOOKING, MODES, READING_BOXES, Mode, make_roles, prepare_samples
from p2r.pipeline import walk
from p2r.prompts import load_prompt_set
from p2r.roles import DEFAULT_DECODING, hash_roles, limit_replies
from p2r.types import Box, Completion, Sample, Trace

PROMPTS = load_prompt_set()
GOLD = Box(x1=100, y1=100, x2=200, y2=200)
SAMPLE = Sample(
    id="one",
    image=MemoryImage(Image.new("RGB", (640, 480), "navy")),
    question="What is on the sail?",
    options=("a star", "a fish", "a sun"),
    answer_form="choice",
    target="A",
    gold_boxes=(GOLD,),
    crop=MemoryImage(Image.new("RGB", (64, 96), "red")),
)


class Recorder:
    """A scripted model that keeps every prompt."""

    def __init__(self, name: str = "scripted") -> None:
        self.prompts: list[Prompt] = []
        self.model = ScriptedModel({"perceiver": self._look, "reasoner": self._answer}, name=name)

    def _look(self, prompt: Prompt) -> str:
        self.prompts.append(prompt)
        if "Answer Yes or No" in prompt.text:
            return "Yes"
        return '[{"bbox_2d": [500, 500, 600, 600], "label": "sail"}, {"bbox_2d": [10, 10, 60, 60], "label": "mast"}]'

    def _answer(self, prompt: Prompt) -> str:
        self.prompts.append(prompt)
        return "<answer>A</answer>"


async def run(mode: Mode, recorder: Recorder, looker: Recorder | None = None, sample: Sample = SAMPLE) -> Trace:
    perceiver, reasoner = make_roles(
        mode, recorder.model, PROMPTS, perceiver_model=looker.model if looker else None, seed=1
    )
    trace = await walk(sample, perceiver, reasoner, judge_for(sample))
    assert trace.failure is None
    return trace


@pytest.mark.parametrize(
    ("mode", "num_images", "num_prompts"),
    [
        ("direct", 1, 1),
        ("thinking", 1, 1),
        ("p2r", 3, 2),
        ("tools", 1, 1),
        ("zoom", 1, 3),
        ("oracle", 2, 1),
        ("random", 2, 1),
        ("none", 1, 1),
        ("blind", 0, 1),
        ("annotate-only", 1, 2),
        ("crop-only", 2, 2),
        ("shuffled", 3, 2),
        ("paired-crop", 1, 1),
    ],
)
async def test_the_reasoner_sees_as_many_images_as_the_mode_says(mode: Mode, num_images: int, num_prompts: int) -> None:
    recorder = Recorder()
    await run(mode, recorder)
    assert (len(recorder.prompts[-1].images), len(recorder.prompts)) == (num_images, num_prompts)


def test_every_mode_has_a_caption_and_is_told_apart() -> None:
    assert set(CAPTIONS) == set(MODES)
    model = Recorder().model
    hashes = {mode: hash_roles(*make_roles(mode, model, PROMPTS)) for mode in MODES}
    assert hashes["shuffled"] == hashes["p2r"] and hashes["paired-crop"] == hashes["direct"]  # other questions
    del hashes["shuffled"], hashes["paired-crop"]
    assert len(set(hashes.values())) == len(hashes)


async def test_crops_alone_are_the_crops_of_p2r() -> None:
    whole, crops, annotated = Recorder(), Recorder(), Recorder()
    await run("p2r", whole)
    await run("crop-only", crops)
    await run("annotate-only", annotated)
    full = [image.tobytes() for image in whole.prompts[-1].images]
    assert [image.tobytes() for image in crops.prompts[-1].images] == full[1:]
    assert [image.tobytes() for image in annotated.prompts[-1].images] == full[:1]
    assert crops.prompts[-1].text == annotated.prompts[-1].text == whole.prompts[-1].text


async def test_the_paired_crop_is_asked_about_as_the_image_is() -> None:
    (sample,) = prepare_samples("paired-crop", [SAMPLE])
    whole, crop = Recorder(), Recorder()
    await run("direct", whole)
    trace = await run("paired-crop", crop, sample=sample)
    assert whole.prompts[0].images[0].getpixel((5, 5)) == (0, 0, 128)
    assert crop.prompts[0].images[0].getpixel((5, 5)) == (255, 0, 0)
    assert crop.prompts[0].text == whole.prompts[0].text and not trace.boxes
    with pytest.raises(ConfigError, match=r"needs the data's own crops, which sample 'two' lacks") as caught:
        prepare_samples("paired-crop", [SAMPLE, Sample(id="two", image=SAMPLE.image, question="?")])
    assert "ZoomBench" in caught.value.hint


async def test_another_model_may_look() -> None:
    looker, reasoner = Recorder("looker"), Recorder("reasoner")
    trace = await run("p2r", reasoner, looker)
    assert [prompt.role for prompt in looker.prompts] == ["perceiver"]
    assert [prompt.role for prompt in reasoner.prompts] == ["reasoner"]
    assert trace.perception is not None and trace.perception.source == "model:looker"


async def test_the_oracle_looks_at_the_gold_boxes() -> None:
    assert (await run("oracle", Recorder())).boxes == (GOLD,)
    assert "oracle" in LOOKING and "blind" not in LOOKING


def test_shuffling_moves_the_right_letter_with_its_option_and_is_the_same_for_a_seed() -> None:
    samples = prepare_samples("shuffled", [SAMPLE], seed=5)
    assert samples == prepare_samples("shuffled", [SAMPLE], seed=5)
    orders = {prepare_samples("shuffled", [SAMPLE], seed=seed)[0].options for seed in range(20)}
    assert len(orders) > 3
    for seed in range(20):
        (shuffled,) = prepare_samples("shuffled", [SAMPLE], seed=seed)
        assert shuffled.options["ABC".index(shuffled.target or "")] == "a star"


@pytest.mark.parametrize("mode", ["oracle", "random"])
def test_a_mode_that_needs_gold_boxes_says_so_before_anything_is_asked(mode: Mode) -> None:
    bare = Sample(id="two", image=SAMPLE.image, question="?")
    with pytest.raises(ConfigError, match=r"needs gold boxes, which 1 of 2 samples lack \(two\)"):
        prepare_samples(mode, [SAMPLE, bare])


def test_open_questions_cannot_be_shuffled() -> None:
    with pytest.raises(ConfigError, match="needs questions with options"):
        prepare_samples("shuffled", [Sample(id="two", image=SAMPLE.image, question="?")])


@pytest.mark.parametrize("wrong", ["foo", None, ["direct", "p2r"]])
def test_there_are_no_roles_for_an_unknown_mode(wrong: object) -> None:
    with pytest.raises(ConfigError, match="there is no mode") as caught:
        make_roles(cast(Mode, wrong), Recorder().model, PROMPTS)
    assert "direct" in caught.value.hint


@pytest.mark.parametrize("mode", MODES)
async def test_each_role_has_its_own_limit_of_new_tokens(mode: Mode) -> None:
    model = Recorder()
    limits: list[tuple[str, int]] = []

    class Noting:
        name, profile = model.model.name, model.model.profile

        async def complete(self, prompt: Prompt, decoding: Decoding) -> Completion:
            limits.append((prompt.role, decoding.max_new_tokens))
            return await model.model.complete(prompt, decoding)

    roles = make_roles(mode, Noting(), PROMPTS, decoding=limit_replies(77, 99))
    await walk(SAMPLE, *roles)
    assert {limit for role, limit in limits if role == "reasoner"} == {99}
    expected = {"zoom": {64, 1}}.get(mode, {77})  # a search asks its own questions
    assert {limit for role, limit in limits if role == "perceiver"} <= expected
    assert hash_roles(*roles) != hash_roles(*make_roles(mode, Noting(), PROMPTS))


def test_limits_that_are_not_given_are_the_usual_ones() -> None:
    assert limit_replies() == DEFAULT_DECODING
    assert limit_replies(reasoner=9).perceiver == DEFAULT_DECODING.perceiver
    assert limit_replies(perceiver=9).reasoner == DEFAULT_DECODING.reasoner
    for bad in (0, -1, 1.5, "9", True):
        with pytest.raises(ConfigError, match=r"`reasoner_new_tokens` is .*, not a number of tokens"):
            limit_replies(reasoner=bad)


class Stranger:
    """A model of which nothing is known."""

    name, profile = "stranger", UNKNOWN

    async def complete(self, prompt: Prompt, decoding: Decoding) -> Completion:
        raise AssertionError("it is not asked")


@pytest.mark.parametrize("mode", MODES)
def test_modes_that_read_boxes_ask_for_the_frame_of_an_unknown_model(mode: Mode) -> None:
    known, stranger = Recorder().model, Stranger()
    stated = UNKNOWN.model_copy(update={"frame_is_stated": True})
    if mode in READING_BOXES:
        with pytest.raises(ConfigError, match="it is not known in which frame stranger writes boxes") as error:
            make_roles(mode, stranger, PROMPTS)
        assert "`frame`" in error.value.hint
        pair = (stranger, known) if mode == "tools" else (known, stranger)  # the chat's own boxes are read
        with pytest.raises(ConfigError, match="in which frame stranger") as error:
            make_roles(mode, pair[0], PROMPTS, perceiver_model=pair[1])
        # `family` and `frame` are those of the model that perceives, and `profile` is that of the other one.
        own = (
            "what it is with `profile`" if mode == "tools" else "its `frame`, or its `family`, or what it is with `per"
        )
        assert error.value.hint.startswith(f"state {own}")
        make_roles(mode, pair[1], PROMPTS, perceiver_model=pair[0])
        stranger.profile = stated
    make_roles(mode, stranger, PROMPTS)
    reads = {"p2r", "tools", "annotate-only", "crop-only", "shuffled"}
    assert (mode in READING_BOXES) == (mode in reads)
