"""A server's reply as a stream is told piece by piece, and is in the end the reply that comes without a stream."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from p2r.dialogue import Decoding, Prompt, StreamingModel
from p2r.errors import EndpointError
from p2r.models.profiles import PROFILES
from p2r.models.server.model import EndpointModel
from p2r.types import Completion
from tests.fakes.endpoint_server import STREAM, Answer, Call, ChatServer, completion, refusal, serve, stream
from tests.fakes.replies import begin

PROMPT = Prompt("reasoner", "", "Why?", (), "")


async def ask(server: ChatServer, stop: tuple[str, ...] = (), prompt: Prompt = PROMPT) -> tuple[Completion, list[str]]:
    model = EndpointModel(server.url, "m", PROFILES["qwen3_vl"], retry_wait_s=0.0, timeout_s=10)
    assert isinstance(model, StreamingModel)
    told: list[str] = []
    return await model.stream(prompt, Decoding(max_new_tokens=9, stop=stop), told.append), told


async def test_a_stream_is_told_and_put_together() -> None:
    with serve(stream({"role": "assistant", "content": ""}, {"content": "It "}, {"content": "is."})) as server:
        reply, told = await ask(server)
    assert told == ["It ", "is."]
    assert (reply.text, reply.finish_reason) == ("It is.", "stop")
    assert (reply.usage.prompt_tokens, reply.usage.generated_tokens) == (5, 3)
    assert server.chats[0].body["stream"] is True
    assert server.chats[0].body["max_tokens"] == 9


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
async def test_separated_thinking_is_told_in_its_tags_as_in_a_whole_reply(field: str) -> None:
    with serve(stream({field: "A "}, {field: "star."}, {"content": "B"}, {"content": "."})) as server:
        reply, told = await ask(server)
    assert reply.text == "".join(told) == "<think>A star.</think>B."


async def test_a_reply_that_was_cut_off_says_so() -> None:
    with serve(stream({"content": "It"}, finish="length")) as server:
        reply, _ = await ask(server)
    assert reply.finish_reason == "length"


async def test_a_stop_that_a_server_leaves_out_of_a_stream_is_the_one_that_it_names() -> None:
    events = {"delta": {"content": "It"}}, {"delta": {}, "finish_reason": "stop", "stop_reason": "</y>"}
    body = "".join(f"data: {json.dumps({'choices': [event]})}\n\n" for event in events)
    with serve(Answer(body=f"{body}data: [DONE]\n\n", headers=STREAM)) as server:
        reply, told = await ask(server, ("</x>", "</y>"))
    assert (reply.text, told) == ("It</y>", ["It"])


async def test_nothing_is_told_behind_a_stop_that_a_server_does_not_know() -> None:
    with serve(stream({"content": "<x>a</"}, {"content": "x> more"}, {"content": " and on"})) as server:
        reply, told = await ask(server, ("</x>",))
    assert (reply.text, told) == ("<x>a</x>", ["<x>a</", "x>"])


@pytest.mark.parametrize("pieces", [("<thi", "nk>A", " star."), ("A", " star.")])
async def test_a_beginning_that_a_server_repeats_is_not_told(pieces: tuple[str, ...]) -> None:
    with serve(stream(*({"content": piece} for piece in pieces))) as server:
        reply, told = await ask(server, prompt=begin(PROMPT, "<think>"))
    assert (reply.text, told) == ("A star.", ["A", " star."])


async def test_a_stream_that_says_that_no_stop_ended_it_gets_none() -> None:
    event = {"delta": {"content": "<x>a"}, "finish_reason": "stop", "stop_reason": None}
    body = f"data: {json.dumps({'choices': [event]})}\n\ndata: [DONE]\n\n"
    with serve(Answer(body=body, headers=STREAM)) as server:
        reply, _ = await ask(server, ("</x>",))
    assert (reply.text, reply.reworded) == ("<x>a", ())


@pytest.mark.parametrize(
    "answer",
    [
        completion("It is."),
        lambda call: refusal(400, "stream_options is not known") if "stream" in call.body else completion("It is."),
        lambda call: refusal(422, "no stream, please") if "stream" in call.body else completion("It is."),
    ],
)
async def test_a_server_that_does_not_stream_is_asked_for_the_whole(answer: Answer | Callable[[Call], Answer]) -> None:
    with serve(answer) as server:
        reply, told = await ask(server)
    assert (reply.text, told) == ("It is.", [])


async def test_a_stream_that_breaks_off_is_no_reply_and_is_not_asked_for_again() -> None:
    with serve(stream({"content": "It "}, finish=None, end=""), completion("other")) as server:
        with pytest.raises(EndpointError, match="broken off"):
            await ask(server)
        assert len(server.chats) == 1


async def test_an_error_in_a_stream_is_one() -> None:
    event = json.dumps({"error": {"message": "CUDA out of memory"}})
    broken = Answer(body=f"data: {event}\n\n", headers=STREAM)
    with serve(broken) as server, pytest.raises(EndpointError, match="CUDA out of memory"):
        await ask(server)


async def test_a_call_of_a_tool_in_a_stream_is_refused() -> None:
    call = stream({"tool_calls": [{"function": {"name": "f"}}]}, finish="tool_calls")
    with serve(call) as server, pytest.raises(EndpointError, match="call of a tool"):
        await ask(server)


async def test_a_fault_before_the_first_piece_is_tried_again() -> None:
    with serve(Answer(503, "{}"), Answer(hang_up=True), stream({"content": "It is."})) as server:
        reply, told = await ask(server)
    assert (reply.text, told) == ("It is.", ["It is."])
