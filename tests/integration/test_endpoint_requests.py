"""What is sent to a server, and how a reply is read: against a real HTTP server."""

from __future__ import annotations

import asyncio
import base64
import gc
import io
import logging
import threading
from pathlib import Path
from typing import cast
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from PIL import Image

from p2r.dialogue import Decoding, Prompt
from p2r.errors import EndpointError
from p2r.models.cached import CachedModel, ReplyCache
from p2r.models.server.model import EndpointModel
from p2r.models.server.token_check import ImageCheck
from p2r.models.server.transport import Transport
from p2r.types import Completion
from tests.fakes.endpoint_server import Answer, Call, completion, refusal, serve

SHORT = Decoding(max_new_tokens=16)


def noise(width: int = 256, height: int = 288) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def connect(
    url: str, *, transport: Transport = "auto", concurrency: int = 16, image_check: ImageCheck = "auto"
) -> EndpointModel:
    return EndpointModel.connect(
        f"{url}#Qwen3-VL-4B", transport=transport, concurrency=concurrency, image_check=image_check, api_key="",
        retry_wait_s=0.001,
    )  # fmt: skip


def prompt(*images: Image.Image, text: str = "Where is the small red sail?") -> Prompt:
    return Prompt("perceiver", "Be brief.", text, images, "test")


def ask(model: EndpointModel, *images: Image.Image, decoding: Decoding = SHORT) -> Completion:
    return asyncio.run(model.complete(prompt(*images), decoding))


def sent_urls(call: Call) -> list[str]:
    content = cast("list[dict[str, object]]", cast("list[dict[str, object]]", call.body["messages"])[-1]["content"])
    assert [part["type"] for part in content][-1] == "text"
    return [cast("dict[str, str]", part["image_url"])["url"] for part in content[:-1]]


def decode(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")


def same(first: Image.Image, second: Image.Image) -> bool:
    return np.array_equal(np.asarray(first), np.asarray(second))


@pytest.mark.parametrize(("transport", "kind"), [("auto", "bmp"), ("bmp", "bmp"), ("webp", "webp"), ("png", "png")])
def test_images_arrive_bit_for_bit_and_in_order(transport: Transport, kind: str) -> None:
    images = (noise(256, 288), noise(288, 256))
    with serve(completion()) as server:
        ask(connect(server.url, transport=transport), *images)
        urls = sent_urls(server.chats[0])
    assert all(url.startswith(f"data:image/{kind};base64,") for url in urls)
    assert all(same(decode(url), image) for url, image in zip(urls, images, strict=True))


def test_jpeg_is_sent_only_on_request() -> None:
    with serve(completion()) as server:
        ask(connect(server.url, transport="jpeg"), noise())
        assert sent_urls(server.chats[0])[0].startswith("data:image/jpeg;base64,")


def test_files_are_readable_while_the_server_answers_and_gone_afterwards() -> None:
    seen: list[Path] = []
    sent = noise()

    def read(call: Call) -> Answer:
        path = Path(unquote(urlsplit(sent_urls(call)[0]).path))
        seen.append(path)
        with Image.open(path) as image:
            return completion(str(same(image.convert("RGB"), sent)))

    with serve(read) as server:
        assert ask(connect(server.url, transport="file"), sent).text == "True"
    assert not seen[0].exists()


def test_a_server_that_may_not_read_files_says_so() -> None:
    message = "Cannot load local files without `--allowed-local-media-path`."
    with serve(refusal(400, message)) as server, pytest.raises(Exception, match="does not read local files"):
        ask(connect(server.url, transport="file"), noise())


def test_the_request_holds_prompt_and_decoding() -> None:
    decoding = Decoding(max_new_tokens=77, temperature=0.5, top_p=0.9, repetition_penalty=1.05, seed=3)
    with serve(completion()) as server:
        ask(connect(server.url), decoding=decoding)
        body = server.chats[0].body
    assert body["model"] == "Qwen3-VL-4B"
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Where is the small red sail?"}]},
    ]
    assert (body["temperature"], body["top_p"], body["max_tokens"], body["seed"]) == (0.5, 0.9, 77, 3)
    assert body["repetition_penalty"] == 1.05


def test_greedy_decoding_leaves_nothing_to_the_models_defaults() -> None:
    with serve(completion()) as server:
        ask(connect(server.url))
        body = server.chats[0].body
    assert body["temperature"] == 0
    assert body["repetition_penalty"] == body["repeat_penalty"] == 1.0
    assert not body.keys() & {"seed", "frequency_penalty", "top_k"}


def test_sampling_switches_the_models_own_cuts_off() -> None:
    with serve(completion()) as server:
        ask(connect(server.url), decoding=Decoding(max_new_tokens=8, temperature=1.0))
        body = server.chats[0].body
    assert (body["top_p"], body["top_k"], body["min_p"]) == (1.0, -1, 0.0)


def test_the_key_is_sent_as_bearer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-from-environment")
    with serve(completion()) as server:
        asyncio.run(EndpointModel.connect(f"{server.url}#m").complete(prompt(), SHORT))
        asyncio.run(EndpointModel.connect(f"{server.url}#m", api_key="sk-argument").complete(prompt(), SHORT))
        sent = [call.headers["authorization"] for call in server.chats]
    assert sent == ["Bearer sk-from-environment", "Bearer sk-argument"]


