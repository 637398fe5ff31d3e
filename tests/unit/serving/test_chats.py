"""Chats and their answers: a walk where there is an image to look at, in OpenAI's form, with the field `p2r`."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

from p2r import P2R
from p2r.dialogue import Decoding, Prompt
from p2r.models.scripted import ScriptedModel
from p2r.serving.settings import Limits
from p2r.types import Completion, Usage
from tests.fakes.served import ANSWER, BOX, Served, ask_about_image, data_url, read_events, scripted, serve, show, user


class Recorder(ScriptedModel):
    """A scripted model that keeps what it was asked, and counts tokens."""

    def __init__(self, perceiver: str = BOX, reasoner: str = ANSWER) -> None:
        super().__init__({"perceiver": perceiver, "reasoner": reasoner})
        self.asked: list[tuple[Prompt, Decoding]] = []

    async def complete(self, prompt: Prompt, decoding: Decoding) -> Completion:
        self.asked.append((prompt, decoding))
        completion = await super().complete(prompt, decoding)
        return completion.model_copy(update={"usage": Usage(prompt_tokens=100, generated_tokens=7)})


@pytest.fixture
def model() -> Recorder:
    return Recorder()


@pytest.fixture
def served(model: Recorder) -> Iterator[Served]:
    with serve(model) as served:
        yield served


def test_an_image_is_answered_by_a_walk(served: Served) -> None:
    body: Any = served.chat(ask_about_image()).body
    assert body["object"] == "chat.completion"
    assert body["model"] == "p2r/m"
    choice = body["choices"][0]
    assert choice["message"]["content"] == "a star"
    assert choice["message"]["reasoning_content"] == "It is a star."
    assert choice["finish_reason"] == "stop"
    assert body["usage"] == {"prompt_tokens": 200, "completion_tokens": 14, "total_tokens": 214}


def test_the_field_p2r_says_where_the_model_looked(served: Served) -> None:
    look: Any = served.chat(ask_about_image()).body["p2r"]
    assert look["state"] == "found"
    assert look["image_wh"] == [640, 320]
    assert look["boxes"] == [{"label": "sail", "pixels": [64, 64, 192, 128], "per_mille": [100, 200, 300, 400]}]
    assert look["crops"] == [[0, 32, 256, 160]]
    assert look["answer"] == "a star"
    assert look["stages"]["look"]["reply"] == BOX
    assert look["stages"]["answer"]["usage"]["total_tokens"] == 107
    assert look["image_index"] == 0
    assert look["seconds"] > 0
    assert "images" not in look


def test_a_chat_of_one_question_is_asked_exactly_as_p2r_asks(served: Served, model: Recorder) -> None:
    image = Image.effect_mandelbrot((900, 500), (-2, -1, 1, 1), 40).convert("RGB")
    served.chat(user("What is on the sail?", show(data_url(image))))
    offline = Recorder()
    trace = P2R(offline).ask(image, "What is on the sail?")
    assert [asked.text for asked, _ in model.asked] == [asked.text for asked, _ in offline.asked]
    assert [asked.system for asked, _ in model.asked] == [asked.system for asked, _ in offline.asked]
    assert [decoding for _, decoding in model.asked] == [decoding for _, decoding in offline.asked]
    for (here, _), (there, _) in zip(model.asked, offline.asked, strict=True):
        assert [each.tobytes() for each in here.all_images] == [each.tobytes() for each in there.all_images]
    assert str(trace.answer) == "a star"


@pytest.mark.parametrize(
    ("reply", "state"),
    [(BOX, "found"), ("[]", "whole image"), ("It is there.", "unparsed"), ("[[9, 9, 2, 2]]", "unparsed")],
)
def test_the_state_tells_what_came_of_the_look(reply: str, state: str) -> None:
    with serve(scripted(perceiver=reply)) as served:
        look: Any = served.chat(ask_about_image()).body["p2r"]
    assert look["state"] == state


def test_the_images_that_the_model_saw_come_when_they_are_asked_for(served: Served, model: Recorder) -> None:
    look: Any = served.chat(ask_about_image(), p2r={"images": True}).body["p2r"]
    urls = [look["images"]["annotated"], *look["images"]["crops"]]
    images = [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) for url in urls]
    assert [image.tobytes() for image in images] == [image.tobytes() for image in model.asked[-1][0].images]


def test_options_and_the_form_of_the_answer_can_be_stated() -> None:
    for reply in ("<answer>B</answer>", "<answer>a star</answer>"):
        with serve(scripted(reasoner=reply)) as served:
            body: Any = served.chat(ask_about_image(), p2r={"options": ["a fish", "a star"]}).body
        assert body["choices"][0]["message"]["content"] == "B"
        assert body["p2r"]["answer"] == "B. a star"


@pytest.mark.parametrize(
    ("reply", "thought", "content"),
    [
        ("<think>I wonder", "I wonder", ""),
        ("<think>I wonder < 3", "I wonder < 3", ""),
        ("<think>I wonder</think>", "I wonder", ""),
        (" <think>I wonder < 3</think><answer></answer>", "I wonder < 3", ""),
        ("<think>I wonder</think> I do not know", "I wonder", "I do not know"),
        ("I do not know", None, "I do not know"),
    ],
)
def test_a_reply_without_an_answer_is_told_once(reply: str, thought: str | None, content: str) -> None:
    with serve(scripted(reasoner=reply)) as served:
        body: Any = served.chat(ask_about_image()).body
    message = body["choices"][0]["message"]
    assert (message.get("reasoning_content"), message["content"]) == (thought, content)
    assert body["p2r"]["answer"] is None


def test_the_system_and_earlier_turns_are_kept_in_both_stages(served: Served, model: Recorder) -> None:
    served.chat(
        {"role": "system", "content": "Answer in French."},
        user("Hello", show()),
        {"role": "assistant", "content": "Hello. What is it about?"},
        user(show(), "What is on the sail?"),
    )
    look, answer = (asked for asked, _ in model.asked)
    for prompt in (look, answer):
        assert prompt.system == "You are a helpful assistant.\n\nAnswer in French."
        assert [turn.role for turn in prompt.turns] == ["user", "assistant", "user"]
        assert (prompt.turns[0].text, len(prompt.turns[0].images)) == ("Hello", 1)
        assert prompt.turns[1].text == "Hello. What is it about?"
    assert "Locate the key visual evidence" in look.turns[2].text
    assert [len(prompt.turns[2].images) for prompt in (look, answer)] == [1, 2]


def test_of_several_images_the_last_is_looked_at_and_the_others_are_shown(served: Served, model: Recorder) -> None:
    wide, tall = (data_url(Image.new("RGB", size)) for size in ((640, 320), (320, 640)))
    body: Any = served.chat(user(show(wide), show(tall), "Which is taller?")).body
    assert (body["p2r"]["image_index"], body["p2r"]["image_wh"]) == (1, [320, 640])
    assert [image.size for image in model.asked[0][0].all_images] == [(640, 320), (320, 640)]
    assert [image.size for image in model.asked[1][0].all_images][:2] == [(640, 320), (320, 640)]


def test_a_follow_up_looks_again_at_the_image_of_before(served: Served, model: Recorder) -> None:
    turns = (user(show(), "What is it?"), {"role": "assistant", "content": "A boat."}, user("What is on its sail?"))
    body: Any = served.chat(*turns).body
    assert body["p2r"]["state"] == "found"
    assert [len(turn.images) for turn in model.asked[0][0].turns] == [0, 0, 1]


def test_a_stream_tells_the_look_before_the_answer_is_asked_for() -> None:
    order: list[str] = []

    class Slow(Recorder):
        async def complete(self, prompt: Prompt, decoding: Decoding) -> Completion:
            order.append(prompt.role)
            return await super().complete(prompt, decoding)

    with serve(Slow()) as served:
        reply = served.chat(ask_about_image(), stream=True, stream_options={"include_usage": True})
    events: Any = read_events(reply.text)
    assert reply.text.endswith("data: [DONE]\n\n")
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert (events[0]["p2r"]["stage"], events[0]["p2r"]["state"]) == ("look", "found")
    deltas = [event["choices"][0]["delta"] for event in events if event["choices"]]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "It is a star."
    assert "".join(delta.get("content", "") for delta in deltas) == "a star"
    assert events[-2]["choices"][0]["finish_reason"] == "stop"
    assert events[-2]["p2r"]["stage"] == "answer"
    assert events[-1]["usage"]["total_tokens"] == 214
    assert len({event["id"] for event in events}) == 1


def test_a_stream_says_nothing_of_usage_unless_asked(served: Served) -> None:
    assert all("usage" not in event for event in read_events(served.chat(ask_about_image(), stream=True).text))


def test_a_chat_without_an_image_is_the_models_as_it_is(served: Served, model: Recorder) -> None:
    turns = ({"role": "system", "content": "Be short."}, user("Hi", "there"), {"role": "assistant", "content": "Yes?"})
    body: Any = served.chat(*turns, user("What is a sail?")).body
    (prompt, _), *others = model.asked
    assert not others
    assert (prompt.system, prompt.text, [turn.text for turn in prompt.later]) == (
        "Be short.",
        "Hi\nthere",
        ["Yes?", "What is a sail?"],
    )
    assert body["choices"][0]["message"]["content"] == ANSWER
    assert "p2r" not in body


def test_the_model_itself_is_asked_once_with_the_image(served: Served, model: Recorder) -> None:
    body: Any = served.chat(ask_about_image("What is it?"), model="m").body
    assert [prompt.text for prompt, _ in model.asked] == ["What is it?"]
    assert [len(prompt.images) for prompt, _ in model.asked] == [1]
    assert "p2r" not in body


def test_the_model_itself_can_be_streamed(served: Served) -> None:
    events: Any = read_events(served.chat(user("Hi"), model="m", stream=True).text)
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in events) == ANSWER


@pytest.mark.parametrize(("mode", "num_calls"), [("direct", 1), ("thinking", 1), ("tools", 1), ("p2r", 2)])
def test_each_mode_has_a_name(mode: str, num_calls: int, served: Served, model: Recorder) -> None:
    body: Any = served.chat(ask_about_image(), model=f"m:{mode}").body
    assert body["p2r"]["mode"] == mode
    assert len(model.asked) == num_calls


def test_a_dialect_writes_no_more_than_this_server_allows(served: Served, model: Recorder) -> None:
    body: Any = served.chat(ask_about_image(), model="m:tools:deepeyes").body
    assert body["p2r"]["mode"] == "tools:deepeyes"
    assert [decoding.max_new_tokens for _, decoding in model.asked] == [Limits().new_tokens]
    for limit in (50, 1024):
        served.chat(ask_about_image(), model="m:tools:deepeyes", max_tokens=limit)
        assert model.asked[-1][1].max_new_tokens == limit


def test_another_model_may_say_where_to_look() -> None:
    looker, answerer = Recorder(), Recorder(perceiver="[]")
    with serve(answerer, looker=looker) as served:
        look: Any = served.chat(ask_about_image()).body["p2r"]
    assert look["state"] == "found"
    assert (len(looker.asked), len(answerer.asked)) == (1, 1)


def test_the_models_are_listed_and_found(served: Served) -> None:
    names = ["m", "p2r/m", "m:p2r", "m:direct", "m:thinking", "m:tools", "m:zoom"]
    listed: Any = served.ask("/v1/models").body["data"]
    assert [entry["id"] for entry in listed] == names
    assert [served.ask(f"/v1/models/{name}").body["id"] for name in names] == names
    missing = served.ask("/v1/models/other")
    assert (missing.status, missing.error["code"]) == (404, "model_not_found")


def test_health_readiness_and_counters_are_told(served: Served) -> None:
    served.chat(ask_about_image())
    assert served.ask("/healthz").body == {"status": "ok"}
    assert served.ask("/readyz").body == {"status": "ready"}
    counters = served.ask("/metrics").text
    assert 'p2r_walks_total{mode="p2r",state="found"} 1.0' in counters
    assert 'p2r_tokens_total{kind="read"} 200.0' in counters
    assert 'p2r_requests_total{path="/v1/chat/completions",status="200"} 1.0' in counters


def test_the_openapi_page_describes_the_request(served: Served) -> None:
    page: Any = served.ask("/openapi.json").body
    schema = page["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/ChatRequest"}
    assert "messages" in page["components"]["schemas"]["ChatRequest"]["properties"]
    assert "ChatMessage" in page["components"]["schemas"]
