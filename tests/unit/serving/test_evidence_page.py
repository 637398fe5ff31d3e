"""POST /v1/evidence: the page of an answer, from what the client sends again."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from p2r import P2R
from p2r.images.load import MemoryImage
from p2r.models.scripted import ScriptedModel
from p2r.report.asked.page import build_asked_report
from p2r.runs.asked import AskedPlace, AskedQuestions
from p2r.serving.settings import Access, Limits
from p2r.types import Trace
from tests.fakes.served import ANSWER, BOX, Reply, Served, ask_about_image, data_url, scripted, serve
from tests.fakes.served_page import Watched

Json = Any
FOLDER = "/home/somebody/checkpoints/step_9"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serve(ScriptedModel({"perceiver": BOX, "reasoner": ANSWER}, name=FOLDER)) as served:
        yield served


def ask_for_trace(served: Served, **options: object) -> Json:
    body: Any = served.chat(ask_about_image(), p2r={"trace": True, **options}).body
    return body["p2r"]["trace"]


def write(served: Served, trace: object, image: str | None = None) -> Reply:
    return served.ask("/v1/evidence", {"image": image or data_url(), "trace": trace})


def test_the_trace_is_whole_and_names_the_model_as_clients_do(served: Served) -> None:
    trace = Trace.model_validate(ask_for_trace(served))
    assert trace.perception is not None and trace.perception.completion is not None and trace.reasoning is not None
    assert (trace.perception.completion.model, trace.reasoning.model, trace.reasoning.text) == ("m", "m", ANSWER)
    assert "trace" not in str(served.chat(ask_about_image()).body["p2r"])
    assert FOLDER not in served.chat(ask_about_image(), p2r={"trace": True}).text


def test_the_page_is_the_one_that_p2r_ask_writes(served: Served) -> None:
    page = str(write(served, ask_for_trace(served)).body["page"])
    image = MemoryImage(Image.new("RGB", (640, 320), "navy"), name="image 1")
    asker = P2R(ScriptedModel({"perceiver": BOX, "reasoner": ANSWER}, name="m"))
    trace = asker.ask(image, "What is on the sail?")
    group = AskedQuestions(image.uri, (trace,), place=AskedPlace(working_directory="", budget=asker.budget))
    expected = build_asked_report([group], images={image.uri: image})
    seconds = r"\d+\.\d\d s\b"  # which no two answers share
    assert re.sub(seconds, "", page) == re.sub(seconds, "", expected)


def test_its_styles_and_its_printing_are_those_of_the_page_at_the_root(served: Served) -> None:
    page = str(write(served, ask_for_trace(served)).body["page"])
    for name in ("kit.css", "print.js"):
        assert served.ask(f"/page/{name}").text in page


@pytest.mark.parametrize("options", [{"boxes": [{"per_mille": [0, 0, 1000, 1000]}]}, {"options": ["a star", "a fish"]}])
def test_every_trace_of_this_server_has_a_page(options: dict[str, object], served: Served) -> None:
    assert write(served, ask_for_trace(served, **options)).status == 200


@pytest.mark.parametrize("mode", ["direct", "thinking", "p2r"])
def test_every_mode_has_a_page(mode: str, served: Served) -> None:
    body: Any = served.chat(ask_about_image(), model=f"m:{mode}", p2r={"trace": True}).body
    assert write(served, body["p2r"]["trace"]).status == 200


def test_what_a_trace_says_stays_text(served: Served) -> None:
    attack = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    trace = ask_for_trace(served)
    trace["question"] = trace["image"] = trace["sample_id"] = trace["benchmark"] = trace["category"] = attack
    trace["reasoning"]["text"] = trace["answer"]["text"] = trace["perception"]["boxes"][0]["label"] = attack
    trace["reasoning"]["model"] = attack
    reply = write(served, trace)
    page = str(reply.body["page"])
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page and "<img src=x" not in page
    assert reply.headers["content-type"] == "application/json"  # so that no browser takes it for a page of ours


def forge(trace: Json, **record: object) -> Json:
    return {**trace, "evidence": {**trace["evidence"], **record}}


def test_a_forged_trace_is_refused(served: Served) -> None:
    trace = ask_for_trace(served)
    forged = [
        forge(trace, crops=[[0, 0, 1_000_000, 1_000_000]]),
        forge(trace, crops=[[-99, -99, 9, 9]]),
        forge(trace, image_wh=[4, 4]),
        forge(trace, annotated=False),
        {**trace, "evidence": None},
        {**trace, "perception": None},
    ]
    for each in forged:
        reply = write(served, each)
        assert (reply.status, reply.error["param"]) == (400, "trace")
        assert reply.error["message"] == "the trace is not about this image of 640 x 320 pixels"
    assert write(served, trace, data_url(Image.new("RGB", (64, 64)))).status == 400


def test_no_file_of_this_machine_is_read(served: Served, tmp_path: Path) -> None:
    Image.new("RGB", (640, 320), "red").save(tmp_path / "secret.png")
    trace = {**ask_for_trace(served), "image": str(tmp_path / "secret.png")}
    page = str(write(served, trace).body["page"])
    assert "secret" not in page
    assert re.sub(r"\d+\.\d\d s", "", page) == re.sub(
        r"\d+\.\d\d s", "", str(write(served, ask_for_trace(served)).body["page"])
    )
    assert write(served, trace, f"file://{tmp_path}/secret.png").status == 400


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "image"),
        ({"image": "x"}, "trace"),
        ({"image": 3, "trace": {}}, "image"),
        ({"image": "data:,", "trace": {"sample_id": "a"}}, "trace.image"),
        ({"image": "data:,", "trace": {"sample_id": "a", "image": "a", "question": "q", "extra": 1}}, "trace.extra"),
        ({"image": "data:,", "trace": {"sample_id": "a", "image": "a", "question": "q"}, "more": 1}, "more"),
    ],
)
def test_what_is_missing_or_unknown_is_named(body: object, param: str, served: Served) -> None:
    reply = served.ask("/v1/evidence", body)
    assert (reply.status, reply.error["param"]) == (400, param)


def test_it_has_the_limits_and_the_keys_of_every_request() -> None:
    limits = Limits(prompt_chars=3000, image_pixels=300_000)
    with serve(scripted(), limits=limits) as served:
        trace = ask_for_trace(served)
        assert write(served, trace).status == 200
        assert write(served, {**trace, "question": "why? " * 600}).error["code"] == "prompt_too_long"
        assert write(served, trace, data_url(Image.new("RGB", (640, 640)))).error["code"] == "image_too_large"
        assert 'path="/v1/evidence",status="200"' in served.ask("/metrics").text
        assert served.application.line.num_inside == 0
    with serve(access=Access(keys=("k",))) as served:
        assert write(served, trace).status == 401


def test_it_waits_in_line_with_the_questions() -> None:
    model = Watched()
    with serve(model, limits=Limits(num_at_once=1, num_waiting=1)) as served:
        trace, line = ask_for_trace(served), served.application.line
        replies: list[Reply] = []
        asking = threading.Thread(target=lambda: served.chat(ask_about_image()))
        writing = threading.Thread(target=lambda: replies.append(write(served, trace)))
        model.may_look.clear()
        for number, thread in enumerate((asking, writing), start=1):
            thread.start()
            wait_until(lambda number=number: line.num_inside == number)
        assert write(served, trace).status == 429
        writing.join(1)
        assert writing.is_alive() and line.num_running == 1  # the model is still at its question
        model.may_look.set()
        writing.join(60)
        assert [reply.status for reply in replies] == [200]
        asking.join(60)


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
