"""Every field of a request is honored, refused by its name, or about the client alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from p2r.dialogue import Decoding, Prompt
from p2r.models.scripted import ScriptedModel
from p2r.serving.exchange import MOST_VALUES
from p2r.serving.request import MOST_PARTS
from p2r.serving.settings import Limits
from p2r.types import Completion
from tests.fakes.served import Served, ask_about_image, scripted, serve, show, user


class Decoded(ScriptedModel):
    """Keeps how tokens are drawn in each stage."""

    def __init__(self) -> None:
        super().__init__({"perceiver": "[]", "reasoner": "<answer>one two three</answer>"})
        self.decodings: list[Decoding] = []

    async def complete(self, prompt: Prompt, decoding: Decoding) -> Completion:
        self.decodings.append(decoding)
        return await super().complete(prompt, decoding)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serve(scripted(reasoner="<answer>one two three</answer>"), limits=Limits(new_tokens=2000)) as served:
        yield served


def test_the_answer_is_drawn_as_asked_and_the_look_is_greedy() -> None:
    model = Decoded()
    with serve(model) as served:
        fields = {"temperature": 0.7, "top_p": 0.9, "seed": 3, "max_tokens": 20, "repetition_penalty": 1.1}
        assert served.chat(ask_about_image(), **fields).status == 200
    look, answer = model.decodings
    assert answer == Decoding(max_new_tokens=20, temperature=0.7, top_p=0.9, seed=3, repetition_penalty=1.1)
    assert look == Decoding(max_new_tokens=256)


def test_an_answer_is_greedy_unless_the_request_says_otherwise() -> None:
    model = Decoded()
    with serve(model) as served:
        served.chat(ask_about_image())
        served.chat(ask_about_image(), max_completion_tokens=9, max_tokens=None)
    assert [decoding.max_new_tokens for decoding in model.decodings[1::2]] == [1024, 9]
    assert model.decodings[1].temperature == 0


def test_a_stop_ends_the_reply_of_the_model_itself_and_not_a_walk() -> None:
    model = Decoded()
    with serve(model) as served:
        served.chat(ask_about_image(), stop="two")
        served.chat(user("Hi"), model="m", stop="two")
    assert [decoding.stop for decoding in model.decodings] == [(), (), ("two",)]


@pytest.mark.parametrize(("stop", "content"), [("two", "one "), (["x", "three"], "one two "), ([], "one two three")])
def test_the_answer_ends_before_a_stop(stop: object, content: str, served: Served) -> None:
    body: Any = served.chat(ask_about_image(), stop=stop).body
    assert body["choices"][0]["message"]["content"] == content
    plain: Any = served.chat(user("Hi"), model="m", stop=stop).body
    assert plain["choices"][0]["message"]["content"].endswith(content) or not stop
    assert body["choices"][0]["finish_reason"] == "stop"


UNSUPPORTED = {
    "audio": {"voice": "a"},
    "frequency_penalty": 0.5,
    "function_call": {"name": "f"},
    "functions": [{"name": "f"}],
    "logit_bias": {"5": 1},
    "logprobs": True,
    "min_p": 0.1,
    "modalities": ["audio"],
    "moderation": {},
    "n": 2,
    "prediction": {"type": "content", "content": "x"},
    "presence_penalty": 0.5,
    "reasoning_effort": "low",
    "response_format": {"type": "json_object"},
    "service_tier": "priority",
    "store": True,
    "tool_choice": "required",
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "top_k": 5,
    "top_logprobs": 3,
    "verbosity": "low",
    "web_search_options": {},
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_a_walk_cannot_honor_is_refused_by_name(name: str, served: Served) -> None:
    reply = served.chat(ask_about_image(), **{name: UNSUPPORTED[name]})
    assert reply.status == 400
    assert reply.error == {
        "message": f"{name} is not supported by p2r/m",
        "type": "invalid_request_error",
        "param": name,
        "code": "unsupported_parameter",
    }


def test_every_field_of_the_openai_sdk_is_decided() -> None:
    from openai.types.chat.completion_create_params import CompletionCreateParamsBase

    from p2r.serving.request import _ABOUT_THE_CLIENT, _NEUTRAL, ChatRequest

    decided = ChatRequest.model_fields.keys() | _NEUTRAL.keys() | _ABOUT_THE_CLIENT
    assert set(CompletionCreateParamsBase.__annotations__) - decided == set()
    assert set(UNSUPPORTED) == set(_NEUTRAL)


NEUTRAL = {
    "frequency_penalty": 0,
    "function_call": "none",
    "functions": [],
    "logit_bias": {},
    "logprobs": False,
    "min_p": 0.0,
    "modalities": ["text"],
    "n": 1,
    "parallel_tool_calls": True,
    "presence_penalty": 0.0,
    "response_format": {"type": "text"},
    "service_tier": "auto",
    "store": False,
    "tool_choice": "auto",
    "tools": [],
    "top_k": -1,
    "user": "somebody",
    "metadata": {"a": "b"},
    "reasoning_effort": None,
}


def test_values_that_ask_for_nothing_are_taken(served: Served) -> None:
    assert served.chat(ask_about_image(), **NEUTRAL).status == 200


def test_an_unknown_field_is_refused_as_openai_does(served: Served) -> None:
    reply = served.chat(ask_about_image(), temprature=1)
    assert (reply.status, reply.error["param"]) == (400, "temprature")
    assert reply.error["message"] == "Unrecognized request argument supplied: temprature"


ASSISTANT = {"role": "assistant", "content": "ho"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 3}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 2001}, "max_tokens"),
        ({"max_completion_tokens": 2001}, "max_completion_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"seed": 2**63}, "seed"),
        ({"stream": "yes"}, "stream"),
        ({"stop": list("abcde")}, "stop"),
        ({"p2r": {"imgs": True}}, "p2r.imgs"),
        ({"p2r": {"options": ["a"]}}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "wizard", "content": "hi"}]}, "messages.0.role"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [user("hi"), {"role": "assistant", "content": "ho"}]}, "messages"),
        ({"messages": [{"role": "assistant", "content": "ho"}, user("hi")]}, "messages"),
        ({"messages": [{"role": "system", "content": "hi"}]}, "messages"),
        ({"messages": [{"role": "assistant", "content": [show()]}, user("hi")]}, "messages"),
        ({"messages": [user("a"), {**ASSISTANT, "tool_calls": [{"id": "1"}]}, user("b")]}, "messages.1.tool_calls"),
        ({"messages": [user("a"), {**ASSISTANT, "function_call": {"a": 1}}, user("b")]}, "messages.1.function_call"),
        ({"messages": [user(show())]}, "messages"),
        ({"messages": [user(show(), "  ")]}, "messages"),
        ({"messages": [user(show(), "what <|image_pad|>")]}, "messages"),
        ({"messages": [user({"type": "input_audio", "input_audio": {}}, "hi")]}, "messages.0.content.0"),
        ({"messages": [user({"type": "image_url", "image_url": "data:,"}, "hi")]}, "messages.0.content.0.image_url"),
        ({"messages": [user({"type": "image_url", "image_url": {}}, "hi")]}, "messages.0.content.0.image_url.url"),
        ({"messages": [user({"type": "text", "text": 5}, "hi")]}, "messages.0.content.0.text"),
        ({"messages": ["hi"]}, "messages.0"),
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_with_its_field(fields: dict[str, object], param: str, served: Served) -> None:
    reply = served.ask("/v1/chat/completions", {"model": "p2r/m", "messages": [ask_about_image()], **fields})
    assert (reply.status, reply.error["type"]) == (400, "invalid_request_error")
    assert reply.error["param"] == param, reply.text
    assert reply.error["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"[]",
        b"3",
        b'{"model": "p2r/m", "temperature": NaN}',
        b'{"model": "\xff"}',
        b"[" * 100_000,
        b'{"model": "p2r/m", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"model": "p2r/\\ud800", "messages": []}',
        b'{"a":' * 5000,
    ],
)
def test_what_is_not_json_that_can_be_read_is_refused(body: bytes, served: Served) -> None:
    reply = served.ask("/v1/chat/completions", body)
    assert (reply.status, reply.error["code"]) == (400, "invalid_json")


@pytest.mark.parametrize("model", ["gpt-5", "p2r/other", "m:oracle", "M", "p2r/p2r/m"])
def test_another_model_does_not_exist(model: str, served: Served) -> None:
    reply = served.chat(ask_about_image(), model=model)
    assert (reply.status, reply.error["code"], reply.error["param"]) == (404, "model_not_found", "model")


def test_there_are_no_other_pages(served: Served) -> None:
    assert served.ask("/v1/completions", {}).status == 404
    assert served.ask("/docs").status == 404
    get = served.ask("/v1/chat/completions")
    assert (get.status, get.error["type"]) == (405, "invalid_request_error")


def test_what_does_not_exist_is_told_with_what_does(served: Served) -> None:
    page = served.ask("/chat/completions", {})
    assert page.error["message"] == (
        "POST /chat/completions does not exist here: a client's base URL ends with /v1, and POST /v1/chat/completions "
        "answers chats"
    )
    kind = served.ask("/v1/chat/completions")
    assert kind.error["message"] == "GET /v1/chat/completions does not exist here: use POST"
    model = str(served.chat(user("hi"), model="gpt-5").error["message"])
    assert model.startswith("The model `gpt-5` does not exist; this server has m, p2r/m, ")


def test_a_reply_can_be_sent_back_as_history(served: Served) -> None:
    said = {"refusal": None, "annotations": None, "tool_calls": None, "function_call": None, "reasoning_content": "x"}
    turns = (ask_about_image(), {**ASSISTANT, **said}, user("And its mast?"))
    assert served.chat(*turns).status == 200
    assert served.chat(turns[0], {**ASSISTANT, "tool_calls": []}, turns[2]).status == 200


def test_too_much_text_is_refused() -> None:
    with serve(limits=Limits(prompt_chars=50)) as served:
        reply = served.chat(ask_about_image("why? " * 11))
        assert (reply.status, reply.error["code"]) == (400, "prompt_too_long")
        assert served.chat(user("a" * 26), {"role": "assistant", "content": "b" * 26}, user("c")).status == 400
        assert served.chat(ask_about_image("why? " * 10)).status == 200


def test_a_half_hearted_field_never_reaches_the_reply_as_markup(served: Served) -> None:
    reply = served.chat(ask_about_image(), **{"<script>": 1})
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert json.loads(reply.text)["error"]["param"] == "<script>"


@pytest.mark.parametrize("name", ["m", "p2r/m"])
def test_small_values_cannot_fill_the_memory(name: str) -> None:
    with serve() as served:
        few, many = ({"role": "user", "content": "a"},) * MOST_PARTS, [{"type": "text", "text": "a"}] * (MOST_PARTS + 1)
        for messages in (few + few[:1], (user(*many),), ({"role": 1},) * 9000):
            reply = served.chat(*messages, model=name)
            assert (reply.status, reply.error["param"]) == (400, "messages")
            assert reply.error["message"] == "messages has more than 2,048 entries or parts"
        assert served.chat(*few, model="m").status == 200
        for value in ([[]] * MOST_VALUES, [{}] * MOST_VALUES, {str(i): 0 for i in range(MOST_VALUES)}):
            reply = served.ask("/v1/chat/completions", {"model": name, "messages": value})
            assert (reply.status, reply.error["code"]) == (413, "request_too_large")


def test_an_object_is_called_so() -> None:
    with serve() as served:
        for content, place in (
            ([{"type": "image_url", "image_url": "data:,"}], "messages.0.content.0.image_url"),
            (5, ""),
        ):
            reply = served.chat({"role": "user", "content": content})
            said = f"{place} is 'data:,': it must be an object" if place else "messages.0.content is 5: it must be text"
            assert reply.error["message"] == said
        assert served.chat("hi").error["message"] == "messages.0 is 'hi': it must be an object"
