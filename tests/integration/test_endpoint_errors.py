"""What can go wrong with a server: each fault from a real HTTP server, each told in one sentence with a hint."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest
from PIL import Image

from p2r.dialogue import Decoding, Prompt
from p2r.errors import ConfigError, DataError, EndpointError
from p2r.models.load import load_model
from p2r.models.server.model import ATTEMPTS, EndpointModel
from p2r.types import Completion
from tests.fakes.endpoint_server import Answer, completion, refusal, serve

SHORT = Decoding(max_new_tokens=16)
IMAGE = Image.new("RGB", (128, 128), "red")
KEY = "sk-secret-0123456789"


def connect(url: str, *, timeout_s: float = 60.0, name: str = "qwen3-vl") -> EndpointModel:
    return EndpointModel.connect(f"{url}#{name}", timeout_s=timeout_s, api_key=KEY, retry_wait_s=0.001)


def ask(model: EndpointModel, *images: Image.Image) -> Completion:
    prompt = Prompt("perceiver", "Be brief.", "Where is the cat?", images or (IMAGE,), "test")
    return asyncio.run(model.complete(prompt, SHORT))


def fail(model: EndpointModel, *images: Image.Image) -> EndpointError:
    with pytest.raises(EndpointError) as caught:
        ask(model, *images)
    assert KEY not in str(caught.value)
    assert KEY not in repr(model)
    assert "\n" not in caught.value.message
    return caught.value


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_server_that_is_down_is_unreachable() -> None:
    error = fail(connect(f"http://127.0.0.1:{free_port()}/v1"))
    assert error.message.startswith("cannot reach http://127.0.0.1:")
    assert "is the server running" in error.hint


def test_a_server_that_is_down_is_unreachable_when_asked_for_its_models() -> None:
    with pytest.raises(EndpointError, match="cannot reach"):
        load_model(f"http://127.0.0.1:{free_port()}/v1")


def test_a_slow_server_runs_into_the_time_limit() -> None:
    gate = threading.Event()
    with serve(Answer(gate=gate)) as server:
        error = fail(connect(server.url, timeout_s=0.2))
        gate.set()
    assert "did not reply within 0.2 seconds" in error.message
    assert "timeout_s" in error.hint


def test_a_wrong_path_is_told_and_not_retried() -> None:
    with serve(completion()) as server:
        error = fail(connect(server.url.removesuffix("/v1") + "/api"))
        assert len(server.chats) == 1
    assert "no chat completions (404)" in error.message
    assert "/v1" in error.hint


def test_too_many_requests_are_retried_until_they_succeed() -> None:
    with serve(refusal(429, "slow down"), refusal(429, "slow down"), completion("fine")) as server:
        assert ask(connect(server.url)).text == "fine"
        assert len(server.chats) == 3


def test_the_wait_that_a_server_asks_for_is_kept() -> None:
    asked_for = Answer(429, "{}", headers=(("retry-after", "0.3"),))
    with serve(asked_for, completion("fine")) as server:
        loop_time: list[float] = []

        async def timed() -> None:
            loop = asyncio.get_running_loop()
            started = loop.time()
            prompt = Prompt("perceiver", "", "Where?", (), "test")
            await connect(server.url).complete(prompt, SHORT)
            loop_time.append(loop.time() - started)

        asyncio.run(timed())
    assert loop_time[0] >= 0.3


def test_too_many_requests_for_ever_end_with_a_hint() -> None:
    with serve(refusal(429, "slow down")) as server:
        error = fail(connect(server.url))
        assert len(server.chats) == ATTEMPTS
    assert "asked too often (429): slow down" in error.message
    assert "num_at_once" in error.hint


def test_an_exhausted_account_is_not_retried() -> None:
    with serve(refusal(429, "You exceeded your current quota", code="insufficient_quota")) as server:
        fail(connect(server.url))
        assert len(server.chats) == 1


@pytest.mark.parametrize(("status", "num_formats"), [(500, 3), (502, 1), (503, 1)])
def test_a_server_that_always_fails_is_asked_a_few_times_only(status: int, num_formats: int) -> None:
    """A 500 may be about the image's format, so the first prompt with images also tries the other formats."""
    with serve(Answer(status, "Internal Server Error")) as server:
        error = fail(connect(server.url))
        assert len(server.chats) == ATTEMPTS + num_formats - 1
    what = "is not ready" if status == 503 else "failed"
    assert f"{what} ({status}): Internal Server Error" in error.message
    assert ("load its model" in error.hint) == (status == 503)


