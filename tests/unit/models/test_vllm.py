"""The in-process vLLM model against a stand-in with the same interface: what it starts, sends and reads back.

tests/integration/test_vllm_in_process.py asks the real one.
"""

from __future__ import annotations

import asyncio
import math
import os
import sys
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from p2r.dialogue import Decoding, Model, Prompt, StreamingModel, Turn
from p2r.errors import ConfigError, ModelError
from p2r.models.load import load_model, loading_of
from p2r.models.vllm.model import MOST_IMAGES
from tests.fakes import stand_in_vllm
from tests.fakes.stand_in_vllm import GREEDY, ask


@pytest.fixture
def vllm(tmp_path: Path) -> Iterator[ModuleType]:
    with stand_in_vllm.installed(tmp_path) as module:
        yield module


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


async def test_a_reply_is_told_while_it_comes(vllm: ModuleType, model: Model) -> None:
    assert isinstance(model, StreamingModel)
    told: list[tuple[str, threading.Thread]] = []
    image = Image.new("RGB", (256, 256))
    streamed = await model.stream(
        ask("What?", image), GREEDY, lambda piece: told.append((piece, threading.current_thread()))
    )
    assert told == [("Yes", threading.current_thread()), (", a star.", threading.current_thread())]
    whole = await model.complete(ask("What?", image), GREEDY)
    assert streamed.model_copy(update={"seconds": 0.0}) == whole.model_copy(update={"seconds": 0.0})
    assert [asked[1].output_kind.name for asked in vllm.asked] == ["CUMULATIVE", "FINAL_ONLY"]


async def test_a_prompt_without_images_sends_none(vllm: ModuleType, model: Model) -> None:
    await model.complete(Prompt("judge", "", "yes or no?", (), "set"), GREEDY)
    assert set(vllm.asked[0][0]) == {"type", "prompt"}


async def test_later_turns_bring_their_images(vllm: ModuleType, model: Model) -> None:
    crop = Image.new("RGB", (256, 256))
    await model.complete(ask("What?", later=(Turn("assistant", ("Hm.",)), Turn("user", (crop, "Here.")))), GREEDY)
    prompt = vllm.asked[0][0]
    assert len(prompt["multi_modal_data"]["image"]) == prompt["prompt"].count("<|image_pad|>") == 2


def test_the_engine_caches_prefixes_and_leaves_images_at_their_size(vllm: ModuleType, model: Model) -> None:
    (args,) = vllm.started
    budget = model.profile.budget
    assert args.enable_prefix_caching is True
    size = {"shortest_edge": budget.min_pixels, "longest_edge": budget.max_pixels}
    assert args.mm_processor_kwargs == {"size": size}
    assert args.limit_mm_per_prompt == {"image": MOST_IMAGES, "video": 0}
    assert args.dtype == "auto"
    assert args.max_model_len > 4 * budget.max_pixels // budget.factor**2


def test_a_pixel_limit_and_a_number_format_reach_the_engine(vllm: ModuleType) -> None:
    model = load_model("vllm:nano", max_pixels=128 * 128, dtype="float16")
    assert model.profile.budget.max_pixels == 128 * 128
    assert (vllm.started[0].dtype, vllm.started[0].mm_processor_kwargs["size"]["longest_edge"]) == (
        "float16",
        128 * 128,
    )


async def test_a_begun_reply_ends_the_chat_and_stops_are_kept(vllm: ModuleType, model: Model) -> None:
    await model.complete(ask("What?", later=(Turn("assistant", ("<think>",)),)), GREEDY)
    await model.complete(ask("What?"), GREEDY.model_copy(update={"stop": ("</x>",)}))
    (begun, without, _), (_, stopping, _) = vllm.asked
    assert begun["prompt"].endswith("<|im_start|>assistant\n<think>")
    assert (without.stop, stopping.stop, stopping.include_stop_str_in_output) == ((), ["</x>"], True)


async def test_a_reply_that_was_cut_off_says_so(model: Model) -> None:
    assert (await model.complete(ask("What?"), Decoding(max_new_tokens=2))).finish_reason == "length"


async def test_probabilities_of_first_words_come_from_the_likeliest_tokens(model: Model) -> None:
    wanted = Decoding(max_new_tokens=8, first_words=("Yes", "No", "Maybe"))
    completion = await model.complete(ask("Is it?"), wanted)
    assert completion.first_probs == pytest.approx((math.exp(-0.1), math.exp(-3.0), 0.0))


async def test_images_that_vllm_shrinks_are_noticed(model: Model, caplog: pytest.LogCaptureFixture) -> None:
    completion = await model.complete(ask("shrunk", Image.new("RGB", (512, 512))), GREEDY)
    assert completion.altered == "shrunk"
    assert "shrinks images" in caplog.text
    assert (await model.complete(ask("Is it?", Image.new("RGB", (512, 512))), GREEDY)).altered == ""


