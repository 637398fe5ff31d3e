"""Servers that merge, shrink, enlarge or lose images: found by counting the text alone, and told per sample."""

from __future__ import annotations

import asyncio
import base64
import io
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, cast

import pytest
from PIL import Image

from p2r.benchmarks import Benchmark, Facts
from p2r.config import PartnerSettings
from p2r.dialogue import Decoding, Prompt
from p2r.errors import EndpointError, TooManyErrors, UnseenImageError
from p2r.evaluation.counts import count_troubles
from p2r.evaluation.evaluate import evaluate
from p2r.images.load import MemoryImage
from p2r.models import nano
from p2r.models.load import load_model
from p2r.models.profiles import FamilyName
from p2r.models.server.model import EndpointModel
from p2r.models.server.token_check import ImageCheck
from p2r.runs.clock import read_sessions
from p2r.training.partner import open_partner
from p2r.types import Box, Completion, Sample
from tests.fakes.endpoint_server import Answer, Call, completion, refusal, serve
from tests.fakes.training import BatchScript, dead

SHORT = Decoding(max_new_tokens=16)
TALL, WIDE = Image.new("RGB", (256, 288)), Image.new("RGB", (288, 256))  # 72 tokens each
SMALL = Image.new("RGB", (256, 256))  # 64
TEXT = "Where is the small red sail? " * 55
"""1,595 letters: enough for many small images to hide in."""

Sizes = list[tuple[int, int]]


def keep(sizes: Sizes) -> Sizes:
    return sizes


def merge(sizes: Sizes) -> Sizes:
    """As llama.cpp did in the summer of 2026: neighbors of one size become one."""
    merged: Sizes = []
    left = [*sizes]
    while left:
        merged.append(left.pop(0))
        if left and left[0] == merged[-1]:
            left.pop(0)
    return merged


