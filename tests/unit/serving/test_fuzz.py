"""Bodies that nobody means: whatever they hold, the answer is a reply or an error in OpenAI's form, never a crash."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.fakes import endpoint_server
from tests.fakes.endpoint_server import Answer, Call, completion, stream
from tests.fakes.served import Served, ask_about_image, data_url, serve, show, user
from tests.unit.serving.test_upstream import serve as serve_upstream

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)
BASE: dict[str, Any] = {
    "model": "p2r/m",
    "messages": [
        {"role": "system", "content": "Be short."},
        user("What is it?", show()),
        {"role": "assistant", "content": "A boat."},
        ask_about_image(),
    ],
    "temperature": 0.5,
    "top_p": 0.9,
    "max_tokens": 5,
    "stop": ["x"],
    "seed": 1,
    "stream": False,
    "stream_options": {"include_usage": True},
    "p2r": {"images": True, "options": ["a", "b"], "answer_form": "choice"},
    "tools": [],
    "n": 1,
    "user": "somebody",
}
FUZZ = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def find_places(value: object, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in a JSON value, itself included."""
    yield place
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        yield from find_places(inner, (*place, name))


PLACES = [place for place in find_places(BASE) if place]


def put(place: tuple[str | int, ...], value: object, base: dict[str, Any] = BASE) -> dict[str, Any]:
    """The body with another value in one place."""
    body = copy.deepcopy(base)
    holder: Any = body
    for name in place[:-1]:
        holder = holder[name]
    holder[place[-1]] = value
    return body


def check(served: Served, body: object, path: str = "/v1/chat/completions") -> None:
    reply = served.ask(path, body)
    assert reply.status in (200, 400, 404, 413), reply.text
    if reply.status != 200:
        assert set(reply.error) == {"message", "type", "param", "code"}, reply.text
        assert reply.error["message"] and reply.error["type"] == "invalid_request_error"


@pytest.fixture(scope="module")
def local() -> Iterator[Served]:
    with serve() as served:
        yield served


@pytest.fixture(scope="module")
def onward() -> Iterator[Served]:
    def answer(call: Call) -> Answer:
        return stream({"content": "[]"}) if call.body.get("stream") is True else completion("[]")

    with endpoint_server.serve(answer) as upstream, serve_upstream(upstream.url) as served:
        yield served


@FUZZ
@given(place=st.sampled_from(PLACES), value=JSON_VALUES, model=st.sampled_from(["p2r/m", "m", "m:direct"]))
def test_any_value_in_any_place_is_answered_or_refused(
    place: tuple[str | int, ...], value: object, model: str, local: Served
) -> None:
    body = put(place, value)
    check(local, {**body, "model": model} if place != ("model",) else body)


@FUZZ
@given(place=st.sampled_from(PLACES), value=JSON_VALUES)
@example(place=("stream",), value=True)
def test_any_value_in_any_place_is_handed_on_or_refused(
    place: tuple[str | int, ...], value: object, onward: Served
) -> None:
    body = put(place, value)
    check(onward, {**body, "model": "m"} if place != ("model",) else body)


@FUZZ
@given(body=JSON_VALUES, fields=st.dictionaries(st.sampled_from(sorted(BASE)), JSON_VALUES))
def test_any_body_is_answered_or_refused(body: object, fields: dict[str, object], local: Served) -> None:
    check(local, json.dumps({**body, **fields} if isinstance(body, dict) else body).encode())


@FUZZ
@given(data=st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes, local: Served) -> None:
    check(local, data)


@FUZZ
@given(cut=st.integers(0, 3000), noise=st.binary(max_size=5))
def test_a_damaged_image_is_seen_or_refused(cut: int, noise: bytes, local: Served) -> None:
    text = data_url()
    place = min(cut, len(text))
    damaged = text[:place] + noise.decode("latin-1") + text[place + len(noise) :]
    check(local, {"model": "p2r/m", "messages": [user(show(damaged), "What is it?")]})


RESPONSE: dict[str, Any] = {
    "model": "p2r/m",
    "instructions": "Be short.",
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Yes?"}]},
        {
            "role": "user",
            "content": [
                {"type": "input_image", "image_url": data_url(), "detail": "auto"},
                {"type": "input_text", "text": "What is it?"},
            ],
        },
    ],
    "max_output_tokens": 5,
    "text": {"format": {"type": "text"}},
    "p2r": {"options": ["a", "b"]},
    "store": False,
}
RESPONSE_PLACES = [place for place in find_places(RESPONSE) if place]


@FUZZ
@given(place=st.sampled_from(RESPONSE_PLACES), value=JSON_VALUES)
def test_any_value_in_any_place_of_a_response_request_is_answered_or_refused(
    place: tuple[str | int, ...], value: object, local: Served
) -> None:
    check(local, put(place, value, RESPONSE), "/v1/responses")


def test_nothing_is_left_over_after_all_that(local: Served) -> None:
    assert local.application.line.num_inside == local.application.line.num_running == 0
    assert local.ask("/v1/chat/completions", json.loads(json.dumps({**BASE, "temperature": 0}))).status == 200