def test_a_connection_that_breaks_is_tried_again() -> None:
    with serve(Answer(hang_up=True), completion("fine")) as server:
        assert ask(connect(server.url)).text == "fine"


def test_malformed_json_is_no_reply() -> None:
    with serve(Answer(body='{"choices": [')) as server:
        error = fail(connect(server.url))
        assert len(server.chats) == 1
    assert "not JSON" in error.message


def test_a_web_page_is_no_reply() -> None:
    with serve(Answer(body="<html>hello</html>", headers=(("content-type", "text/html"),))) as server:
        assert "not JSON: '<html>hello</html>'" in fail(connect(server.url)).message


@pytest.mark.parametrize("body", ["{}", "[]", '{"choices": []}', '{"choices": [{"text": "old"}]}', '"hello"'])
def test_other_json_is_no_reply(body: str) -> None:
    with serve(Answer(body=body)) as server:
        assert "not a chat completion" in fail(connect(server.url)).message


@pytest.mark.parametrize("text", ["", "  \n", None])
def test_an_empty_reply_is_an_error(text: str | None) -> None:
    with serve(completion(text)) as server:
        assert "empty reply" in fail(connect(server.url)).message


def test_a_reply_cut_off_before_its_first_word_is_an_error() -> None:
    with serve(completion("", finish_reason="length")) as server:
        error = fail(connect(server.url))
    assert "cut the reply off" in error.message
    assert "`perceiver_new_tokens`" in error.hint


def test_a_reply_cut_off_later_is_a_reply_that_says_so() -> None:
    with serve(completion('[{"bbox_2d": [1', finish_reason="length")) as server:
        assert ask(connect(server.url)).finish_reason == "length"


def test_a_withheld_reply_is_an_error() -> None:
    with serve(completion("I cannot", finish_reason="content_filter")) as server:
        assert "withheld" in fail(connect(server.url)).message


@pytest.mark.parametrize(
    "answer",
    [
        refusal(404, "The model `qwen3-vl` does not exist.", code="model_not_found"),  # vLLM, OpenAI
        Answer(404, '{"object": "error", "message": "The model `qwen3-vl` does not exist.", "code": 404}'),
        Answer(400, "{\"detail\": \"Server is pinned to 'other'; requested 'qwen3-vl'.\"}"),  # transformers serve
    ],
)
def test_an_unknown_model_is_told_with_those_that_there_are(answer: Answer) -> None:
    with serve(answer, models=["first", "second"]) as server:
        error = fail(connect(server.url))
        assert len(server.chats) == 1
    assert "has no model 'qwen3-vl'" in error.message
    assert error.hint == "it has first, second"


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_told_without_showing_it(status: int) -> None:
    with serve(refusal(status, f"Incorrect API key provided: {KEY}.")) as server:
        error = fail(connect(server.url))
        assert len(server.chats) == 1
    assert f"refused the API key ({status})" in error.message
    assert "***" in error.message
    assert "OPENAI_API_KEY" in error.hint


@pytest.mark.parametrize(
    "message",
    [
        "At most 1 image(s) may be provided in one prompt.",
        "You set image=2 (or defaulted to 1) in `--limit-mm-per-prompt`, but passed 3 image items in the same prompt.",
    ],
)
def test_too_many_images_are_told(message: str) -> None:
    with serve(refusal(400, message)) as server:
        error = fail(connect(server.url), IMAGE, IMAGE, IMAGE)
        assert len(server.chats) == 1
    assert "fewer than the 3 images" in error.message
    assert "--limit-mm-per-prompt" in error.hint


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "This model's maximum context length is 8192 tokens. However, you requested 254457 tokens."),
        (400, "The decoder prompt (length 10127) is longer than the maximum model length of 8192."),
        (400, "the request exceeds the available context size, try increasing it"),
        (500, "input is larger than the max context size. skipped"),
    ],
)
def test_a_context_too_long_is_told_and_not_retried(status: int, message: str) -> None:
    with serve(refusal(status, message)) as server:
        error = fail(connect(server.url))
        assert len(server.chats) == 1
    assert "the prompt (16 visual tokens) does not fit" in error.message
    assert "max_pixels" in error.hint


