from __future__ import annotations

import pytest

from p2r.models.server.token_check import TokenCheck

QUESTION = "Question: What is written on the small sail of the boat?\nLocate the key visual evidence in the image." * 2


def test_what_agrees_gives_nothing(caplog: pytest.LogCaptureFixture) -> None:
    check = TokenCheck("server")
    for visual in (64, 1024, 4096):
        assert check.compare(QUESTION, (visual,), visual + 70) is None
    assert not caplog.records


@pytest.mark.parametrize("reported", [1280 + 70, 4096, 30])
def test_fewer_tokens_than_the_images_have_mean_that_they_shrank(reported: int) -> None:
    assert TokenCheck("server").compare(QUESTION, (4096,), reported) == "shrunk"


def test_more_tokens_than_the_text_has_bytes_mean_that_images_grew() -> None:
    assert TokenCheck("server").compare("Where?", (16,), 16 + 200) == "enlarged"


def test_small_growth_shows_once_the_texts_share_is_known() -> None:
    check = TokenCheck("server")
    assert check.compare(QUESTION, (4096,), 4096 + 70) is None
    assert check.compare(QUESTION, (1024, 16, 16), 1056 + 72) is None
    assert check.compare(QUESTION, (1024, 16, 16), 1024 + 128 + 72) == "enlarged"


def test_a_small_tokenizer_with_sentences_as_tokens_is_not_mistaken_for_shrinking() -> None:
    assert TokenCheck("server").compare(QUESTION, (64,), 64 + 25) is None


def test_nothing_is_said_without_counts_or_without_images() -> None:
    assert TokenCheck("server").compare(QUESTION, (64,), None) is None
    assert TokenCheck("server").compare(QUESTION, (), 5) is None


def test_each_finding_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    check = TokenCheck("http://server/v1")
    for _ in range(3):
        check.compare(QUESTION, (4096,), 100)
        check.compare("Where?", (16,), 900)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert all("http://server/v1 counts" in record.message for record in caplog.records)
