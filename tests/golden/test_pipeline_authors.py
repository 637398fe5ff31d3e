"""Our roles ask both stages what the release's evaluation asks: the same text, images, order and budgets."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest

from p2r.benchmarks import load_benchmark
from p2r.boxes import RELEASE
from p2r.dialogue import Budget, Decoding, Prompt
from p2r.evidence import gather
from p2r.images.budget import FullImage, fit
from p2r.images.load import MemoryImage
from p2r.models.scripted import ScriptedModel
from p2r.prompts import load_prompt_set
from p2r.roles import EvidenceReasoner, ModelPerceiver, PlainReasoner
from p2r.types import Completion, Sample
from tests.golden.rows import hash_pixels, make_background, read_rows

PROMPTS = load_prompt_set("release")


class Listener(ScriptedModel):
    """A scripted model that keeps what it is asked."""

    def __init__(self, perceiver_reply: str) -> None:
        super().__init__({"perceiver": perceiver_reply, "reasoner": "<answer>A</answer>"})
        self.asked: list[Prompt] = []

    async def complete(self, prompt: Prompt, decoding: Decoding) -> Completion:
        self.asked.append(prompt)
        return await super().complete(prompt, decoding)


def load_sample(row: dict[str, Any], folder: Path) -> Sample:
    """The row as the product reads it, from a file in its benchmark's layout."""
    buffer = io.BytesIO()
    make_background(*row["image_size"]).save(buffer, "PNG")
    defaults = {"category": "relative_position", "label": "A"} if row["benchmark"] == "vstar" else {"index": 0}
    record = defaults | row["record"] | {"image": base64.b64encode(buffer.getvalue()).decode()}
    path = folder / "rows.json"
    path.write_text(json.dumps([record]), encoding="utf-8")
    (sample,) = load_benchmark(f"{row['benchmark']}:{path}")
    return sample


def check(prompt: Prompt, expected: dict[str, Any], originals: tuple[Any, ...]) -> None:
    assert prompt.system == expected["system"]
    assert prompt.text == expected["prompt_text"]
    assert ["image"] * len(prompt.images) + ["text"] == expected["content_order"]
    assert [list(image.size) for image in originals] == expected["image_sizes"]
    for original, hashed in zip(originals, expected["image_sha256"], strict=True):
        assert hashed is None or hash_pixels(original) == hashed
    for sent, original, (min_pixels, max_pixels) in zip(
        prompt.images, originals, expected["image_budgets"], strict=True
    ):
        assert sent.tobytes() == fit(original, Budget(min_pixels=min_pixels, max_pixels=max_pixels)).tobytes()


@pytest.mark.parametrize("row", read_rows("pipeline_authors"), ids=lambda row: row["id"])
async def test_both_stages_ask_what_the_release_asks(row: dict[str, Any], tmp_path: Path) -> None:
    sample, expected = load_sample(row, tmp_path), row["expected"]
    model = Listener(row["perceive_output"] or "")
    full_image = FullImage(sample.image.load())
    evidence = gather(full_image, ())
    if expected["perceive"]:
        perception = await ModelPerceiver(model, PROMPTS, rules=RELEASE)(sample, full_image)
        check(model.asked[-1], expected["perceive"], (full_image.image,))
        evidence = gather(full_image, perception.boxes)
        assert len(perception.boxes) == (expected["result"]["bbox_count"] or 0)
        await EvidenceReasoner(model, PROMPTS)(sample, evidence)
    else:
        style = "direct" if row["mode"] == "default" else "thinking"
        await PlainReasoner(model, PROMPTS, style=style)(sample, evidence)
    check(model.asked[-1], expected["reason"], evidence.images)


def test_hr_bench_options_are_appended_as_lettered_lines() -> None:
    image = MemoryImage(make_background(64, 48))
    sample = Sample("0", image, "What color is the sail?", options=("red", "blue"), answer_form="choice")
    assert PROMPTS.direct(sample) == (
        "Question: What color is the sail?\nOptions:\nA. red\nB. blue\n"
        "Answer the question with the option's letter from the given choices (e.g., A, B, etc.) directly.\n"
    )
