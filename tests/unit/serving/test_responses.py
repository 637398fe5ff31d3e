"""Plain requests of the newer interface, with OpenAI's own client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI

from p2r.serving.responses import _NEUTRAL, _SAME, _UNSUPPORTED
from tests.fakes import endpoint_server
from tests.fakes.endpoint_server import completion
from tests.fakes.served import ANSWER, Served, ask_about_image, data_url, serve, show, user
from tests.unit.serving.test_upstream import serve as serve_upstream


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serve() as served:
        yield served


@pytest.fixture
def client(served: Served) -> OpenAI:
    return OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0)


def show_here() -> dict[str, object]:
    return {"type": "input_image", "image_url": data_url(), "detail": "auto"}


def test_a_question_about_an_image_is_answered_by_a_walk(client: OpenAI, served: Served) -> None:
    content: Any = [{"type": "input_text", "text": "What is on the sail?"}, show_here()]
    reply = client.responses.create(
        model="p2r/m", input=[{"role": "user", "content": content}], instructions="Be short."
    )
    assert (reply.output_text, reply.status) == ("a star", "completed")
    look: Any = (reply.model_extra or {})["p2r"]
    chat: Any = served.chat({"role": "system", "content": "Be short."}, user("What is on the sail?", show())).body
    assert look["boxes"] == chat["p2r"]["boxes"] and look["state"] == "found"
    assert reply.usage is not None and reply.usage.total_tokens == chat["usage"]["total_tokens"]
    assert (reply.model_extra or {}).get("store", getattr(reply, "store", None)) is False


def test_a_text_and_earlier_turns_are_the_model_s(client: OpenAI) -> None:
    assert client.responses.create(model="m", input="Hi").output_text == ANSWER
    turns: Any = [
        {"role": "user", "content": "Hi"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Yes?"}]},
        {"role": "user", "content": "What?"},
    ]
    assert (
        client.responses.create(model="p2r/m", input=turns, temperature=0.5, max_output_tokens=9).output_text == ANSWER
    )


def test_a_request_is_handed_on_to_the_upstream_as_a_chat() -> None:
    cut = completion("hello", finish_reason="length", prompt_tokens=5)
    with endpoint_server.serve(cut) as upstream, serve_upstream(upstream.url) as served:
        client = OpenAI(base_url=f"{served.url}/v1", api_key="none")
        reply = client.responses.create(model="m", input="Hi", max_output_tokens=3)
    assert upstream.chats[0].body == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_completion_tokens": 3,
    }
    assert (reply.output_text, reply.status) == ("hello", "incomplete")
    assert reply.incomplete_details is not None and reply.incomplete_details.reason == "max_output_tokens"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"stream": True}, "stream"),
        ({"store": True}, "store"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"reasoning": {"effort": "low"}}, "reasoning"),
        ({"text": {"format": {"type": "json_object"}}}, "text.format"),
        ({"text": "json"}, "text"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"max_output_tokens": 10**6}, "max_output_tokens"),
        ({"temperature": 9}, "temperature"),
        ({"tempratur": 1}, "tempratur"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": [3]}, "input"),
        ({"input": [{"type": "function_call_output", "output": "3"}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "http://10.0.0.1/"}]}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": []}]}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input"),
        ({"model": None}, "model"),
    ],
)
def test_what_is_not_done_is_refused_by_its_name(fields: dict[str, object], param: str, served: Served) -> None:
    reply = served.ask("/v1/responses", {"model": "p2r/m", "input": "Hi", **fields})
    assert (reply.status, reply.error["type"], reply.error["param"]) == (400, "invalid_request_error", param), (
        reply.text
    )


def test_the_client_raises_its_own_errors(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="none", input="Hi")
    with pytest.raises(openai.BadRequestError):
        client.responses.create(model="m", input="Hi", store=True)


def test_every_field_of_the_openai_sdk_is_decided() -> None:
    from openai.types.responses.response_create_params import ResponseCreateParamsBase

    decided = {*_SAME, *_NEUTRAL, *_UNSUPPORTED, "input", "instructions", "max_output_tokens", "text"}
    assert set(ResponseCreateParamsBase.__annotations__) - decided == set()


def test_the_other_form_of_an_image_is_told(served: Served) -> None:
    reply = served.ask("/v1/responses", {"model": "p2r/m", "messages": [ask_about_image()]})
    assert (reply.status, reply.error["param"]) == (400, "messages")


@pytest.mark.parametrize("value", [b"1e999", b"-1e999", b'"\xed\xa0\x80"', b"NaN"])
def test_what_no_reply_could_hold_is_refused(value: bytes, served: Served) -> None:
    reply = served.ask("/v1/responses", b'{"model": "m", "input": "Hi", "metadata": {"a": ' + value + b"}}")
    assert (reply.status, reply.error["code"]) == (400, "invalid_json")


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"max_output_tokens": 0}, "max_output_tokens", "max_output_tokens is 0: it must be at least 1"),
        ({"max_output_tokens": 9999}, "max_output_tokens", "max_output_tokens is above 4096, the most of this server"),
        ({"input": []}, "input", "input is []: it needs at least 1 entry"),
        ({"text": {"format": {"type": "json_object"}}}, "text.format", "text.format is not supported by m"),
        ({"text": {"verbosity": "low"}}, "text.verbosity", "text.verbosity is not supported by /v1/responses"),
    ],
)
def test_a_fault_is_told_in_the_names_of_this_interface(
    fields: dict[str, object], param: str, said: str, served: Served
) -> None:
    reply = served.ask("/v1/responses", {"model": "m", "input": "Hi", **fields})
    assert (reply.status, reply.error["param"], reply.error["message"]) == (400, param, said)


def test_a_form_of_the_text_that_asks_for_nothing_is_taken(served: Served) -> None:
    text = {"format": {"type": "text"}, "verbosity": None}
    assert served.ask("/v1/responses", {"model": "m", "input": "Hi", "text": text}).status == 200