def counting(see: Callable[[Sizes], Sizes] = keep) -> Callable[[Call], Answer]:
    """Count a token per 4 letters, 20 for the template, and for each image its visual tokens and 2 around it."""

    def answer(call: Call) -> Answer:
        parts = [part for message in messages_of(call) for part in cast("list[dict[str, object]]", message["content"])]
        text = "".join(cast(str, part["text"]) for part in parts if part["type"] == "text")
        sizes = see([read_size(part) for part in parts if part["type"] == "image_url"])
        tokens = sum((width // 32) * (height // 32) + 2 for width, height in sizes)
        return completion("B", prompt_tokens=20 + len(text) // 4 + tokens)

    return answer


def messages_of(call: Call) -> list[dict[str, object]]:
    messages = cast("list[dict[str, object]]", call.body["messages"])
    return [message for message in messages if message["role"] == "user"]


def read_size(part: dict[str, object]) -> tuple[int, int]:
    url = cast("dict[str, str]", part["image_url"])["url"]
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as image:
        return image.size


def connect(url: str, *, image_check: ImageCheck = "auto", family: FamilyName | None = "qwen3_vl") -> EndpointModel:
    return EndpointModel.connect(f"{url}#m", family=family, image_check=image_check, api_key="", retry_wait_s=0.001)


def ask(model: EndpointModel, *images: Image.Image, text: str = TEXT) -> Completion:
    return asyncio.run(model.complete(Prompt("reasoner", "Be brief.", text, images, "test"), SHORT))


def fail(model: EndpointModel, *images: Image.Image) -> UnseenImageError:
    with pytest.raises(UnseenImageError) as caught:
        ask(model, *images)
    return caught.value


def is_bare(call: Call) -> bool:
    return "image_url" not in str(call.body)


def test_images_that_are_seen_as_sent_cost_one_request_per_text(caplog: pytest.LogCaptureFixture) -> None:
    async def ask_all(model: EndpointModel) -> Sequence[Completion]:
        prompts = [Prompt("reasoner", "Be brief.", text, (SMALL, TALL), "test") for text in (TEXT, TEXT, "Where?")]
        return await asyncio.gather(*(model.complete(prompt, SHORT) for prompt in prompts))

    with serve(counting()) as server:
        replies = asyncio.run(ask_all(connect(server.url)))
        bare = [call for call in server.chats if is_bare(call)]
    assert [reply.altered for reply in replies] == ["", "", ""]
    assert len(bare) == 2
    assert all(call.body["max_tokens"] == 1 for call in bare)
    assert not caplog.records


def test_prompts_without_images_are_not_counted() -> None:
    with serve(counting()) as server:
        assert ask(connect(server.url)).altered == ""
        assert len(server.chats) == 1


@pytest.mark.parametrize(
    "images", [(SMALL, SMALL), (TALL, SMALL, SMALL), (TALL, TALL, SMALL, SMALL), (TALL, TALL, TALL, TALL)]
)
def test_merged_neighbors_are_a_failure_that_names_the_cause(images: tuple[Image.Image, ...]) -> None:
    with serve(counting(merge)) as server:
        error = fail(connect(server.url), *images)
    assert "it merges, shrinks or leaves out some" in error.message
    assert "llama.cpp of June to August 2026" in error.hint


def test_a_server_that_merges_answers_other_prompts() -> None:
    with serve(counting(merge)) as server:
        assert ask(connect(server.url), SMALL, TALL, SMALL).text == "B"


@pytest.mark.parametrize(
    ("see", "said"),
    [
        (lambda sizes: sizes[:-1], "shrinks some or leaves them out"),
        (lambda sizes: [(256, 256) for _ in sizes], "shrinks some or leaves them out"),
        (lambda sizes: [(288, 288) for _ in sizes], "enlarges some"),
        (lambda _: [], "shrinks some or leaves them out"),
    ],
)
def test_lost_and_resized_images_are_failures(see: Callable[[Sizes], Sizes], said: str) -> None:
    with serve(counting(see)) as server:
        error = fail(connect(server.url), TALL, WIDE)
    assert said in error.message


def test_who_accepts_it_gets_the_reply_with_what_can_be_guessed(caplog: pytest.LogCaptureFixture) -> None:
    with serve(counting(lambda _: [])) as server:
        reply = ask(connect(server.url, image_check="never"), TALL, WIDE, text="Where?")
        assert len(server.chats) == 1
    assert (reply.text, reply.altered) == ("B", "shrunk")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_an_unknown_family_is_only_guessed_about_unless_asked_for() -> None:
    with serve(counting(lambda _: [])) as server:
        assert ask(connect(server.url, family=None), TALL, text="Where?").altered == "shrunk"
        assert len(server.chats) == 1
        fail(connect(server.url, family=None, image_check="always"), TALL)


@pytest.mark.parametrize("refused", [refusal(400, "a message needs an image"), completion("B"), Answer(body="{}")])
def test_where_the_text_cannot_be_counted_the_finding_is_a_guess(
    refused: Answer, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(call: Call) -> Answer:
        return refused if is_bare(call) else counting(lambda _: [])(call)

    with serve(answer) as server:
        model = connect(server.url)
        assert ask(model, TALL, text="Where?").altered == "shrunk"
        assert ask(model, TALL, text=TEXT).altered == ""  # it hides
    assert caplog.text.count("does not count the tokens of a text alone") == 1
    assert all(isinstance(call.body, dict) for call in server.chats)


@pytest.mark.parametrize("image_check", ["auto", "always", "never"])
def test_a_server_without_counts_is_not_asked_for_more_and_this_is_said(
    image_check: ImageCheck, caplog: pytest.LogCaptureFixture
) -> None:
    with serve(completion("B")) as server:
        model = connect(server.url, image_check=image_check)
        assert (ask(model, TALL).altered, ask(model, TALL).altered) == ("", "")
        assert len(server.chats) == 2
    said = caplog.text.count("does not report a prompt's tokens, so images that it alters go unnoticed")
    assert said == (image_check != "never")


def test_the_failure_is_of_the_kind_of_other_server_faults() -> None:
    assert issubclass(UnseenImageError, EndpointError)


def make_benchmark(count: int) -> Benchmark:
    image, gold = MemoryImage(SMALL, name="image"), Box(x1=100, y1=100, x2=300, y2=300)
    asked = [
        Sample(id=str(k), image=image, question=f"What is {k}?", target="B", gold_boxes=(gold,)) for k in range(count)
    ]
    return Benchmark(asked, Facts("folder"))


def test_a_run_over_the_limit_stops_and_names_the_cause(tmp_path: Path) -> None:
    """The annotated image and the crops are neighbors, here of one size."""
    with serve(counting(merge)) as server:
        spec = f"{server.url}#Qwen3-VL-4B"
        with pytest.raises(TooManyErrors) as caught:
            evaluate(make_benchmark(60), spec, mode="oracle", out=tmp_path)
        assert "20 of 20 answers failed, all because http://127.0.0.1" in caught.value.message
        assert "does not see the images as they were sent" in caught.value.message
        assert "merges neighboring images of one size: update it" in caught.value.hint
        run = evaluate(make_benchmark(8), spec, mode="oracle", max_error_rate=1.0)
        direct = evaluate(make_benchmark(4), spec, mode="direct")
    assert [failure.kind for failure in run.failures] == ["UnseenImageError"] * 8
    assert count_troubles(run)["not seen as sent"] == 8
    assert run.accuracy is None, "failed is not wrong"
    assert (direct.failures, direct.accuracy) == ([], 1.0)
    assert [session.num_unseen for session in read_sessions(tmp_path / "folder" / "oracle")] == [20]


def test_each_role_has_the_profile_that_was_stated_for_it() -> None:
    with serve(counting()) as server:
        run = evaluate(
            make_benchmark(2),
            f"{server.url}#mine",
            mode="p2r",
            perceiver_model=f"{server.url}#other",
            profile="nano",
            perceiver_profile="qwen3-vl-4b",
        )
    assert (run.settings.profile, run.settings.perceiver_profile) == ("nano", "qwen3-vl-4b")
    assert (run.failures, run.accuracy) == ([], 1.0)


def test_who_accepts_altered_images_gets_answers_and_a_count() -> None:
    with serve(counting(lambda _: [])) as server:
        run = evaluate(make_benchmark(3), f"{server.url}#Qwen3-VL-4B", mode="oracle", image_check="never")
    assert run.accuracy == 1.0
    assert count_troubles(run)["not seen as sent"] == 3


async def test_a_cache_keeps_replies_apart_that_were_only_accepted(tmp_path: Path) -> None:
    prompt = Prompt("reasoner", "", TEXT, (SMALL, SMALL), "test")
    with serve(counting(merge)) as server:
        spec = f"{server.url}#Qwen3-VL-4B"
        for reused in ("", "cache"):
            reply = await load_model(spec, image_check="never", cache=tmp_path).complete(prompt, SHORT)
            assert (reply.text, reply.reused) == ("B", reused)
        with pytest.raises(UnseenImageError):
            await load_model(spec, cache=tmp_path).complete(prompt, SHORT)


@pytest.mark.parametrize(("image_check", "fails"), [("always", True), ("never", False)])
async def test_a_trainers_partner_is_checked_unless_the_recipe_says_otherwise(
    image_check: Literal["always", "never"], fails: bool, tmp_path: Path
) -> None:
    prompt = Prompt("reasoner", "", TEXT, (SMALL, SMALL), "test")
    with serve(counting(merge), models=["frozen"]) as server:
        settings = PartnerSettings(kind="endpoint", url=server.url, image_check=image_check)
        async with open_partner(settings, BatchScript(dead), nano.CHECKPOINT, tmp_path) as partner:
            if not fails:
                assert (await partner.model.complete(prompt, SHORT)).text == "B"
                return
            with pytest.raises(UnseenImageError):
                await partner.model.complete(prompt, SHORT)
