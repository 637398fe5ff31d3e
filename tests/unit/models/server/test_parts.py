"""Wordings of servers, as their users have met them, and what is made of them without any server."""

from __future__ import annotations

import json
import math

import pytest
from PIL import Image

from p2r.dialogue import Decoding, Prompt, Turn
from p2r.errors import EndpointError
from p2r.models.server.dialect import Dialect, build_fields, build_messages, offer_next_format, reword
from p2r.models.server.errors import RequestFacts, explain_message, find_cause, message_in
from p2r.models.server.reply import read_reply

ASKED = RequestFacts("http://host/v1", "m", 2, 100, 30.0, "sk-secret")
START = Dialect("bmp")
PIXEL = Image.new("RGB", (1, 1))


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        ("At most 1 image(s) may be provided in one request.", "too many images"),
        ("At most 0 image(s) may be provided in one request.", "no vision"),
        (
            "The prompt (total length 25938) is too long to fit into the model (context length 4096).",
            "context too long",
        ),
        ("Input length (5000 tokens) exceeds the maximum context length", "context too long"),
        ("Invalid content type. image_url is only supported by certain models.", "no vision"),
        ("image input is not supported by this server", "no vision"),
        ("No endpoints found that support image input: the model gpt-oss does not support images", "no vision"),
        ("The model `gpt-5` does not exist or you do not have access to it.", "unknown model"),
        ("model 'qwen3-vl' not found, try pulling it first", "unknown model"),
        ("'url' field must be a base64 encoded image.", "unreadable image"),
        ("Failed to load image: cannot identify image file <_io.BytesIO object>", "unreadable image"),
        ("Cannot load local files without `--allowed-local-media-path`.", "local files"),
        ("Internal Server Error", None),
        ("Unexpected fields in the request: {'repetition_penalty'}", None),
        ("temperature must be at least 0", None),
    ],
)
def test_causes_are_known_by_their_wording(message: str, cause: str | None) -> None:
    assert find_cause(message) == cause


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"message": "a"}, "a"),
        ({"error": {"message": "b", "code": 400}}, "b"),
        ({"error": {"message": "b", "code": "model_not_found"}}, "b (model_not_found)"),
        ({"error": "c"}, "c"),
        ({"detail": "d"}, "d"),
        ({"detail": [{"msg": "e"}]}, '[{"msg": "e"}]'),
        ({"other": "f"}, ""),
        (None, ""),
        ("g", "g"),
    ],
)
def test_messages_are_found_in_every_shape(body: object, message: str) -> None:
    assert message_in(body) == message


def test_the_key_and_long_texts_are_not_quoted() -> None:
    error = explain_message("bad key sk-secret\n" + "x" * 5000, 400, ASKED)
    assert "sk-secret" not in str(error)
    assert len(error.message) < 400
    assert "sk-secret" not in repr(ASKED)


def test_a_thought_is_put_back_in_front_of_the_answer() -> None:
    for field in ("reasoning_content", "reasoning"):
        body = f'{{"choices": [{{"message": {{"content": "B", "{field}": "why"}}}}]}}'
        assert read_reply(body, ASKED).text == "<think>why</think>B"


def test_a_thought_that_was_cut_off_stays_open() -> None:
    body = '{"choices": [{"finish_reason": "length", "message": {"content": null, "reasoning_content": "well"}}]}'
    assert read_reply(body, ASKED).text == "<think>well"


def test_content_in_parts_is_joined() -> None:
    body = '{"choices": [{"message": {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}}]}'
    assert read_reply(body, ASKED).text == "ab"


def test_a_missing_finish_reason_is_a_stop() -> None:
    assert read_reply('{"choices": [{"message": {"content": "a"}}]}', ASKED).finish_reason == "stop"


def test_an_error_with_status_200_is_an_error() -> None:
    with pytest.raises(EndpointError, match="refused the request"):
        read_reply('{"error": "no slot available"}', ASKED)


def test_formats_are_offered_in_turn_and_wishes_are_kept() -> None:
    following = offer_next_format(START)
    assert following is not None and following.transport == "webp"
    assert offer_next_format(Dialect("png")) is None
    assert offer_next_format(Dialect("jpeg")) is None
    assert offer_next_format(Dialect("file")) is None


