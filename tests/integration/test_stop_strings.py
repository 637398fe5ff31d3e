"""Stop strings end a reply where it is generated: in this process, and behind servers that keep or leave them out."""

from __future__ import annotations

import asyncio
import json

import pytest

pytest.importorskip("torch")

from p2r.dialogue import Decoding
from p2r.models.checkpoint import open_checkpoint
from p2r.models.local.encoding import PromptEncoder
from p2r.models.local.model import LocalModel
from p2r.models.nano import CHECKPOINT
from p2r.models.scripted import ScriptedModel
from p2r.models.server.model import EndpointModel
from p2r.types import Completion
from tests.fakes.endpoint_server import Answer, Call, ChatServer, completion, refusal, serve
from tests.fakes.replies import ask_about, noise, reply_all

ASK = ask_about(noise(256, 256, 0))
TOKENS = ['[{"bbox_2d": ', "[2", "4", "2", ", ", "2", "4", ", 3", "8", "4", ", 1", "7", "2", '], "label": "']
"""What nano replies to it, token by token."""


def stopping(*stop: str, most: int = 24) -> Decoding:
    return Decoding(max_new_tokens=most, stop=stop)


@pytest.fixture(scope="module")
def nano() -> LocalModel:
    return LocalModel.load(CHECKPOINT, device="cpu", dtype="float32")


@pytest.mark.parametrize(
    ("stop", "num_tokens"),
    [
        (("242",), 4),  # three tokens
        (("]",), 14),  # the beginning of a token
        (('384, 172], "label": "',), 14),
        (("4, 3", "no such"), 8),
        (("242, 24, 3", "24"), 3),
    ],
)
def test_a_stop_ends_the_reply_of_a_local_model(nano: LocalModel, stop: tuple[str, ...], num_tokens: int) -> None:
    (reply,) = reply_all(nano, [ASK], stopping(*stop))
    text = "".join(TOKENS)
    first = min(text.find(mark) + len(mark) for mark in stop if mark in text)
    assert (reply.text, reply.finish_reason) == (text[:first], "stop")
    assert reply.usage.generated_tokens == num_tokens


def test_rows_of_a_batch_end_alone_and_others_go_on(nano: LocalModel) -> None:
    other = ask_about(noise(192, 256, 2))
    (whole,) = reply_all(nano, [other])
    assert "384" not in whole.text
    stopped, going = reply_all(nano, [ASK, other], stopping("384"))
    assert (stopped.text.endswith("384"), going.text, going.usage) == (True, whole.text, whole.usage)


def test_a_reply_that_no_stop_ends_is_as_without(nano: LocalModel) -> None:
    with_stop, without = reply_all(nano, [ASK], stopping("no such")), reply_all(nano, [ASK])
    assert (with_stop[0].text, with_stop[0].usage) == (without[0].text, without[0].usage)


def test_what_is_told_ends_with_the_stop(nano: LocalModel) -> None:
    told: list[str] = []
    reply = asyncio.run(nano.stream(ASK, stopping("]"), told.append))
    assert "".join(told) == reply.text and reply.text.endswith("]")


def test_replies_in_batches_stop_as_well(nano: LocalModel) -> None:
    (reply,) = nano.complete_all([ASK], stopping("]"))
    assert isinstance(reply, Completion)
    assert (reply.text[-1], reply.usage.generated_tokens) == ("]", 14)


def test_tokens_without_a_text_do_not_hide_a_stop() -> None:
    encoder = PromptEncoder(open_checkpoint(CHECKPOINT))
    special = encoder.end_token_ids[:1] * 20
    tokens = [*encoder.tokenize("The </x"), *special, *encoder.tokenize(">")]
    ends = encoder.find_stops(["</x>"])
    assert ends is not None
    assert encoder.decode(tokens) == "The </x>"
    assert ends(tokens) and not ends(tokens[:-1])


