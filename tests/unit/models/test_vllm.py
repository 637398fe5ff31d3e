"""The in-process vLLM model against a stand-in with the same interface: what it starts, sends and reads back.

vLLM itself needs a GPU and is not installed here, so nothing below says that a real engine starts.
"""

from __future__ import annotations

import asyncio
import math
import sys
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from p2r.dialogue import Decoding, Model, Prompt, Turn
from p2r.errors import ConfigError, ModelError
from p2r.models.load import load_model
from p2r.models.vllm import MOST_IMAGES

STAND_IN = '''
"""A stand-in for vLLM: every call is kept, and the reply is made from it."""
import asyncio
from dataclasses import dataclass, field

from vllm.sampling_params import RequestOutputKind

started, asked, aborted, problems = [], [], [], []


@dataclass
class Logprob:
    logprob: float
    decoded_token: str


@dataclass
class CompletionOutput:
    text: str
    token_ids: list
    finish_reason: str
    logprobs: list | None = None


@dataclass
class RequestOutput:
    prompt_token_ids: list
    outputs: list


class SamplingParams:
    def __init__(self, *, max_tokens, temperature, top_p, repetition_penalty, seed, logprobs, output_kind):
        self.__dict__.update(locals())


class AsyncEngineArgs:
    def __init__(self, *, model, dtype, max_model_len, limit_mm_per_prompt, mm_processor_kwargs,
                 enable_prefix_caching, disable_log_stats):
        self.__dict__.update(locals())


class AsyncLLMEngine:
    @classmethod
    def from_engine_args(cls, args):
        if problems:
            raise problems[0]
        engine = cls()
        engine.loop = asyncio.get_running_loop()
        started.append(args)
        return engine

    async def generate(self, prompt, sampling_params, request_id):
        assert asyncio.get_running_loop() is self.loop
        assert sampling_params.output_kind is RequestOutputKind.FINAL_ONLY
        if problems:
            raise problems[0]
        asked.append((prompt, sampling_params, request_id))
        try:
            while "wait" in prompt["prompt"]:
                await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            aborted.append(request_id)
            raise
        images = prompt.get("multi_modal_data", {"image": []})["image"]
        num_visual = sum(image.width // 32 * (image.height // 32) for image in images)
        if "shrunk" in prompt["prompt"]:
            num_visual //= 4
        tokens = [0] * (num_visual + len(prompt["prompt"]) // 4)
        cut = sampling_params.max_tokens < 3
        logprobs = [{7: Logprob(-0.1, "Yes"), 8: Logprob(-3.0, "No")}] if sampling_params.logprobs else None
        reason = "abort" if "abort" in prompt["prompt"] else "length" if cut else "stop"
        yield RequestOutput(tokens, [CompletionOutput("Yes, a star.", [7, 1, 2], reason, logprobs)])
'''
GREEDY = Decoding(max_new_tokens=8)


def ask(text: str, *images: Image.Image, later: tuple[Turn, ...] = ()) -> Prompt:
    return Prompt("reasoner", "Be brief.", text, images or (Image.new("RGB", (256, 256)),), "set", later)


