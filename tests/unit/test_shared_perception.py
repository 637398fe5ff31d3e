"""Samples that ask the same of the same image are looked at once; rotations only when that is asked for."""

from __future__ import annotations

import asyncio

import pytest
from PIL import Image

from p2r.dialogue import Decoding, Prompt
from p2r.errors import ModelError
from p2r.images.load import MemoryImage
from p2r.models.scripted import ScriptedModel
from p2r.pipeline import walk
from p2r.prompts import load_prompt_set
from p2r.roles import EvidenceReasoner, ModelPerceiver, OraclePerceiver
from p2r.roles.dialects.boxes import make_visual_rft
from p2r.types import Completion, Sample, Trace
from p2r.walks import MOST_KEPT, SharedPerceiver, share_perception_of

PROMPTS = load_prompt_set()
NAVY, RED = (MemoryImage(Image.new("RGB", (96, 64), color), name="memory") for color in ("navy", "red"))
BOXES = '[{"bbox_2d": [100, 100, 400, 400], "label": "it"}]'


class Looker(ScriptedModel):
    """Takes a moment for each look, counts them, and fails the first ones if told to."""

    def __init__(self, *, num_failures: int = 0) -> None:
        super().__init__({"perceiver": BOXES, "reasoner": "<answer>A</answer>"})
        self.num_looks, self.num_failures = 0, num_failures

    async def complete(self, prompt: Prompt, decoding: Decoding) -> Completion:
        if prompt.role == "perceiver":
            self.num_looks += 1
            failed = self.num_looks <= self.num_failures
            await asyncio.sleep(0)
            if failed:
                raise ModelError("not today")
        return await super().complete(prompt, decoding)


def make_sample(id: str, *, question: str = "What is it?", image: MemoryImage = NAVY, cycle: int = 0) -> Sample:
    options = ("star", "fish", "sun", "moon")
    return Sample(
        id=id,
        image=image,
        question=question,
        options=options[cycle:] + options[:cycle],
        answer_form="choice",
        cluster="question",
        cycle=cycle,
    )


ROTATIONS = [make_sample(str(cycle), cycle=cycle) for cycle in range(4)]
SAME = [make_sample(str(k)) for k in range(4)]


async def look(looker: Looker, samples: list[Sample], *, across_rotations: bool = False) -> list[Trace]:
    perceiver = SharedPerceiver(ModelPerceiver(looker, PROMPTS), samples, across_rotations=across_rotations)
    reasoner = EvidenceReasoner(looker, PROMPTS)
    return list(await asyncio.gather(*(walk(sample, perceiver, reasoner) for sample in samples)))


def reuses(traces: list[Trace]) -> list[str]:
    return sorted(t.perception.completion.reused for t in traces if t.perception and t.perception.completion)


async def test_looks_under_way_are_waited_for_and_the_trace_says_so() -> None:
    looker = Looker()
    traces = await look(looker, SAME)
    assert looker.num_looks == 1
    assert reuses(traces) == ["", "shared", "shared", "shared"]
    assert len({trace.boxes for trace in traces}) == 1 and all(trace.reasoning for trace in traces)


async def test_finished_looks_are_shared_too() -> None:
    looker = Looker()
    perceiver, reasoner = SharedPerceiver(ModelPerceiver(looker, PROMPTS), SAME), EvidenceReasoner(looker, PROMPTS)
    traces = [await walk(sample, perceiver, reasoner) for sample in SAME]
    assert (looker.num_looks, reuses(traces)) == (1, ["", "shared", "shared", "shared"])


async def test_rotations_are_each_looked_at_unless_asked() -> None:
    apart, together = Looker(), Looker()
    await look(apart, ROTATIONS)
    traces = await look(together, ROTATIONS, across_rotations=True)
    assert (apart.num_looks, together.num_looks) == (4, 1)
    assert reuses(traces) == ["", "shared", "shared", "shared"]


