"""nano exported to GGUF and served by the real llama.cpp: it replies as the local model does, word for word."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("gguf")
pytest.importorskip("xllamacpp", reason="llama.cpp's server comes with the package xllamacpp, which is not installed")

import p2r
from p2r.benchmarks import Benchmark, Facts
from p2r.benchmarks.needles import Needles
from p2r.dialogue import Decoding
from p2r.errors import EndpointError
from p2r.models.checkpoint import open_checkpoint
from p2r.models.gguf.export import GgufFiles, export_gguf
from p2r.models.gguf.weights import DtypeName
from p2r.models.local.model import LocalModel
from p2r.models.nano import CHECKPOINT
from p2r.models.server.model import EndpointModel
from p2r.models.server.transport import Transport
from p2r.prompts import load_prompt_set
from p2r.types import Completion
from tests.fakes.examined_server import check_nano
from tests.fakes.llama_server import serving
from tests.fakes.replies import ask_about, begin, facts_of, noise, reply, reply_all
from tests.fakes.tiny_checkpoint import make_checkpoint

NEEDLES = list(Needles(seed=0, num_samples=20))
SLOTS, CONTEXT = 4, 2048


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> GgufFiles:
    return export_gguf(open_checkpoint(CHECKPOINT), tmp_path_factory.mktemp("gguf") / "nano", dtype="float32")


@pytest.fixture(scope="module")
def url(files: GgufFiles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(files, tmp_path_factory.mktemp("log") / "log", context=SLOTS * CONTEXT, slots=SLOTS) as url:
        yield url


@pytest.fixture(scope="module")
def local() -> LocalModel:
    return LocalModel.load(CHECKPOINT, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def tiny_url(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("tiny_gguf")
    files = export_gguf(open_checkpoint(tiny), folder / "tiny", dtype="float32")
    with serving(files, folder / "log", context=2 * 4096, slots=2) as url:
        yield url


def connect(url: str, folder: Path = CHECKPOINT, transport: Transport = "auto", concurrency: int = 16) -> EndpointModel:
    return EndpointModel.connect(f"{url}#{folder}", retry_wait_s=0.01, transport=transport, concurrency=concurrency)


def facts(replies: Sequence[Completion]) -> list[tuple[object, ...]]:
    return [facts_of(each) for each in replies]


def fetch(url: str, path: str, **body: object) -> Any:  # noqa: ANN401
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(url.removesuffix("/v1") + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def test_twenty_needles_are_answered_word_for_word_and_token_for_token(url: str, local: LocalModel) -> None:
    benchmark = Benchmark(NEEDLES, Facts("needles"))
    here, there = (p2r.evaluate(benchmark, model, mode="p2r").traces for model in (local, connect(url)))
    for sample in NEEDLES:
        mine, theirs = here[sample.id], there[sample.id]
        assert mine.perception and theirs.perception and mine.reasoning and theirs.reasoning
        assert mine.perception.completion and theirs.perception.completion
        assert facts([mine.perception.completion]) == facts([theirs.perception.completion])
        assert facts([mine.reasoning]) == facts([theirs.reasoning])
        assert mine.verdict == theirs.verdict


def test_four_equal_images_are_four(url: str, local: LocalModel, caplog: pytest.LogCaptureFixture) -> None:
    one, four = (ask_about(*[noise(256, 256, 0)] * count) for count in (1, 4))
    here, there = reply_all(local, [one, four]), reply_all(connect(url), [one, four])
    assert facts(here) == facts(there)
    few, many = (each.usage.prompt_tokens for each in there)
    assert few is not None and many is not None and many - few == 3 * (64 + 2)
    assert not [record for record in caplog.records if record.name.startswith("p2r")]


def test_images_are_seen_in_their_order(url: str, local: LocalModel) -> None:
    first, second = noise(256, 256, 1), noise(192, 256, 2)
    prompts = [ask_about(first, second), ask_about(second, first)]
    there = reply_all(connect(url), prompts)
    assert facts(reply_all(local, prompts)) == facts(there)
    assert there[0].text != there[1].text


def test_lossless_transports_give_one_reply(url: str, local: LocalModel) -> None:
    """llama.cpp reads no WebP: it is sent PNG instead."""
    formats: tuple[Transport, ...] = ("bmp", "png", "webp")
    models = [connect(url, transport=transport) for transport in formats]
    here = facts([reply(local, noise(256, 224, 3))])
    assert [facts([reply(model, noise(256, 224, 3))]) for model in models] == [here] * len(formats)
    assert [model.dialect.transport for model in models] == ["bmp", "png", "png"]


def test_a_seed_gives_the_same_reply_each_time(url: str) -> None:
    model = connect(url)
    seeds = [7, 8, 7, 9, 7]
    drawn = [
        reply(model, noise(256, 256, 0), decoding=Decoding(max_new_tokens=24, temperature=1.5, seed=seed)).text
        for seed in seeds
    ]
    assert drawn[0] == drawn[2] == drawn[4]
    assert len(set(drawn)) > 1


def test_the_probability_of_a_first_word_is_that_of_the_local_model(url: str, local: LocalModel) -> None:
    likely = Decoding(max_new_tokens=1, first_words=("left", "right", '[{"bbox_2d": '))
    here, there = (reply(model, noise(256, 256, 5), decoding=likely).first_probs for model in (local, connect(url)))
    assert there == pytest.approx(here, abs=1e-3)
    assert max(here) > 0.01


def test_thirty_two_at_once_are_answered_as_one_by_one(url: str) -> None:
    prompts = [ask_about(noise(256, 256, seed)) for seed in range(32)]
    at_once = facts(reply_all(connect(url, concurrency=32), prompts))
    model = connect(url, concurrency=1)
    assert at_once[::8] == [facts([reply(model, noise(256, 256, seed))])[0] for seed in range(0, 32, 8)]


def test_limits_end_a_reply_and_the_context_a_prompt(url: str) -> None:
    model = connect(url)
    short = reply(model, noise(256, 256, 0), decoding=Decoding(max_new_tokens=3))
    assert (short.finish_reason, short.usage.generated_tokens) == ("length", 3)
    with pytest.raises(EndpointError, match="does not fit the context") as refused:
        reply_all(model, [ask_about(noise(256, 256, 0), question="Where is the red star? " * 400)])
    assert "llama.cpp: -c" in refused.value.hint


def test_a_larger_image_is_shrunk_to_the_checkpoints_own_limit(url: str) -> None:
    model = EndpointModel.connect(f"{url}#{CHECKPOINT}", image_check="never", retry_wait_s=0.01)
    usage = reply(model, noise(512, 512, 0)).usage
    assert usage.prompt_tokens == reply(connect(url), noise(256, 256, 0)).usage.prompt_tokens


def test_abandoned_questions_leave_their_slots(tiny: Path, tiny_url: str) -> None:
    """The random model never ends a reply by itself."""
    model, long = connect(tiny_url, tiny), Decoding(max_new_tokens=3000)

    def busy() -> int:
        return sum(slot["is_processing"] for slot in fetch(tiny_url, "/slots"))

    async def abandon() -> None:
        asked = [asyncio.create_task(model.complete(ask_about(noise(256, 256, k)), long)) for k in range(16)]
        while not await asyncio.to_thread(busy):
            assert not any(task.done() for task in asked)
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)

    asyncio.run(abandon())
    end = time.monotonic() + 60
    while busy() and time.monotonic() < end:
        time.sleep(0.01)
    assert busy() == 0
    assert reply(model, noise(256, 256, 0), decoding=Decoding(max_new_tokens=3)).usage.generated_tokens == 3


@pytest.mark.parametrize("prompts", ["release", "paper"])
def test_prompts_are_the_same_tokens(url: str, prompts: str) -> None:
    from tokenizers import Tokenizer

    own, texts = Tokenizer.from_file(str(CHECKPOINT / "tokenizer.json")), load_prompt_set(prompts)
    for text in [words for sample in NEEDLES for words in (texts.perceiver(sample), texts.reasoner(sample))]:
        assert fetch(url, "/tokenize", content=text)["tokens"] == own.encode(text).ids


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_smaller_files_answer_with_the_settings_of_llama_cpp(tmp_path: Path, dtype: DtypeName) -> None:
    files = export_gguf(open_checkpoint(CHECKPOINT), tmp_path / "nano", dtype=dtype)
    with serving(files, tmp_path / "log", context=CONTEXT, slots=1, exact=False) as url:
        benchmark = Benchmark(NEEDLES[:4], Facts("needles"))
        traces = p2r.evaluate(benchmark, connect(url), mode="p2r").traces.values()
    assert all(trace.failure is None and trace.perception and trace.perception.boxes for trace in traces)


def test_another_model_with_qwens_tokenizer_replies_as_it_does_here(tiny: Path, tiny_url: str) -> None:
    prompts = [ask_about(*[noise(256, 256 + 32 * k, k)] * (k + 1), question=f"Where is the {k}?") for k in range(3)]
    here = reply_all(LocalModel.load(tiny, device="cpu", dtype="float32"), prompts, Decoding(max_new_tokens=8))
    assert facts(here) == facts(reply_all(connect(tiny_url, tiny), prompts, Decoding(max_new_tokens=8)))


def test_doctor_finds_it_healthy(url: str) -> None:
    check_nano(url, min_pixels=16384, most_images=8)


def test_a_begun_reply_is_continued_as_by_the_local_model(url: str, local: LocalModel) -> None:
    asked = ask_about(noise(256, 256, 0))
    prompts = [begin(asked, '[{"bbox_2d": '), begin(asked, "<think>checked ")]
    assert facts(reply_all(local, prompts)) == facts(reply_all(connect(url), prompts))


def test_a_stop_ends_a_reply(url: str, local: LocalModel) -> None:
    decoding = Decoding(max_new_tokens=24, stop=("]",))
    here, there = (reply(model, noise(256, 256, 0), decoding=decoding) for model in (local, connect(url)))
    assert here.text == f"{there.text}]"  # it leaves the stop out, and no tag says which it was
    assert here.finish_reason == there.finish_reason == "stop"