async def test_too_many_images_are_refused(model: Model) -> None:
    with pytest.raises(ModelError, match=f"9 images; vLLM is set to at most {MOST_IMAGES}") as caught:
        await model.complete(ask("What?", *[Image.new("RGB", (64, 64))] * 9), GREEDY)
    assert "a mode that looks less often" in caught.value.hint


async def test_what_goes_wrong_in_the_engine_is_a_model_error(vllm: ModuleType, model: Model) -> None:
    with pytest.raises(ModelError, match="gave up on a reply: abort"):
        await model.complete(ask("abort"), GREEDY)
    vllm.problems.append(RuntimeError("the engine is dead\nTraceback"))
    with pytest.raises(ModelError, match=r"vllm:nano failed while generating: the engine is dead$"):
        await model.complete(ask("What?"), GREEDY)


def test_an_engine_that_does_not_start_is_a_model_error(vllm: ModuleType) -> None:
    vllm.problems.append(ValueError("no GPU"))
    before = threading.active_count()
    with pytest.raises(ModelError, match=r"vLLM cannot run .*: no GPU") as caught:
        load_model("vllm:nano")
    assert "must fit the memory" in caught.value.hint
    assert threading.active_count() == before


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


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        ("EngineDeadError('EngineCore encountered an issue')", "vLLM's processes have ended"),
        (
            "ValueError('The decoder prompt (length 9000) is longer than the maximum model length of 2048.')",
            "lower `max_pixels`, or raise max_model_len by `engine_args`",
        ),
        (
            'ValueError("This model\'s maximum context length is 1024 tokens. However, ...")',
            "lower `max_pixels`, or raise max_model_len by `engine_args`",
        ),
        ("ValueError('something else')", ""),
    ],
)
async def test_an_error_of_the_engine_comes_with_what_to_do(
    vllm: ModuleType, model: Model, error: str, hint: str
) -> None:
    vllm.problems.append(eval(error, vars(vllm)))
    with pytest.raises(ModelError, match="vllm:nano failed while generating") as caught:
        await model.complete(ask("What?"), GREEDY)
    assert caught.value.hint.startswith(hint) and bool(caught.value.hint) == bool(hint)


async def test_an_older_engine_is_given_the_prompt_itself(vllm: ModuleType) -> None:
    vllm.AsyncEngineArgs.is_old = True
    await load_model("vllm:nano").complete(ask("What?"), GREEDY)
    assert set(vllm.asked[0][0]) == {"prompt", "multi_modal_data"}


def test_engine_arguments_reach_the_engine(vllm: ModuleType) -> None:
    given = {"enforce_eager": True, "max_model_len": 1024}
    model = load_model("vllm:nano", engine_args=given)
    assert (vllm.started[0].enforce_eager, vllm.started[0].max_model_len) == (True, 1024)
    assert loading_of(model).engine_args == given


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("enforce_eagre", "vLLM's engine has no argument 'enforce_eagre'", "did you mean enforce_eager?"),
        ("xyz", "vLLM's engine has no argument 'xyz'", "vllm serve --help"),
        ("dtype", "the engine argument dtype is set by p2r", "give `dtype`"),
        ("mm_processor_kwargs", "the engine argument mm_processor_kwargs is set by p2r", "give `max_pixels`"),
    ],
)
def test_an_engine_argument_that_cannot_be_given_is_refused(
    vllm: ModuleType, name: str, message: str, hint: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_model("vllm:nano", engine_args={name: True})
    assert hint in caught.value.hint
    assert not vllm.started


def test_engine_arguments_are_refused_for_a_model_that_vllm_does_not_run() -> None:
    with pytest.raises(ConfigError, match="`engine_args` has enforce_eager for vLLM, and no model here") as caught:
        load_model("nano", engine_args={"enforce_eager": True})
    assert "write vllm: before" in caught.value.hint


def test_vllm_logs_its_errors_to_stderr_unless_told_otherwise(
    vllm: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "INFO")
    load_model("vllm:nano")
    assert os.environ["VLLM_LOGGING_STREAM"] == "ext://sys.stderr"
    assert os.environ["VLLM_LOGGING_LEVEL"] == "INFO"


@pytest.mark.parametrize("error", ["ImportError('libcudart.so.13: cannot open')", "RuntimeError('no operator nms')"])
def test_a_vllm_that_cannot_be_imported_is_a_model_error(vllm: ModuleType, tmp_path: Path, error: str) -> None:
    (tmp_path / "site" / "vllm" / "__init__.py").write_text(f"raise {error}")
    del sys.modules["vllm"]
    said = error.partition("'")[2].partition("'")[0]
    with pytest.raises(ModelError, match=f"vLLM is installed but cannot be imported: {said}") as caught:
        load_model("vllm:nano")
    assert "pip check" in caught.value.hint
