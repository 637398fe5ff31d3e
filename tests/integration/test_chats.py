"""Chats of several turns and the odds of a first word: through real weights, a real server, and both roles that need
them."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")

import torch
from transformers import Qwen3VLForConditionalGeneration

from p2r import load_model
from p2r.benchmarks.needles import Needles
from p2r.dialogue import Decoding, Prompt, Turn
from p2r.judges import judge_for
from p2r.models.checkpoint import open_checkpoint
from p2r.models.local.encoding import PromptEncoder
from p2r.models.local.model import LocalModel
from p2r.models.local.patches import normalize
from p2r.models.server.model import EndpointModel
from p2r.modes import Mode, make_roles
from p2r.pipeline import walk
from p2r.prompts import load_prompt_set
from p2r.roles import ToolReasoner
from p2r.types import Completion, Trace
from tests.fakes.endpoint_server import Answer, serve
from tests.fakes.tiny_checkpoint import make_checkpoint

PROMPTS = load_prompt_set()
FIRST_WORD = Decoding(max_new_tokens=1, first_words=("Yes", "No"))
CALL = '<tool_call>\n{"name": "image_zoom_in_tool", "arguments": {}}\n</tool_call>'


def noise(width: int, height: int, seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def make_chat(seed: int = 1, text: str = "What is on the sail?") -> Prompt:
    shown = Turn("user", ("<tool_response>\n", noise(64, 96, seed), "\n</tool_response>"))
    later = (Turn("assistant", (f"Closer.\n{CALL}",)), shown)
    return Prompt("reasoner", "Be brief.", text, (noise(96, 64, 0),), "test", later)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def model(folder: Path) -> LocalModel:
    return LocalModel.load(folder, device="cpu")


async def reply_all(model: LocalModel, prompts: list[Prompt], decoding: Decoding) -> list[Completion]:
    return list(await asyncio.gather(*(model.complete(prompt, decoding) for prompt in prompts)))


def test_a_chat_is_written_as_the_models_own_template_writes_tools(folder: Path) -> None:
    image = "<|vision_start|><|image_pad|><|vision_end|>"
    assert PromptEncoder(open_checkpoint(folder)).render(make_chat()) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        f"<|im_start|>user\n{image}What is on the sail?<|im_end|>\n"
        f"<|im_start|>assistant\nCloser.\n{CALL}<|im_end|>\n"
        f"<|im_start|>user\n<tool_response>\n{image}\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_images_of_later_turns_are_seen_where_they_stand(folder: Path, model: LocalModel) -> None:
    encoded = PromptEncoder(open_checkpoint(folder)).encode(make_chat())
    assert encoded.visual_tokens == (6, 6)
    assert [grid[1:] for grid in encoded.grids] == [(4, 6), (6, 4)]
    first, other = asyncio.run(reply_all(model, [make_chat(), make_chat(seed=2)], FIRST_WORD))
    assert first.first_probs != other.first_probs
    assert first.usage.visual_tokens == (6, 6)


def test_odds_of_the_first_word_are_those_of_the_stock_model(folder: Path, model: LocalModel) -> None:
    stock = Qwen3VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    checkpoint = open_checkpoint(folder)
    encoder = PromptEncoder(checkpoint)
    prompts = [make_chat(), make_chat(text="Where? " * 7)]
    replies = asyncio.run(reply_all(model, prompts, FIRST_WORD))
    for prompt, reply in zip(prompts, replies, strict=True):
        encoded = encoder.encode(prompt)
        ids = torch.tensor([encoded.token_ids])
        with torch.no_grad():
            logits = stock(
                input_ids=ids,
                mm_token_type_ids=(ids == checkpoint.image_token_id).int(),
                pixel_values=normalize(
                    list(encoded.patches), checkpoint.patches, device=ids.device, dtype=torch.float32, frames=2
                ),
                image_grid_thw=torch.tensor(encoded.grids),
            ).logits[0, -1]
        logits[checkpoint.image_token_id] = -torch.inf  # never drawn here
        expected = logits.softmax(-1)[list(encoder.first_ids(("Yes", "No")))]
        assert reply.first_probs == pytest.approx(expected.tolist(), rel=1e-4)
        assert reply.usage.generated_tokens == 1


def test_odds_are_given_only_when_asked_for(model: LocalModel) -> None:
    (reply,) = asyncio.run(reply_all(model, [make_chat()], Decoding(max_new_tokens=1)))
    assert reply.first_probs == ()


def test_a_server_gets_the_whole_chat_and_gives_its_odds() -> None:
    likeliest = [{"token": "No", "logprob": math.log(0.75)}, {"token": "Yes", "logprob": math.log(0.25)}]
    choice = {
        "index": 0,
        "finish_reason": "length",
        "message": {"role": "assistant", "content": "No"},
        "logprobs": {"content": [{"token": "No", "logprob": math.log(0.75), "top_logprobs": likeliest}]},
    }
    with serve(Answer(body=json.dumps({"choices": [choice]}))) as server:
        model = EndpointModel.connect(f"{server.url}#Qwen3-VL-4B", api_key="")
        reply = asyncio.run(model.complete(make_chat(), FIRST_WORD))
    assert reply.first_probs == pytest.approx((0.25, 0.75))
    assert reply.usage.visual_tokens == (6, 6)
    body = next(call.body for call in server.calls if "logprobs" in call.body)  # another counts the text's tokens
    assert (body["logprobs"], body["top_logprobs"]) == (True, 20)
    messages = cast("list[dict[str, object]]", body["messages"])
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    kinds = [part["type"] for part in cast("list[dict[str, str]]", messages[3]["content"])]
    assert kinds == ["text", "image_url", "text"]


@pytest.mark.parametrize("mode", ["tools", "zoom"])
def test_nano_ends_in_an_answer_or_in_a_failure_that_is_kept(mode: Mode) -> None:
    model = load_model("nano")
    perceiver, reasoner = make_roles(mode, model, PROMPTS)
    if mode == "tools":  # nano has never heard of tools and talks up to the limit
        reasoner = ToolReasoner(model, PROMPTS, Decoding(max_new_tokens=32))

    async def ask() -> list[Trace]:
        samples = list(Needles(seed=5, num_samples=2))
        return list(await asyncio.gather(*(walk(sample, perceiver, reasoner, judge_for(sample)) for sample in samples)))

    for trace in asyncio.run(ask()):
        if trace.failure is not None:
            assert trace.failure.kind in ("ModelError", "DataError")
            continue
        assert trace.reasoning is not None and trace.verdict is not None
        calls = [*(trace.perception.completion.calls if trace.perception and trace.perception.completion else ())]
        assert all(call.usage.prompt_tokens for call in (*calls, *trace.reasoning.calls))
        assert mode == "tools" or len(calls) >= 2