def test_new_tokens_beyond_the_context_are_told_as_that() -> None:
    """vLLM refuses 2,049 new tokens of 2,048, however short the prompt is."""
    message = "max_tokens=16 cannot be greater than max_model_len=max_total_tokens=8. (parameter=max_tokens, value=16)"
    with serve(refusal(400, message)) as server:
        error = fail(connect(server.url))
        assert len(server.chats) == 1
    assert "has no room for 16 new tokens beside the prompt (16 visual tokens)" in error.message
    assert "`perceiver_new_tokens`" in error.hint and "max_pixels" not in error.hint


def test_an_engine_that_has_died_is_told_and_not_retried() -> None:
    with serve(refusal(500, "EngineCore encountered an issue. See stack trace (above) for the root cause.")) as server:
        error = fail(connect(server.url))
        assert len(server.chats) == 1
    assert "the engine of http://127.0.0.1" in error.message and "has died" in error.message
    assert "start the server again" in error.hint


def test_a_question_with_the_placeholder_of_an_image_is_not_sent() -> None:
    prompt = Prompt("perceiver", "", "What is <|image_pad|>?", (IMAGE,), "test")
    with (
        serve(completion()) as server,
        pytest.raises(DataError, match=r"holds <\|image_pad\|>, which stands for an image"),
    ):
        asyncio.run(connect(server.url).complete(prompt, SHORT))
    assert server.chats == []


@pytest.mark.parametrize(
    "answer",
    [
        refusal(400, "qwen3 is not a multimodal model"),  # vLLM
        refusal(400, "At most 0 image(s) may be provided in one prompt."),
        refusal(500, "image input is not supported - hint: you may need to provide the mmproj"),  # llama.cpp
        refusal(400, "Model does not support images. Please use a model that does."),  # LM Studio
        Answer(200, '{"error": {"message": "ValueError: Vision add-on is not loaded, but images were provided"}}'),
        Answer(200, '{"error": "Model does not support images. Please use a model that does."}'),
    ],
)
def test_a_model_without_eyes_is_told_and_not_retried(answer: Answer) -> None:
    with serve(answer) as server:
        error = fail(connect(server.url))
        assert len(server.chats) == 1
    assert "takes no images" in error.message
    assert "vision" in error.hint


def test_any_other_refusal_is_quoted_and_not_retried() -> None:
    with serve(refusal(400, "temperature must be\n above 0 " + "x" * 1000)) as server:
        error = fail(connect(server.url))
        assert len(server.chats) == 1
    assert "refused the request (400): temperature must be above 0 xxx" in error.message
    assert len(error.message) < 500


def test_a_server_with_one_model_needs_no_name() -> None:
    with serve(completion("fine"), models=["Qwen/Qwen3-VL-4B-Instruct"]) as server:
        for url in (server.url, server.url.removesuffix("/v1"), server.url + "/"):
            model = load_model(url)
            assert model.name == "Qwen/Qwen3-VL-4B-Instruct"
            assert isinstance(model, EndpointModel)
            assert model.url == server.url
            assert ask(model).text == "fine"


def test_a_server_with_several_models_lists_them() -> None:
    with serve(models=["first", "second"]) as server, pytest.raises(EndpointError) as caught:
        load_model(server.url)
    assert "has 2 models: first, second" in caught.value.message
    assert "#" in caught.value.hint


def test_a_server_without_models_says_so() -> None:
    with serve(models=[]) as server, pytest.raises(EndpointError, match="lists no model"):
        load_model(server.url)


def test_what_is_no_chat_server_says_so() -> None:
    with serve() as server, pytest.raises(EndpointError, match="lists no models, as an OpenAI-compatible server would"):
        load_model(server.url)


def test_a_url_without_path_means_v1() -> None:
    assert EndpointModel.connect("http://localhost:8000#m").url == "http://localhost:8000/v1"
    assert EndpointModel.connect("https://host/api/v1/openai#m").url == "https://host/api/v1/openai"


@pytest.mark.parametrize("spec", ["http://#m", "https:///v1#m"])
def test_a_url_without_host_is_refused(spec: str) -> None:
    with pytest.raises(ConfigError, match="not the URL of a server"):
        load_model(spec)
