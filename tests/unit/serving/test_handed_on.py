"""Odd requests that are handed on, and odd streams of the model's server: each is told for what it is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from p2r.serving.settings import Limits
from tests.fakes.endpoint_server import Answer, Call, completion
from tests.fakes.served import BOX, ask_about_image, read_events, user
from tests.unit.serving.test_upstream import both, event

CHAT = "/v1/chat/completions"
DONE = "data: [DONE]\n\n"
SEPARATOR = "a\u2028b\x85c"  # which are lines' ends for Python, and none for JSON and for events
LEAKY = "at /opt/models/secret/x.py, see http://10.1.2.3:8000/v1"


def stream(text: str, kind: str = "text/event-stream") -> Answer:
    return Answer(body=text, headers=(("content-type", kind),))


def write(text: str, **choice: object) -> str:
    """An event whose text is written as it is, as vLLM writes it."""
    content = {"choices": [{"index": 0, "delta": {"content": text}, **choice}]}
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"stream": "true"}, "stream"),
        ({"stream": 1}, "stream"),
        ({"max_tokens": "99999"}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 51}, "max_tokens"),
        ({"max_new_tokens": 51}, "max_new_tokens"),
        ({"min_tokens": 51}, "min_tokens"),
        ({"n_predict": 51}, "n_predict"),
        ({"n": 129}, "n"),
        ({"best_of": 129}, "best_of"),
        ({"messages": ["hi"]}, "messages"),
        ({"messages": [{"role": "user", "content": {"image_url": {"url": "http://10.0.0.1/"}}}]}, "messages"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages"),
    ],
)
def test_what_a_server_might_read_otherwise_is_refused_here(fields: dict[str, object], param: str) -> None:
    with both(completion("hello"), limits=Limits(new_tokens=50)) as (served, upstream):
        reply = served.ask(CHAT, {"model": "m", "messages": [user("hi")], **fields})
    assert (reply.status, reply.error["type"], reply.error["param"]) == (400, "invalid_request_error", param)
    assert upstream.chats == []


def test_limits_leave_room_for_what_is_at_them() -> None:
    with both(completion("hello"), limits=Limits(new_tokens=50)) as (served, upstream):
        fields: dict[str, object] = {"max_tokens": 50, "n": 128, "stream": None, "min_tokens": None}
        assert served.chat(user("hi"), model="m", **fields).status == 200
    assert len(upstream.chats) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "function", "function": {"name": "f", "description": "a" * 30}}]},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"title": "a" * 30}}}},
        {"messages": [user("hi"), {"role": "assistant", "content": None, "tool_calls": [{"id": "a" * 30}]}]},
        {"messages": [{"role": "user", "content": ["a" * 30]}]},
    ],
)
def test_texts_are_limited_wherever_they_stand(fields: dict[str, object]) -> None:
    for limit, status in ((29, 400), (200, 200)):
        with both(completion("hello"), limits=Limits(prompt_chars=limit)) as (served, _):
            reply = served.ask(CHAT, {"model": "m", "messages": [user("hi")], **fields})
        assert reply.status == status, reply.text


@pytest.mark.parametrize("fields", [b"", b', "stream": true'])
@pytest.mark.parametrize("odd", [b'"temperature": 1e999', b'"user": "\xed\xa0\x80"', b'"user": "\\ud800"'])
def test_what_cannot_be_sent_is_a_fault_of_the_request(odd: bytes, fields: bytes) -> None:
    body = b'{"model": "m", "messages": [{"role": "user", "content": "hi"}], ' + odd + fields + b"}"
    with both(completion("hello")) as (served, upstream):
        reply = served.ask(CHAT, body)
        wide = served.ask(CHAT, body.decode("latin-1").encode("utf-16"))
    assert (reply.status, reply.error["code"]) == (400, "invalid_json")
    assert (wide.status, wide.error["code"]) == (400, "invalid_json")
    assert upstream.chats == []


def test_events_are_handed_on_whole_whatever_their_text_holds() -> None:
    with both(stream(write(SEPARATOR) + DONE)) as (served, _):
        reply = served.chat(user("hi"), model="m", stream=True)
    assert reply.text.split("\n") == [*(write(SEPARATOR) + DONE).split("\n")]


def test_a_walk_loses_no_event_whatever_its_text_holds() -> None:
    def answer(call: Call) -> Answer:
        if "bbox_2d" in json.dumps(call.body):
            return completion(BOX)
        words = (f"<think>{SEPARATOR}", "</think><answer>a star", "</answer>")
        return stream("".join(map(write, words)) + write("", finish_reason="stop") + DONE)

    with both(answer) as (served, _):
        events: Any = read_events(served.chat(ask_about_image(), stream=True).text)
    assert events[-1]["p2r"]["stages"]["answer"]["reply"] == f"<think>{SEPARATOR}</think><answer>a star</answer>"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (completion("hello"), "upstream_malformed"),
        (stream(f"<html>{LEAKY}</html>", "text/html"), "upstream_malformed"),
        (stream("data: <html>\n\n"), "upstream_malformed"),
        (stream("data: 3\n\n"), "upstream_malformed"),
        (stream(""), "upstream_unreachable"),
        (stream(f'data: {{"error": {{"message": "{LEAKY}"}}}}\n\n{DONE}'), "upstream_failed"),
        (stream(f'data:{{"error":"{LEAKY}"}}\n\n'), "upstream_failed"),
        (stream(f'data: {{"object": "error", "message": "{LEAKY}"}}\n\n'), "upstream_failed"),
    ],
)
def test_what_is_no_stream_is_told_by_a_status(answer: Answer, code: str) -> None:
    with both(answer) as (served, _):
        reply = served.chat(user("hi"), model="m", stream=True)
    assert (reply.status, reply.error["code"]) == (502, code)
    assert "/opt/" not in reply.text and "10.1.2.3" not in reply.text


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("", "upstream_unreachable"),
        (f'data: {{"object": "error", "message": "{LEAKY}"}}\n\n', "upstream_failed"),
        ('data: {"choices": [{"ind', "upstream_malformed"),
    ],
)
def test_a_stream_that_has_begun_and_fails_ends_with_an_error(end: str, code: str) -> None:
    with both(stream(event("one") + end)) as (served, _):
        reply = served.chat(user("hi"), model="m", stream=True)
    events: Any = read_events(reply.text)
    assert events[0]["choices"][0]["delta"]["content"] == "one"
    assert events[-1]["error"]["code"] == code
    assert "/opt/" not in reply.text and "10.1.2.3" not in reply.text


@pytest.mark.parametrize("end", [DONE, write("", finish_reason="stop")])
def test_a_stream_that_says_that_it_ends_is_whole(end: str) -> None:
    with both(stream(event("one") + end)) as (served, _):
        assert "error" not in served.chat(user("hi"), model="m", stream=True).text


@pytest.mark.parametrize("body", ['{"choices": "abc"}', '{"choices": [{"logprobs": NaN}]}', "[" * 100_000])
def test_a_reply_that_no_client_could_read_is_told(body: str) -> None:
    with both(Answer(200, body)) as (served, _):
        reply = served.chat(user("hi"), model="m")
    assert (reply.status, reply.error["code"]) == (502, "upstream_malformed")


def test_a_walk_whose_upstream_dies_in_the_answer_ends_with_an_error() -> None:
    def answer(call: Call) -> Answer:
        is_look = "bbox_2d" in json.dumps(call.body)
        return completion(BOX) if is_look else stream(write("<think>It is"))

    with both(answer) as (served, upstream):
        events: Any = read_events(served.chat(ask_about_image(), stream=True).text)
    assert events[0]["p2r"]["state"] == "found"
    assert events[-1]["error"]["code"] == "upstream_malformed"
    assert len(upstream.chats) == 2  # what has begun to come is not asked for again


def test_no_more_parts_are_handed_on_than_are_read() -> None:
    parts = [{"type": "text", "text": "a"}] * 2049
    with both(completion("hello")) as (served, upstream):
        for messages in ([user("a")] * 2049, [user(*parts)]):
            reply = served.chat(*messages, model="m")
            assert reply.error["message"] == "messages has more than 2,048 entries or parts"
    assert upstream.chats == []
