"""Boxes that a client gives in place of the model's, and the prompts that a request may ask to see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from p2r.models.scripted import ScriptedModel
from p2r.serving.request import MOST_BOXES
from tests.fakes.served import ANSWER, Served, ask_about_image, read_events, serve, user

BOXES = [{"per_mille": [500, 250, 750.5, 1000], "label": "the <b>hull</b>"}]


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serve() as served:
        yield served


@pytest.mark.parametrize("model", ["p2r/m", "m:zoom"])
def test_given_boxes_are_looked_at_and_the_model_is_not_asked_where(model: str) -> None:
    with serve(ScriptedModel({"reasoner": ANSWER})) as served:  # it has no reply for a perceiver
        body: Any = served.chat(ask_about_image(), model=model, p2r={"boxes": BOXES}).body
    look = body["p2r"]
    assert (look["state"], look["crops"]) == ("given", [[256, 48, 544, 320]])
    assert look["boxes"] == [
        {"label": "the <b>hull</b>", "pixels": [320, 80, 480, 320], "per_mille": [500.0, 250.0, 750.5, 1000.0]}
    ]
    assert (look["stages"]["look"]["num_calls"], look["stages"]["look"]["reply"]) == (0, None)
    assert body["choices"][0]["message"]["content"] == "a star"


def test_a_stream_tells_given_boxes_first(served: Served) -> None:
    chunks: list[Any] = read_events(served.chat(ask_about_image(), stream=True, p2r={"boxes": BOXES}).text)
    assert (chunks[0]["p2r"]["stage"], chunks[0]["p2r"]["state"]) == ("look", "given")
    assert 'p2r_walks_total{mode="p2r",state="given"}' in served.ask("/metrics").text


@pytest.mark.parametrize(
    ("boxes", "said"),
    [
        ([], "p2r.boxes is []: it needs at least 1 entry"),
        (3, "p2r.boxes is 3: it must be a list"),
        ([{"label": "x"}], "p2r.boxes.0.per_mille is missing"),
        ([{"per_mille": [1, 2, 3]}], "p2r.boxes.0.per_mille.3 is missing"),
        ([{"per_mille": [0, 0, 1, 1, 1]}], "p2r.boxes.0.per_mille"),
        ([{"per_mille": [0, 0, "1", 1]}], "p2r.boxes.0.per_mille.2 is '1': it must be a number"),
        ([{"per_mille": [-1, 0, 1, 1]}], "p2r.boxes.0.per_mille.0 is -1: it must be at least 0"),
        ([{"per_mille": [0, 0, 1001, 1]}], "p2r.boxes.0.per_mille.2 is 1001: it must be at most 1000"),
        ([{"per_mille": [5, 0, 5, 1]}], "left must be below right, and top below bottom"),
        ([{"per_mille": [0, 9, 5, 1]}], "left must be below right, and top below bottom"),
        ([{"per_mille": [0, 0, 1, 1], "pixels": [0, 0, 9, 9]}], "p2r.boxes.0.pixels is not a known name"),
        ([{"per_mille": [0, 0, 1, 1]}] * (MOST_BOXES + 1), f"p2r.boxes has more than {MOST_BOXES} entries"),
    ],
)
def test_boxes_that_are_none_are_refused_by_their_place(boxes: object, said: str, served: Served) -> None:
    reply = served.chat(ask_about_image(), p2r={"boxes": boxes})
    assert reply.status == 400
    assert said in str(reply.error["message"])
    assert str(reply.error["param"]).startswith("p2r.boxes")


def test_the_most_boxes_are_taken(served: Served) -> None:
    assert served.chat(ask_about_image(), p2r={"boxes": BOXES * MOST_BOXES}).status == 200


@pytest.mark.parametrize("model", ["m", "m:direct", "m:thinking", "m:tools"])
def test_boxes_are_refused_where_nobody_sees_them(model: str, served: Served) -> None:
    reply = served.chat(ask_about_image(), model=model, p2r={"boxes": BOXES})
    assert (reply.status, reply.error["code"]) == (400, "unsupported_parameter")
    assert reply.error["message"] == f"p2r.boxes: {model} is shown no boxes; ask p2r/m about an image"
    assert served.chat(user("Hi"), p2r={"boxes": BOXES}).status == 400


def test_both_prompts_come_when_they_are_asked_for(served: Served) -> None:
    look: Any = served.chat(ask_about_image(), p2r={"prompts": True}).body["p2r"]
    first, second = (look["stages"][stage]["prompt"] for stage in ("look", "answer"))
    assert "Question: What is on the sail?\nLocate the key visual evidence" in first
    assert "Question: What is on the sail?\nThe key visual regions" in second
    given: Any = served.chat(ask_about_image(), p2r={"prompts": True, "boxes": BOXES}).body["p2r"]
    assert (given["stages"]["look"]["prompt"], given["stages"]["answer"]["prompt"]) == (None, second)
    plain: Any = served.chat(ask_about_image()).body["p2r"]
    assert "prompt" not in plain["stages"]["look"]
