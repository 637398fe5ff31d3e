"""What of a reply can be shown before it is whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from p2r.dialogue import Decoding, Prompt
from p2r.models.scripted import ScriptedModel
from p2r.serving.pieces import ShownText, find_before_stop, find_thought
from p2r.types import Completion
from tests.fakes.endpoint_server import Answer, Call, completion
from tests.fakes.endpoint_server import serve as serve_endpoint
from tests.fakes.served import ANSWER, BOX, ask_about_image, read_events, serve, user
from tests.unit.serving.test_upstream import serve as serve_upstream

REPLY = "<think>It is < a\nstar, I think.</think>\n<answer>a star</answer>"


def show(find_sure: Callable[[str], str], text: str, whole: str) -> tuple[str, str]:
    """What is shown of a text letter by letter, and then at its end."""
    shown = ShownText(find_sure)
    return "".join(map(shown.add, text)), shown.end_with(whole)


def test_reasoning_is_shown_letter_by_letter_without_tags_and_without_the_answer() -> None:
    thought = "It is < a\nstar, I think."
    assert show(find_thought, REPLY, thought) == (thought, "")
    assert show(find_thought, "Without tags, it may be the answer", "") == ("", "")


@pytest.mark.parametrize("cut", range(len(REPLY)))
def test_what_was_shown_is_never_taken_back(cut: int) -> None:
    shown, _ = show(find_thought, REPLY[:cut], "")
    assert "It is < a\nstar, I think.".startswith(shown)


def test_nothing_is_shown_of_a_stop_nor_after_it() -> None:
    assert show(find_before_stop(("STOP", "END")), "one ST two STOP three", "one ST two ") == ("one ST two ", "")
    assert show(find_before_stop(("STOP",)), "one ST", "one ST") == ("one", " ST")
    assert show(find_before_stop(()), "one", "one") == ("one", "")
    assert show(find_before_stop(("a long stop",)), "a long stop", "") == ("", "")
    assert show(find_before_stop(("a long stop",)), "a long", "a long") == ("", "a long")


def test_an_end_that_is_not_what_was_shown_adds_nothing() -> None:
    shown = ShownText(find_before_stop(()))
    assert shown.add("one") == "one"
    assert shown.end_with("two") == ""


class Telling(ScriptedModel):
    """A model that tells its reply word by word."""

    async def stream(self, prompt: Prompt, decoding: Decoding, on_text: Callable[[str], None]) -> Completion:
        completion = await self.complete(prompt, decoding)
        for word in completion.text.split(" "):
            on_text(f"{word} ")
        return completion


ZOOM = (
    '<think>Too small.</think><tool_call>{"name": "image_zoom_in_tool", "arguments": {"bbox_2d": [0, 0, 9, 9]}}'
    "</tool_call>"
)
REPLIES = (
    REPLY,
    "<think>I wonder",
    "<think>I wonder < 3",
    "<think>I wonder</think>",
    "<think>I wonder</think> I do not know",
    "<think>I wonder</think> So: <answer>a star</answer>",
    "<think>I wonder. The answer is a star.</think>",
    "<think>I wonder <answer>a star</answer></think>",
    "I wonder. The answer is a star.",
    "I do not know",
    "",
)


@pytest.mark.parametrize("mode", ["p2r/m", "m:thinking", "m:direct", "m:tools", "m:zoom"])
@pytest.mark.parametrize("reply", REPLIES)
def test_a_stream_says_what_a_whole_reply_says(reply: str, mode: str) -> None:
    calls = [ZOOM, reply] * 2 if mode == "m:tools" else reply
    with serve(Telling({"perceiver": "Yes", "reasoner": calls})) as served:
        events: Any = read_events(served.chat(ask_about_image(), model=mode, stream=True).text)
        body: Any = served.chat(ask_about_image(), model=mode).body
    whole, deltas = body["choices"][0]["message"], [event["choices"][0]["delta"] for event in events]
    for name in ("reasoning_content", "content"):
        assert "".join(delta.get(name, "") for delta in deltas) == whole.get(name, "")
    assert whole.get("reasoning_content", "") not in whole["content"] or not whole.get("reasoning_content")


@pytest.mark.parametrize("mode", ["p2r/m", "m:thinking", "m:direct"])
def test_a_walk_streams_its_reasoning_and_then_the_answer(mode: str) -> None:
    with serve(Telling({"perceiver": BOX, "reasoner": REPLY})) as served:
        text = served.chat(ask_about_image(), model=mode, stream=True).text
        whole: Any = served.chat(ask_about_image(), model=mode).body["choices"][0]["message"]
    events: Any = read_events(text)
    deltas = [event["choices"][0]["delta"] for event in events]
    thoughts = [delta["reasoning_content"] for delta in deltas if "reasoning_content" in delta]
    assert "".join(thoughts) == whole["reasoning_content"] == "It is < a\nstar, I think."
    assert len(thoughts) == (1 if mode == "m:direct" else 5)
    assert [delta["content"] for delta in deltas if delta.get("content")] == ["a star"]


def test_the_model_itself_streams_its_text() -> None:
    with serve(Telling({"reasoner": "one two three"})) as served:
        events: Any = read_events(served.chat(user("Hi"), model="m", stream=True, stop="three").text)
    deltas = [event["choices"][0]["delta"] for event in events]
    assert deltas[0]["role"] == "assistant"
    contents = [delta["content"] for delta in deltas if "content" in delta]
    assert "".join(contents) == "one two "
    assert len(contents) > 1


def test_an_upstream_streams_into_a_walk() -> None:
    def answer(call: Call) -> Answer:
        if "stream" not in call.body:
            return completion(BOX, prompt_tokens=9)
        events = [{"choices": [{"delta": {"content": f"{word} "}}]} for word in REPLY.split(" ")]
        events.append({"choices": [{"delta": {}, "finish_reason": "stop"}]})
        text = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
        return Answer(body=text, headers=(("content-type", "text/event-stream"),))

    with serve_endpoint(answer) as upstream, serve_upstream(upstream.url) as served:
        events: Any = read_events(served.chat(ask_about_image(), stream=True).text)
    thoughts = [event["choices"][0]["delta"].get("reasoning_content") for event in events]
    assert len([thought for thought in thoughts if thought]) == 5
    assert ANSWER not in str(thoughts)
    assert events[-1]["p2r"]["answer"] == "a star"