@pytest.mark.parametrize(
    ("message", "dialect"),
    [
        (
            "Unexpected fields in the request: {'repeat_penalty', 'repetition_penalty'}",
            Dialect("bmp", sampling="serve"),
        ),
        ("Unrecognized request argument supplied: repetition_penalty", Dialect("bmp", sampling="standard")),
        ("Unknown parameter: 'top_k'.", Dialect("bmp", sampling="standard")),
        (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'.",
            Dialect("bmp", limit="max_completion_tokens"),
        ),
        ("unknown field: seed", Dialect("bmp", seed=False)),
        ("cannot identify image file", Dialect("webp")),
        ("This model's maximum context length is 10 tokens (max_tokens, seed, top_k)", None),
        ("temperature is out of range", None),
    ],
)
def test_a_refusal_leads_to_the_next_wording(message: str, dialect: Dialect | None) -> None:
    assert reword(START, message, "http://host/v1") == dialect


def test_rewording_ends() -> None:
    for message in ("repetition_penalty", "max_tokens is not supported", "seed", "cannot identify image"):
        dialect: Dialect | None = START
        for _ in range(4):
            dialect = reword(dialect, message, "url") if dialect else None
        assert dialect is None


def test_images_come_first_and_an_empty_system_is_left_out() -> None:
    (message,) = build_messages(Prompt("judge", "", "Same?", (PIXEL, PIXEL), "f"), ["data:1", "data:2"])
    assert [part["type"] for part in message["content"]] == ["image_url", "image_url", "text"]  # type: ignore[typeddict-item,index,union-attr]


def test_later_turns_keep_the_order_of_words_and_images() -> None:
    later = (Turn("assistant", ("Closer.",)), Turn("user", ("here: ", PIXEL, " so")))
    messages = build_messages(Prompt("reasoner", "Be brief.", "What?", (PIXEL,), "f", later), ["data:1", "data:2"])
    assert messages == [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": "data:1"}}, {"type": "text", "text": "What?"}],
        },
        {"role": "assistant", "content": "Closer."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "here: "},
                {"type": "image_url", "image_url": {"url": "data:2"}},
                {"type": "text", "text": " so"},
            ],
        },
    ]


def test_probabilities_of_first_words_are_asked_for_only_when_wanted() -> None:
    assert "logprobs" not in build_fields(Decoding(max_new_tokens=1), START)
    fields = build_fields(Decoding(max_new_tokens=1, first_words=("Yes", "No")), START)
    assert (fields["logprobs"], fields["top_logprobs"]) == (True, 20)


def test_probabilities_of_first_words_are_those_of_the_first_token() -> None:
    likeliest = [{"token": "Yes", "logprob": math.log(0.6)}, {"token": " yes", "logprob": math.log(0.3)}]
    later = [{"token": "No", "logprob": 0.0}]
    positions = [{"token": "Yes", "logprob": 0.0, "top_logprobs": top} for top in (likeliest, later)]
    choice = {"message": {"content": "Yes."}, "finish_reason": "stop", "logprobs": {"content": positions}}
    reply = read_reply(json.dumps({"choices": [choice]}), ASKED, ("Yes", "No"))
    assert reply.first_probs == pytest.approx((0.6, 0.0))


@pytest.mark.parametrize("logprobs", [None, {"content": None}, {"content": []}, {"content": [{"top_logprobs": []}]}])
def test_a_server_without_probabilities_is_an_error_only_when_they_are_wanted(logprobs: object) -> None:
    choice = {"message": {"content": "Yes"}, "finish_reason": "stop", "logprobs": logprobs}
    body = json.dumps({"choices": [choice]})
    assert read_reply(body, ASKED).first_probs == ()
    with pytest.raises(EndpointError, match="sent no log-probabilities") as caught:
        read_reply(body, ASKED, ("Yes", "No"))
    assert caught.value.hint


def test_serve_gets_the_penalty_as_a_difference() -> None:
    fields = build_fields(Decoding(max_new_tokens=4, repetition_penalty=1.05), Dialect("bmp", sampling="serve"))
    assert 1.0 + fields["frequency_penalty"] == 1.05
    assert "repetition_penalty" not in fields