@pytest.fixture
def vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A fresh stand-in, importable as `vllm`."""
    package = tmp_path / "site" / "vllm"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(STAND_IN)
    (package / "sampling_params.py").write_text("from enum import Enum\nRequestOutputKind = Enum('K', 'FINAL_ONLY')\n")
    monkeypatch.syspath_prepend(package.parent)
    import vllm  # pyright: ignore[reportMissingImports]

    yield vllm
    for name in [name for name in sys.modules if name.partition(".")[0] == "vllm"]:
        del sys.modules[name]


@pytest.fixture
def model(vllm: ModuleType) -> Model:
    pytest.importorskip("transformers")
    return load_model("vllm:nano")


async def test_the_prompt_is_the_rendered_chat_with_its_images(vllm: ModuleType, model: Model) -> None:
    image = Image.new("RGB", (256, 288))
    completion = await model.complete(ask("What is it?", image), GREEDY)
    prompt, sampling, _ = vllm.asked[0]
    assert prompt["multi_modal_data"] == {"image": [image]}
    assert prompt["prompt"].count("<|image_pad|>") == 1
    assert "Be brief." in prompt["prompt"] and prompt["prompt"].rstrip().endswith("<|im_start|>assistant")
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p, sampling.seed) == (8, 0.0, 1.0, None)
    assert (completion.text, completion.finish_reason, completion.model) == ("Yes, a star.", "stop", "vllm:nano")
    assert completion.usage.visual_tokens == (72,)
    assert completion.usage.generated_tokens == 3
    assert (completion.usage.prompt_tokens or 0) > 72


async def test_a_prompt_without_images_sends_none(vllm: ModuleType, model: Model) -> None:
    await model.complete(Prompt("judge", "", "yes or no?", (), "set"), GREEDY)
    assert set(vllm.asked[0][0]) == {"prompt"}


async def test_later_turns_bring_their_images(vllm: ModuleType, model: Model) -> None:
    crop = Image.new("RGB", (256, 256))
    await model.complete(ask("What?", later=(Turn("assistant", ("Hm.",)), Turn("user", (crop, "Here.")))), GREEDY)
    prompt = vllm.asked[0][0]
    assert len(prompt["multi_modal_data"]["image"]) == prompt["prompt"].count("<|image_pad|>") == 2


def test_the_engine_caches_prefixes_and_leaves_images_at_their_size(vllm: ModuleType, model: Model) -> None:
    (args,) = vllm.started
    budget = model.profile.budget
    assert args.enable_prefix_caching is True
    assert args.mm_processor_kwargs == {"min_pixels": budget.min_pixels, "max_pixels": budget.max_pixels}
    assert args.limit_mm_per_prompt == {"image": MOST_IMAGES, "video": 0}
    assert args.dtype == "auto"
    assert args.max_model_len > 4 * budget.max_pixels // budget.factor**2


def test_a_pixel_limit_and_a_number_format_reach_the_engine(vllm: ModuleType) -> None:
    model = load_model("vllm:nano", max_pixels=128 * 128, dtype="float16")
    assert model.profile.budget.max_pixels == 128 * 128
    assert (vllm.started[0].dtype, vllm.started[0].mm_processor_kwargs["max_pixels"]) == ("float16", 128 * 128)


async def test_a_reply_that_was_cut_off_says_so(model: Model) -> None:
    assert (await model.complete(ask("What?"), Decoding(max_new_tokens=2))).finish_reason == "length"


async def test_probabilities_of_first_words_come_from_the_likeliest_tokens(model: Model) -> None:
    wanted = Decoding(max_new_tokens=8, first_words=("Yes", "No", "Maybe"))
    completion = await model.complete(ask("Is it?"), wanted)
    assert completion.first_probs == pytest.approx((math.exp(-0.1), math.exp(-3.0), 0.0))


async def test_images_that_vllm_shrinks_are_noticed(model: Model, caplog: pytest.LogCaptureFixture) -> None:
    await model.complete(ask("shrunk", Image.new("RGB", (512, 512))), GREEDY)
    assert "shrinks images" in caplog.text


async def test_too_many_images_are_refused(model: Model) -> None:
    with pytest.raises(ModelError, match=f"9 images; vLLM is set to at most {MOST_IMAGES}"):
        await model.complete(ask("What?", *[Image.new("RGB", (64, 64))] * 9), GREEDY)


async def test_what_goes_wrong_in_the_engine_is_a_model_error(vllm: ModuleType, model: Model) -> None:
    with pytest.raises(ModelError, match="gave up on a reply: abort"):
        await model.complete(ask("abort"), GREEDY)
    vllm.problems.append(RuntimeError("the engine is dead\nTraceback"))
    with pytest.raises(ModelError, match=r"vllm:nano failed while generating: the engine is dead$"):
        await model.complete(ask("What?"), GREEDY)


def test_an_engine_that_does_not_start_is_a_model_error(vllm: ModuleType) -> None:
    vllm.problems.append(ValueError("no GPU"))
    with pytest.raises(ModelError, match=r"vLLM cannot run .*: no GPU") as caught:
        load_model("vllm:nano")
    assert caught.value.hint


async def test_a_caller_that_leaves_aborts_its_request(vllm: ModuleType, model: Model) -> None:
    call = asyncio.ensure_future(model.complete(ask("wait"), GREEDY))
    while not vllm.asked:
        await asyncio.sleep(0.001)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    while not vllm.aborted:
        await asyncio.sleep(0.001)
    assert vllm.aborted == [vllm.asked[0][2]]


def test_callers_of_several_event_loops_share_the_engine(vllm: ModuleType, model: Model) -> None:
    texts: list[str] = []

    def call() -> None:
        texts.append(asyncio.run(model.complete(ask("What?"), GREEDY)).text)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == ["Yes, a star."] * 3
    assert len({request_id for _, _, request_id in vllm.asked}) == 3


def test_a_device_is_refused_with_the_way_to_choose_one(vllm: ModuleType) -> None:
    with pytest.raises(ConfigError, match="vLLM chooses its GPU itself") as caught:
        load_model("vllm:nano", device="cuda:1")
    assert "CUDA_VISIBLE_DEVICES" in caught.value.hint


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed")
def test_without_vllm_it_says_what_to_install() -> None:
    with pytest.raises(ModelError, match="the model 'vllm:nano' needs vLLM, which is not installed") as caught:
        load_model("vllm:nano")
    assert "pip install vllm" in caught.value.hint


def test_a_model_that_is_none_is_refused_before_vllm_is_looked_for() -> None:
    with pytest.raises(ModelError, match="there is no checkpoint folder"):
        load_model("vllm:./nowhere")
