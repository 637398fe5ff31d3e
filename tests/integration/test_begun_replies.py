"""Replies that a prompt has begun: the model goes on with them, in this process and behind a server."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import cast

import pytest

pytest.importorskip("torch")

from p2r.dialogue import Decoding
from p2r.errors import DataError, EndpointError
from p2r.models.checkpoint import open_checkpoint
from p2r.models.local.encoding import PromptEncoder
from p2r.models.local.model import LocalModel
from p2r.models.nano import CHECKPOINT
from p2r.models.scripted import ScriptedModel
from p2r.models.server.begun import MOST_ADDED
from p2r.models.server.model import EndpointModel
from tests.fakes.endpoint_server import Answer, Call, ChatServer, completion, refusal, serve
from tests.fakes.replies import BRIEF, ask_about, begin, noise, reply_all
from tests.fakes.tiny_checkpoint import make_checkpoint

IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
ASK = ask_about(noise(96, 64, 0))
HEAD = '[{"bbox_2d": '
"""One token of nano."""
BEGUN = begin(ASK, "<think>Look: ", noise(64, 96, 1), " a sail.")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def test_the_beginning_stands_behind_the_template_and_is_not_closed(folder: Path) -> None:
    encoder = PromptEncoder(open_checkpoint(folder))
    assert encoder.render(BEGUN) == f"{encoder.render(ASK)}<think>Look: {IMAGE} a sail."
    assert encoder.encode(BEGUN).visual_tokens == (6, 6)


def test_a_template_that_begins_a_thought_itself_is_not_told_twice(folder: Path, tmp_path: Path) -> None:
    thinking = shutil.copytree(folder, tmp_path / "thinking")
    (thinking / "chat_template.jinja").write_text("{% for turn in messages %}.{% endfor %}{{ '<think>\\n' }}")
    encoder = PromptEncoder(open_checkpoint(thinking))
    assert encoder.render(begin(ask_about(), "<think>Look.")) == ".<think>\nLook."
    assert encoder.render(begin(ask_about(), "Look.")) == ".<think>\nLook."


def test_a_beginning_may_not_name_an_image_that_is_not_there(folder: Path) -> None:
    with pytest.raises(DataError, match="stands for an image"):
        PromptEncoder(open_checkpoint(folder)).encode(begin(ask_about(), IMAGE))


def test_nano_goes_on_where_its_own_reply_was_cut() -> None:
    model, prompt = LocalModel.load(CHECKPOINT, device="cpu", dtype="float32"), ask_about(noise(256, 256, 0))
    (whole,) = reply_all(model, [prompt])
    assert whole.text.startswith(HEAD)
    (rest,) = reply_all(model, [begin(prompt, HEAD)])
    tail = whole.text.removeprefix(HEAD)
    assert tail and rest.text.startswith(tail)
    assert rest.usage.prompt_tokens == (whole.usage.prompt_tokens or 0) + 1


def test_a_script_says_what_follows() -> None:
    model = ScriptedModel({"perceiver": ["more"]})
    (reply,) = reply_all(model, [BEGUN])
    assert (reply.text, reply.usage.visual_tokens) == ("more", (6, 6))


def count(call: Call, *, closes: bool) -> Answer:
    """A server that counts three tokens for each turn and one for each letter."""
    messages = cast("list[dict[str, object]]", call.body["messages"])
    texts = [turn["content"] for turn in messages]
    letters = sum(len(text) if isinstance(text, str) else len(json.dumps(text)) for text in texts)
    begun = messages[-1]["role"] == "assistant" and not closes
    return completion(" more", prompt_tokens=3 * (len(messages) + (not begun)) + letters)


def connect(server: ChatServer) -> EndpointModel:
    return EndpointModel.connect(f"{server.url}#Qwen3-VL-4B", api_key="", image_check="never", retry_wait_s=0.01)


def test_a_server_is_told_to_go_on() -> None:
    with serve(lambda call: count(call, closes=False)) as server:
        (reply,) = reply_all(connect(server), [BEGUN])
        body = server.chats[0].body
    assert reply.text == " more"
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    *_, last = cast("list[dict[str, list[dict[str, str]]]]", body["messages"])
    assert [part["type"] for part in last["content"]] == ["text", "image_url", "text"]


def test_a_server_is_asked_once_whether_it_goes_on_and_only_where_a_reply_is_begun() -> None:
    with serve(lambda call: count(call, closes=False)) as server:
        model, text = connect(server), begin(ASK, "<think>")
        reply_all(model, [ASK])
        assert "continue_final_message" not in server.chats[0].body
        reply_all(model, [text])
        assert len(server.chats) == 1 + 2 + 1
        assert server.chats[1].body["messages"][-1] == {"role": "assistant", "content": "<think>"}  # type: ignore[index]

        async def ask_twice() -> None:
            for _ in range(2):
                await model.complete(text, BRIEF)

        asyncio.run(ask_twice())
        assert len(server.chats) == 4 + 2 + 2


def test_a_beginning_that_a_server_repeats_is_left_out_and_no_stop_is_found_in_it() -> None:
    with serve(completion("<x>a</x> more</x> and more")) as server:
        (reply,) = reply_all(connect(server), [begin(ASK, "<x>a</x>")], Decoding(max_new_tokens=9, stop=("</x>",)))
    assert reply.text == " more</x>"


def test_a_server_that_closes_the_beginning_is_not_believed() -> None:
    said = "takes the beginning of a reply for a whole one"
    with serve(lambda call: count(call, closes=True)) as server, pytest.raises(EndpointError, match=said) as caught:
        reply_all(connect(server), [BEGUN])
    assert "give its folder as `model`" in caught.value.hint
    assert len(server.chats) == 3
    assert MOST_ADDED < 4


def test_a_server_that_counts_nothing_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    with serve(completion(" more")) as server:
        (reply,) = reply_all(connect(server), [BEGUN])
    assert reply.text == " more"
    assert "whether it continues a reply that was begun is not known" in caplog.text


@pytest.mark.parametrize(
    "message",
    [
        "Unrecognized request argument supplied: continue_final_message",
        "Assistant response prefill is incompatible with enable_thinking.",
        "This model does not support assistant message prefill. The conversation must end with a user message.",
        "Expected last role User or Tool (or Assistant with prefix True) for serving but got assistant",
    ],
)
def test_a_refusal_of_a_begun_reply_is_one_sentence(message: str) -> None:
    said = "does not continue a reply that was begun"
    with serve(refusal(400, message)) as server, pytest.raises(EndpointError, match=said) as caught:
        reply_all(connect(server), [begin(ASK, "<think>")])
    assert "vLLM, SGLang or llama.cpp" in caught.value.hint


def test_a_strict_server_is_asked_in_the_words_that_it_takes() -> None:
    def answer(call: Call) -> Answer:
        strict = "repetition_penalty" in call.body
        return refusal(400, "Unsupported parameter: repetition_penalty") if strict else count(call, closes=True)

    with serve(answer) as server, pytest.raises(EndpointError, match="for a whole one"):
        reply_all(connect(server), [BEGUN])