PENALTY = Decoding(max_new_tokens=16, repetition_penalty=1.05)


def test_a_server_without_repetition_penalty_is_asked_without_it_from_then_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    unknown = refusal(400, "Unrecognized request argument supplied: repetition_penalty")
    with serve(unknown, completion("one"), completion("two")) as server:
        model = connect(server.url)
        assert ask(model, decoding=PENALTY).text == "one"
        assert ask(model, decoding=PENALTY).text == "two"
        assert ask(model, decoding=SHORT).text == "two"
        assert len(server.chats) == 4
        assert not any("penalty" in field for call in server.chats[1:] for field in call.body)
    assert [record.levelname for record in caplog.records if "repetition penalty" in record.message] == ["WARNING"]


def test_transformers_serve_gets_the_penalty_in_its_own_words(caplog: pytest.LogCaptureFixture) -> None:
    unknown = Answer(422, '{"detail": "Unexpected fields in the request: {\'repetition_penalty\'}"}')
    with serve(unknown, completion()) as server:
        ask(connect(server.url), decoding=PENALTY)
        assert 1.0 + cast(float, server.chats[1].body["frequency_penalty"]) == 1.05
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_server_that_wants_max_completion_tokens_gets_them() -> None:
    message = (
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    )
    with serve(refusal(400, message), completion()) as server:
        ask(connect(server.url))
        body = server.chats[1].body
    assert body["max_completion_tokens"] == 16
    assert "max_tokens" not in body


def test_a_server_that_cannot_read_bmp_gets_webp_then_png() -> None:
    refused = refusal(400, "Failed to load image: cannot identify image file")
    with serve(refused, refused, completion()) as server:
        model = connect(server.url)
        ask(model, noise())
        kinds = [sent_urls(call)[0].partition(";")[0] for call in server.chats]
    assert kinds == ["data:image/bmp", "data:image/webp", "data:image/png"]
    assert model.dialect.transport == "png"


def test_usage_and_name_are_in_the_completion() -> None:
    with serve(completion("fine", prompt_tokens=110), completion("", prompt_tokens=36)) as server:
        done = ask(connect(server.url), noise(256, 288))
    assert done.model == "Qwen3-VL-4B"
    assert done.usage.visual_tokens == (72,)
    assert (done.usage.prompt_tokens, done.usage.generated_tokens) == (110, 3)
    assert done.seconds > 0


def test_a_server_without_usage_is_fine() -> None:
    with serve(completion("fine")) as server:
        assert ask(connect(server.url), noise()).usage.prompt_tokens is None


def test_a_thought_that_the_server_took_out_is_put_back() -> None:
    with serve(completion("<answer>B</answer>", reasoning_content="It is blue.")) as server:
        assert ask(connect(server.url)).text == "<think>It is blue.</think><answer>B</answer>"


def test_no_more_requests_are_under_way_than_allowed() -> None:
    gate, lock = threading.Event(), threading.Lock()
    under_way: list[int] = [0]
    most: list[int] = [0]

    def slow(call: Call) -> Answer:
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        return Answer(body=completion().body, gate=gate)

    with serve(slow) as server:
        model = connect(server.url, concurrency=3)

        async def ask_all() -> None:
            calls = [asyncio.create_task(model.complete(prompt(), SHORT)) for _ in range(8)]
            while most[0] < 3:
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.1)
            assert len(server.chats) == 3
            gate.set()
            await asyncio.gather(*calls)

        asyncio.run(ask_all())
        assert len(server.chats) == 8


def test_one_model_serves_several_event_loops_and_leaves_nothing_open_in_any(caplog: pytest.LogCaptureFixture) -> None:
    async def collect() -> None:
        gc.collect()
        await asyncio.sleep(0)

    with serve(completion("fine")) as server:
        model = connect(server.url)
        for _ in range(3):
            assert ask(model).text == "fine"
            asyncio.run(collect())  # what a loop left open would be closed here, in the wrong loop
    assert not caplog.records


def test_a_shrunken_image_is_noticed_once(caplog: pytest.LogCaptureFixture) -> None:
    with serve(completion("fine", prompt_tokens=90)) as server:
        model = connect(server.url, image_check="never")
        for _ in range(3):
            assert ask(model, noise(512, 512)).altered == "shrunk"
    told = [record for record in caplog.records if "shrinks images" in record.message]
    assert len(told) == 1


def test_an_untouched_image_is_not_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    with serve(completion("fine", prompt_tokens=256 + 25), completion("", prompt_tokens=23)) as server:
        assert ask(connect(server.url), noise(512, 512)).altered == ""
    assert not caplog.records