async def test_other_questions_and_other_images_of_the_same_name_are_looked_at() -> None:
    looker = Looker()
    samples = [make_sample("0"), make_sample("1", question="Who is it?"), make_sample("2", image=RED)]
    await look(looker, samples)
    assert looker.num_looks == 3


async def test_a_question_that_comes_once_costs_no_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    def compare(image: Image.Image) -> str:
        raise AssertionError("an image was compared")

    monkeypatch.setattr("p2r.walks.hash_pixels", compare)
    traces = await look(Looker(), ROTATIONS)
    assert reuses(traces) == [""] * 4
    with pytest.raises(AssertionError, match="was compared"):
        await look(Looker(), SAME)


async def test_a_failed_look_is_not_shared() -> None:
    looker = Looker(num_failures=2)
    traces = await look(looker, SAME)
    assert sum(trace.failure is not None for trace in traces) == 2
    assert (looker.num_looks, reuses(traces)) == (3, ["", "shared"])


async def test_a_cancelled_look_leaves_the_others_going() -> None:
    looker = Looker()
    perceiver, reasoner = SharedPerceiver(ModelPerceiver(looker, PROMPTS), SAME), EvidenceReasoner(looker, PROMPTS)
    first = asyncio.ensure_future(walk(SAME[0], perceiver, reasoner))
    while looker.num_looks == 0:
        await asyncio.sleep(0)
    second = asyncio.ensure_future(walk(SAME[1], perceiver, reasoner))
    first.cancel()
    assert (await second).failure is None
    assert first.cancelled()


async def test_what_is_kept_is_bounded() -> None:
    looker = Looker()
    samples = [make_sample(str(k), question=f"What is {k}?") for k in range(MOST_KEPT + 1)]
    samples = [*samples, *samples]
    perceiver, reasoner = SharedPerceiver(ModelPerceiver(looker, PROMPTS), samples), EvidenceReasoner(looker, PROMPTS)
    for sample in [*samples[: MOST_KEPT + 1], samples[-1], samples[0]]:
        await walk(sample, perceiver, reasoner)
    assert looker.num_looks == MOST_KEPT + 2


def test_only_a_models_repeatable_looks_are_shared() -> None:
    model = Looker()
    looker = ModelPerceiver(model, PROMPTS)
    drawn = ModelPerceiver(model, PROMPTS, decoding=Decoding(max_new_tokens=8, temperature=1.0))
    assert isinstance(share_perception_of(looker, "same-prompt", SAME), SharedPerceiver)
    oracle = OraclePerceiver()
    assert share_perception_of(oracle, "same-prompt", SAME) is oracle
    assert share_perception_of(drawn, "same-prompt", SAME) is drawn
    assert share_perception_of(looker, "never", SAME) is looker


@pytest.mark.parametrize(("across", "same"), [(False, True), (True, False)])
def test_only_sharing_across_rotations_makes_another_run(across: bool, same: bool) -> None:
    looker = ModelPerceiver(Looker(), PROMPTS)
    assert (SharedPerceiver(looker, SAME, across_rotations=across).fingerprint == looker.fingerprint) == same


async def test_images_are_compared_as_a_dialect_shows_them() -> None:
    plain, dotted = Image.new("RGB", (1024, 1024)), Image.new("RGB", (1024, 1024))
    dotted.putpixel((500, 500), (1, 1, 1))  # gone where the image is sized down
    samples = [make_sample(str(k), image=MemoryImage(image, name="memory")) for k, image in enumerate((plain, dotted))]
    looker = Looker()
    small = looker.profile.budget.model_copy(update={"max_pixels": 64 * 64})
    looker.profile = looker.profile.model_copy(update={"budget": small})
    shared = SharedPerceiver(ModelPerceiver(looker, PROMPTS), samples)
    for sample in samples:
        await walk(sample, shared, None)
    assert looker.num_looks == 1
    shared = SharedPerceiver(ModelPerceiver(looker, PROMPTS, dialect=make_visual_rft()), samples)
    for sample in samples:
        await walk(sample, shared, None)
    assert looker.num_looks == 3
