from __future__ import annotations

import asyncio

import pytest
from PIL import Image

from p2r.dialogue import Prompt, Turn
from p2r.errors import EndpointError
from p2r.models.server.token_check import MOST_TEXTS, TextCounts, TokenCheck, drop_images, explain_alteration
from p2r.types import Alteration

QUESTION = "Question: What is written on the small sail of the boat?\nLocate the key visual evidence in the image." * 2


def test_what_agrees_gives_nothing(caplog: pytest.LogCaptureFixture) -> None:
    check = TokenCheck("server")
    for visual in (64, 1024, 4096):
        assert check.compare(QUESTION, (visual,), visual + 70) == ""
    assert not caplog.records


@pytest.mark.parametrize("reported", [1280 + 70, 4096, 30])
def test_fewer_tokens_than_the_images_have_mean_that_they_shrank(reported: int) -> None:
    assert TokenCheck("server").compare(QUESTION, (4096,), reported) == "shrunk"


def test_more_tokens_than_the_text_has_bytes_mean_that_images_grew() -> None:
    assert TokenCheck("server").compare("Where?", (16,), 16 + 200) == "enlarged"


def test_small_growth_shows_once_the_texts_share_is_known() -> None:
    check = TokenCheck("server")
    assert check.compare(QUESTION, (4096,), 4096 + 70) == ""
    assert check.compare(QUESTION, (1024, 16, 16), 1056 + 72) == ""
    assert check.compare(QUESTION, (1024, 16, 16), 1024 + 128 + 72) == "enlarged"


def test_a_small_tokenizer_with_sentences_as_tokens_is_not_mistaken_for_shrinking() -> None:
    assert TokenCheck("server").compare(QUESTION, (64,), 64 + 25) == ""


def test_nothing_is_said_without_counts_or_without_images() -> None:
    assert TokenCheck("server").compare(QUESTION, (64,), None) == ""
    assert TokenCheck("server").compare(QUESTION, (), 5) == ""


def test_each_finding_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    check = TokenCheck("http://server/v1")
    for _ in range(3):
        check.compare(QUESTION, (4096,), 100)
        check.compare("Where?", (16,), 900)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert all("http://server/v1 counts" in record.message for record in caplog.records)


@pytest.mark.parametrize("lost", [16, 64, 128, 256, 298, 398])
def test_a_lost_image_shows_among_any_text_once_that_is_counted(lost: int) -> None:
    """420 tokens of text hid images of up to 298 tokens."""
    text, counted, frames = "a" * 1600, 420, 3 * 2
    sent = (1024, lost, lost)
    check = TokenCheck("server")
    assert check.compare(text, sent, sum(sent) + counted + frames, counted) == ""
    assert check.compare(text, sent, sum(sent) - lost + counted + frames - 2, counted) == "shrunk"


@pytest.mark.parametrize(
    ("change", "found"),
    [(0, ""), (8 * 2, ""), (8 * 2 + 1, "enlarged"), (-1, "shrunk"), (-64, "shrunk"), (64, "enlarged")],
)
def test_a_few_tokens_around_each_image_are_the_templates(change: int, found: Alteration) -> None:
    assert TokenCheck("server").compare(QUESTION, (1024, 64), 1088 + 70 + change, 70) == found


def test_images_and_no_words_are_dropped_from_a_chat() -> None:
    image = Image.new("RGB", (32, 32))
    later = (Turn("assistant", ("Closer.",)), Turn("user", ("here: ", image, " so")))
    bare = drop_images(Prompt("reasoner", "Be brief.", "What?", (image, image), "f", later))
    assert bare.all_images == ()
    assert bare.later == (Turn("assistant", ("Closer.",)), Turn("user", ("here: ", " so")))
    assert (bare.system, bare.text) == ("Be brief.", "What?")


def prompt(text: str, *, system: str = "", later: tuple[Turn, ...] = ()) -> Prompt:
    return Prompt("reasoner", system, text, (Image.new("RGB", (32, 32)),), "f", later)


def test_each_text_is_counted_once_even_when_asked_side_by_side() -> None:
    asked: list[Prompt] = []

    async def ask(bare: Prompt) -> int | None:
        asked.append(bare)
        number = len(asked)
        await asyncio.sleep(0)
        return number

    async def find_all() -> list[int | None]:
        counts = TextCounts()
        later = (Turn("assistant", ("Closer.",)), Turn("user", ("And?",)))
        prompts = [prompt("a"), prompt("a"), prompt("b"), prompt("a", system="s"), prompt("a", later=later)]
        side_by_side = await asyncio.gather(*(counts.find(each, ask) for each in prompts))
        return [*side_by_side, await counts.find(prompts[0], ask)]

    assert asyncio.run(find_all()) == [1, 1, 2, 3, 4, 1]
    assert all(bare.all_images == () for bare in asked)


def test_a_text_that_could_not_be_counted_is_asked_again_and_many_are_forgotten() -> None:
    answers: list[int | None] = [None, 7]

    async def ask(bare: Prompt) -> int | None:
        return answers.pop(0) if answers else len(bare.text)

    async def find_all() -> None:
        counts = TextCounts()
        assert await counts.find(prompt("a"), ask) is None
        assert await counts.find(prompt("a"), ask) == 7
        for number in range(MOST_TEXTS):
            await counts.find(prompt(f"question {number}"), ask)
        assert await counts.find(prompt("a"), ask) == 1

    asyncio.run(find_all())


def test_the_sentence_is_the_same_for_all_such_prompts_and_the_hint_names_numbers_and_cause() -> None:
    small, large = Image.new("RGB", (64, 64)), Image.new("RGB", (96, 64))
    merged = explain_alteration("http://s/v1", "shrunk", (large, small, small), num_sent=192, num_seen=128)
    other = explain_alteration("http://s/v1", "shrunk", (small, small), num_sent=8, num_seen=4)
    assert isinstance(merged, EndpointError)
    assert merged.message == other.message
    assert (
        "http://s/v1 does not see the images as they were sent: it merges, shrinks or leaves out some" in merged.message
    )
    assert "128 image tokens, 192 were sent" in merged.hint
    assert "llama.cpp of June to August 2026" in merged.hint and "update it" in merged.hint
    shrunk = explain_alteration("http://s/v1", "shrunk", (small, large, small), num_sent=192, num_seen=128)
    assert "llama.cpp" not in shrunk.hint and "`max_pixels`" in shrunk.hint and "`profile`" in shrunk.hint
    fewer = explain_alteration("http://s/v1", "shrunk", (small,), num_sent=1024, num_seen=-4)
    assert "it counts 0 image tokens, 1,024 were sent" in fewer.hint
    grown = explain_alteration("http://s/v1", "enlarged", (small, small), num_sent=8, num_seen=128)
    assert "enlarges some" in grown.message and "`profile`" in grown.hint
    assert all("`image_check='never'`" in error.hint for error in (merged, shrunk, grown))