def test_a_script_stops() -> None:
    (reply,) = reply_all(ScriptedModel({"perceiver": "<x>a</x> and more"}), [ASK], stopping("</x>"))
    assert reply.text == "<x>a</x>"


def connect(server: ChatServer) -> EndpointModel:
    return EndpointModel.connect(f"{server.url}#Qwen3-VL-4B", api_key="", image_check="never", retry_wait_s=0.01)


CALLS = ("</code>", "</answer>")


def test_a_server_is_asked_to_keep_the_stop() -> None:
    with serve(completion("<code>x</code>")) as server:
        (kept,) = reply_all(connect(server), [ASK], stopping(*CALLS))
        (_,) = reply_all(connect(server), [ASK])
    assert (kept.text, kept.reworded) == ("<code>x</code>", ())
    first, second = (chat.body for chat in server.chats)
    assert (first["stop"], first["include_stop_str_in_output"]) == (list(CALLS), True)
    assert not {"stop", "include_stop_str_in_output"} & second.keys()


def test_a_server_that_refuses_to_keep_the_stop_leaves_it_out_and_it_is_put_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def answer(call: Call) -> Answer:
        if "include_stop_str_in_output" in call.body:
            return refusal(400, "Unrecognized request argument supplied: include_stop_str_in_output")
        return completion("<think>a</think><code>x" if "stop" in call.body else "none")

    with serve(answer) as server:
        (reply,) = reply_all(connect(server), [ASK], stopping(*CALLS))
    assert (reply.text, reply.finish_reason, reply.reworded) == ("<think>a</think><code>x</code>", "stop", ("stop",))
    assert "the one that closes it is put back" in caplog.text


def test_a_server_without_stops_is_cut_here(caplog: pytest.LogCaptureFixture) -> None:
    def answer(call: Call) -> Answer:
        if "stop" in call.body:
            return refusal(400, "Unsupported parameter: 'stop' is not supported with this model.")
        return completion("<code>x</code> and on", finish_reason="length")

    with serve(answer) as server:
        (reply,) = reply_all(connect(server), [ASK], stopping(*CALLS))
    assert (reply.text, reply.finish_reason, reply.reworded) == ("<code>x</code>", "stop", ("stop",))
    assert "knows no stop strings" in caplog.text
    assert "include_stop_str_in_output" not in server.chats[-1].body


@pytest.mark.parametrize(
    ("text", "reason", "stop_reason", "whole"),
    [
        ("<code>x", "stop", {}, "<code>x</code>"),
        ("<answer>A", "stop", {}, "<answer>A</answer>"),
        ("<answer>A <code>x", "stop", {}, "<answer>A <code>x</code>"),
        ("<code>x <answer>A", "stop", {}, "<code>x <answer>A</answer>"),
        ("<code>x", "length", {}, "<code>x"),
        ("<code>x", "stop", {"stop_reason": "</answer>"}, "<code>x</answer>"),  # vLLM knows
        ("<code>x", "stop", {"stop_reason": None}, "<code>x"),  # and says so where the model itself ended
        ("<code>x", "stop", {"stop_reason": 151643}, "<code>x"),
        ("none is open", "stop", {"stop_reason": 151645}, "none is open"),
        ("<code>x</code> more", "length", {}, "<code>x</code>"),
    ],
)
def test_a_stop_is_put_back_where_it_was_left_out(
    text: str, reason: str, stop_reason: dict[str, object], whole: str
) -> None:
    choice = {"message": {"content": text}, "finish_reason": reason, **stop_reason}
    with serve(Answer(body=json.dumps({"choices": [choice]}))) as server:
        (reply,) = reply_all(connect(server), [ASK], stopping(*CALLS))
        (without,) = reply_all(connect(server), [ASK])
    assert reply.text == whole
    assert reply.finish_reason == ("length" if whole == text and reason == "length" else "stop")
    assert (without.text, without.finish_reason) == (text, reason)
