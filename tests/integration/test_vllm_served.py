"""nano behind a real vLLM server: it replies as the local model does, word for word and token for token."""

from __future__ import annotations

import asyncio
import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch")

import p2r
from p2r.benchmarks import Benchmark, Facts
from p2r.benchmarks.needles import Needles
from p2r.dialogue import Decoding
from p2r.errors import EndpointError
from p2r.models.local.model import LocalModel
from p2r.models.nano import CHECKPOINT
from p2r.models.server.model import EndpointModel
from p2r.models.server.transport import Transport
from tests.fakes import vllm_guest
from tests.fakes.examined_server import check_nano
from tests.fakes.replies import ask_about, begin, facts_of, facts_of_traces, noise, reply, reply_all

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    vllm_guest.require()
    log = tmp_path_factory.mktemp("log") / "vllm.log"
    with vllm_guest.serving(CHECKPOINT, log, "--allowed-local-media-path", "/") as url:
        yield url


@pytest.fixture(scope="module")
def local() -> LocalModel:
    return LocalModel.load(CHECKPOINT, device="cpu", dtype="float32")


def connect(url: str, transport: Transport = "auto", concurrency: int = 16) -> EndpointModel:
    return EndpointModel.connect(f"{url}#{CHECKPOINT}", retry_wait_s=0.01, transport=transport, concurrency=concurrency)


def test_twenty_needles_are_answered_word_for_word_and_token_for_token(url: str, local: LocalModel) -> None:
    needles = Benchmark(list(Needles(seed=0, num_samples=20)), Facts("needles"))
    here, there = (p2r.evaluate(needles, model, mode="p2r").traces for model in (local, connect(url)))
    assert facts_of_traces(here) == facts_of_traces(there)
    assert [trace.verdict for trace in here.values()] == [there[sample_id].verdict for sample_id in here]


def test_four_equal_images_are_four(url: str, local: LocalModel, caplog: pytest.LogCaptureFixture) -> None:
    prompts = [ask_about(*[noise(256, 256, 0)] * count) for count in (1, 4)]
    here, there = ([facts_of(each) for each in reply_all(model, prompts)] for model in (local, connect(url)))
    assert here == there
    one, four = (each.usage.prompt_tokens or 0 for each in reply_all(connect(url), prompts))
    assert four - one == 3 * (64 + 2)
    assert not [record for record in caplog.records if record.name.startswith("p2r")]


def test_images_are_seen_in_their_order(url: str, local: LocalModel) -> None:
    first, second = noise(256, 256, 1), noise(192, 256, 2)
    prompts = [ask_about(first, second), ask_about(second, first)]
    here, there = (reply_all(model, prompts) for model in (local, connect(url)))
    assert list(map(facts_of, here)) == list(map(facts_of, there))
    assert there[0].text != there[1].text


@pytest.mark.parametrize("transport", ["bmp", "png", "webp", "file"])
def test_every_lossless_transport_gives_the_local_reply(url: str, local: LocalModel, transport: Transport) -> None:
    model = connect(url, transport)
    assert facts_of(reply(model, noise(256, 224, 3))) == facts_of(reply(local, noise(256, 224, 3)))
    assert model.dialect.transport == transport


def test_a_seed_gives_the_same_reply_alone_and_beside_others(url: str) -> None:
    model, image = connect(url), noise(256, 256, 0)

    def draw(seed: int) -> Decoding:
        return Decoding(max_new_tokens=24, temperature=1.5, seed=seed)

    async def ask_at_once() -> list[str]:
        asked = (model.complete(ask_about(image), draw(7 + place % 2)) for place in range(8))
        return [each.text for each in await asyncio.gather(*asked)]

    alone = [reply(model, image, decoding=draw(seed)).text for seed in (7, 8, 7)]
    assert alone[0] == alone[2] != alone[1]
    assert asyncio.run(ask_at_once()) == alone[:2] * 4


def test_the_probability_of_a_first_word_is_that_of_the_local_model(url: str, local: LocalModel) -> None:
    words = Decoding(max_new_tokens=1, first_words=("left", "right"))
    here, there = (reply(model, noise(256, 256, 0), decoding=words).first_probs for model in (local, connect(url)))
    assert there == pytest.approx(here, abs=1e-4)
    assert max(here) > 0.001


def test_thirty_two_at_once_are_answered_as_one_by_one(url: str) -> None:
    prompts = [ask_about(noise(256, 256, seed)) for seed in range(32)]
    at_once = reply_all(connect(url, concurrency=32), prompts)
    alone = [reply_all(connect(url), [prompt])[0] for prompt in prompts[::8]]
    assert [facts_of(each) for each in at_once[::8]] == [facts_of(each) for each in alone]


def count_running(url: str) -> int:
    with urllib.request.urlopen(f"{url.removesuffix('/v1')}/metrics", timeout=60) as response:
        text = response.read().decode()
    return sum(int(float(number)) for number in re.findall(r"^vllm:num_requests_running\{.*\} (\S+)$", text, re.M))


def test_an_abandoned_question_is_ended_there(url: str) -> None:
    model, long = connect(url), Decoding(max_new_tokens=1900, temperature=2.0, seed=1)

    async def abandon() -> None:
        asked = [asyncio.create_task(model.complete(ask_about(noise(256, 256, k)), long)) for k in range(8)]
        while not await asyncio.to_thread(count_running, url):
            assert not all(task.done() for task in asked)
            await asyncio.sleep(0.01)
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)

    asyncio.run(abandon())
    end = time.monotonic() + 60
    while (running := count_running(url)) and time.monotonic() < end:
        time.sleep(0.05)
    assert running == 0
    assert reply(model, noise(256, 256, 0)).text


def test_limits_end_a_reply_and_refuse_a_prompt(url: str) -> None:
    model = connect(url)
    short = reply(model, noise(256, 256, 0), decoding=Decoding(max_new_tokens=3))
    assert (short.finish_reason, short.usage.generated_tokens) == ("length", 3)
    with pytest.raises(EndpointError, match="does not fit the context"):
        reply_all(model, [ask_about(noise(256, 256, 0), question="Where is the red star? " * 400)])
    with pytest.raises(EndpointError, match="takes fewer than the 5 images"):
        reply(model, *[noise(256, 256, 0)] * (vllm_guest.MOST_IMAGES + 1))


def test_a_begun_reply_is_continued_as_by_the_local_model(url: str, local: LocalModel) -> None:
    asked = ask_about(noise(256, 256, 0))
    prompts = [
        begin(asked, '[{"bbox_2d": '),
        begin(asked, "<think>checked "),
        begin(asked, '[{"bbox_2d": ', noise(192, 256, 1), "[2"),
    ]
    here, there = (reply_all(model, prompts) for model in (local, connect(url)))
    assert list(map(facts_of, here)) == list(map(facts_of, there))


def test_a_stop_ends_a_reply_as_in_the_local_model(url: str, local: LocalModel) -> None:
    for stop in ("242", "]", "no such"):
        decoding = Decoding(max_new_tokens=24, stop=(stop,))
        here, there = (reply(model, noise(256, 256, 0), decoding=decoding) for model in (local, connect(url)))
        assert facts_of(here) == facts_of(there)
        assert here.text.endswith(stop) == (stop != "no such")


def test_an_unknown_name_is_told(url: str, tmp_path: Path) -> None:
    with pytest.raises(EndpointError, match="has no model"):
        reply(EndpointModel.connect(f"{url}#{tmp_path}", retry_wait_s=0.01), noise(256, 256, 0))


def test_doctor_finds_it_healthy(url: str) -> None:
    check_nano(url, min_pixels=4096, most_images=4)