def test_a_server_that_breaks_on_a_format_without_saying_why_gets_the_next(caplog: pytest.LogCaptureFixture) -> None:
    broken = Answer(500, "Internal Server Error")
    with serve(broken, completion("one"), broken, completion("two")) as server:
        model = connect(server.url, image_check="never")
        assert ask(model, noise()).text == "one"
        assert ask(model, noise()).text == "two"  # now that it has read one, a 500 is a fault like any other
        kinds = [sent_urls(call)[0].partition(";")[0] for call in server.chats]
    assert kinds == ["data:image/bmp"] + ["data:image/webp"] * 3
    assert not [record for record in caplog.records if record.name.startswith("p2r")]


def test_a_late_failure_on_a_format_is_asked_again_in_the_one_found_meanwhile() -> None:
    """Of two first requests, one fails on the format only after the other has been read in the next format."""
    both_have_come, one_is_read = threading.Event(), threading.Event()
    gates = iter((both_have_come, one_is_read))

    def answer(call: Call) -> Answer:
        if sent_urls(call)[0].startswith("data:image/bmp"):
            if (gate := next(gates)) is one_is_read:
                both_have_come.set()
            return Answer(500, "Internal Server Error", gate=gate)
        return completion("fine")

    async def ask_both(model: EndpointModel) -> list[str]:
        tasks = [asyncio.create_task(model.complete(prompt(noise()), SHORT)) for _ in range(2)]
        for task in tasks:
            task.add_done_callback(lambda _: one_is_read.set())
        return [reply.text for reply in await asyncio.gather(*tasks)]

    with serve(answer) as server:
        assert asyncio.run(ask_both(connect(server.url))) == ["fine"] * 2
        kinds = [sent_urls(call)[0].partition(";")[0].removeprefix("data:image/") for call in server.chats]
    assert kinds == ["bmp", "bmp", "webp", "webp"]


def test_a_server_that_breaks_on_every_format_is_asked_with_the_first_again() -> None:
    with serve(Answer(500, "Internal Server Error")) as server:
        model = connect(server.url)
        with pytest.raises(EndpointError, match=r"failed \(500\)"):
            ask(model, noise())
        kinds = [sent_urls(call)[0].partition(";")[0].removeprefix("data:image/") for call in server.chats]
    assert kinds == ["bmp", "webp", "png", "png", "png", "png"]
    assert model.dialect.transport == "bmp"


def test_a_server_with_its_own_temperature_is_asked_without_one_and_this_is_said_once(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """OpenAI's newer models. Each reply says that it was drawn, and a cache does not keep it."""

    def answer(call: Call) -> Answer:
        for name in ("temperature", "top_p"):
            if name in call.body:
                return refusal(400, f"Unsupported parameter: {name!r} is not supported with this model.")
        return completion("fine")

    with serve(answer) as server:
        model = CachedModel(connect(server.url), "it", ReplyCache(tmp_path))
        replies = [asyncio.run(model.complete(prompt(), SHORT)) for _ in range(3)]
        assert len(server.chats) == 5
    assert [reply.reworded for reply in replies] == [("temperature",)] * 3
    assert [reply.reused for reply in replies] == ["", "", ""]
    assert [record.message for record in caplog.records if "temperature" in record.message] == [
        f"{server.url} draws its replies at its own temperature, not greedily as they were asked for; the same "
        "question may get another answer"
    ]


def test_a_server_without_a_systems_role_gets_its_words_with_the_question() -> None:
    def answer(call: Call) -> Answer:
        roles = [message["role"] for message in cast("list[dict[str, object]]", call.body["messages"])]
        return refusal(400, "System role not supported") if "system" in roles else completion("fine")

    with serve(answer) as server:
        reply = ask(connect(server.url))
        content = cast("list[dict[str, object]]", server.chats[-1].body["messages"])[0]["content"]
    assert reply.reworded == ("system",)
    assert cast("list[dict[str, str]]", content)[-1]["text"] == "Be brief.\n\nWhere is the small red sail?"


@pytest.mark.parametrize(
    ("name", "refuses", "reworded"),
    [("Qwen/Qwen3.5-9B", False, ()), ("qwen3.6-27b", True, ("thinking",)), ("Qwen3-VL-4B", True, ())],
)
def test_a_family_that_may_think_first_is_asked_not_to(name: str, refuses: bool, reworded: tuple[str, ...]) -> None:
    def answer(call: Call) -> Answer:
        if refuses and "chat_template_kwargs" in call.body:
            return refusal(400, "Unrecognized request argument supplied: chat_template_kwargs")
        return completion("fine")

    with serve(answer) as server:
        reply = ask(EndpointModel.connect(f"{server.url}#{name}", api_key="", retry_wait_s=0.001))
        said = [call.body.get("chat_template_kwargs") for call in server.chats]
    assert reply.reworded == reworded
    off = {"enable_thinking": False}
    assert said == ([None] if "VL" in name else [off, None] if refuses else [off])


def test_a_server_that_allows_fewer_tokens_is_asked_for_as_many() -> None:
    def answer(call: Call) -> Answer:
        most = cast("int", call.body["max_tokens"])
        return (
            completion("cut", finish_reason="length")
            if most <= 8
            else refusal(400, f"max_tokens is too large: {most}. This model supports at most 8 completion tokens.")
        )

    with serve(answer) as server:
        reply = ask(connect(server.url))
    assert (reply.finish_reason, reply.reworded) == ("length", ("max_new_tokens",))
