"""Wordings of servers, as their users have met them, and what is made of them without any server."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from PIL import Image

from p2r.dialogue import Decoding, Prompt, Role, Turn
from p2r.errors import EndpointError
from p2r.models.server.dialect import (
    ServerDialect,
    build_fields,
    build_messages,
    find_losses,
    offer_next_format,
    reword,
)
from p2r.models.server.errors import NO_ROOM, RequestFacts, explain_message, find_cause, message_in
from p2r.models.server.reply import read_prompt_tokens, read_reply

ASKED = RequestFacts("http://host/v1", "m", 2, 100, 30.0, "sk-secret")
START = ServerDialect("bmp")
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
        ("file does not exist or cannot be opened", "local files"),
        ("file:// URLs are not allowed unless --media-path is specified", "local files"),
        ("this model is missing data required for image input", "no vision"),
        ("No models loaded. Please load a model in the developer page.", "unknown model"),
        ("EngineCore encountered an issue. See stack trace (above) for the root cause.", "dead engine"),
        ("max_tokens=2049 cannot be greater than max_model_len=max_total_tokens=2048. (parameter=max_tokens)", NO_ROOM),
        ("max_completion_tokens=131072 cannot be greater than max_model_len=128000", NO_ROOM),
        (
            "'max_tokens' or 'max_completion_tokens' is too large: 2049. This model's maximum context length is 2048 "
            "tokens and your request has 84 input tokens (2049 > 2048 - 84).",
            NO_ROOM,
        ),
        ("'max_tokens' is too large: 2048. This model's maximum context length is 2048", NO_ROOM),
        (
            "This model's maximum context length is 4097 tokens. However, you requested 5000 tokens (1000 in the "
            "messages, 4000 in the completion). Please reduce the length of the messages or completion.",
            NO_ROOM,
        ),
        (
            "This model's maximum context length is 4097 tokens. However, you requested 5354 tokens (4098 in the "
            "messages, 1256 in the completion). Please reduce the length of the messages or completion.",
            "context too long",
        ),
        (
            "This model's maximum context length is 128000 tokens. However, you requested 65535 output tokens and your "
            "prompt contains at least 62466 input tokens, for a total of at least 128001 tokens.",
            NO_ROOM,
        ),
        ("'max_tokens' is too large: 100. This model's maximum context length is 2048", "context too long"),
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


@pytest.mark.parametrize("reason", ["stop", "STOP", "eos", "end_turn", "stop_sequence", "tool_calls"])
def test_a_reply_that_the_model_ended_is_whole(reason: str) -> None:
    assert read_reply(write_body("A", reason), ASKED).finish_reason == "stop"


@pytest.mark.parametrize("reason", ["length", "max_tokens", "MAX_TOKENS", "model_length"])
def test_a_reply_that_a_limit_ended_is_cut_off(reason: str) -> None:
    assert read_reply(write_body("A", reason), ASKED).finish_reason == "length"


@pytest.mark.parametrize(
    "reason", ["abort", "error", "cancelled", "load", "repetition", "insufficient_system_resource"]
)
def test_a_reply_that_was_broken_off_is_no_reply(reason: str) -> None:
    with pytest.raises(EndpointError, match=f"did not finish the reply .finish_reason '{reason}'.") as caught:
        read_reply(write_body("<answer>A</answer>", reason), ASKED)
    assert caught.value.hint


def test_the_reason_that_a_server_gives_for_breaking_off_is_quoted() -> None:
    choice = {"message": {"content": "A"}, "finish_reason": "error", "error": {"message": "worker died", "code": 502}}
    with pytest.raises(EndpointError, match=r"'error'.: worker died"):
        read_reply(json.dumps({"choices": [choice]}), ASKED)


@pytest.mark.parametrize("reason", ["content_filter", "SAFETY"])
def test_a_withheld_reply_is_no_reply(reason: str) -> None:
    with pytest.raises(EndpointError, match="withheld"):
        read_reply(write_body("A", reason), ASKED)


@pytest.mark.parametrize("content", [None, "", "I'd rather not."])
def test_a_refusal_is_quoted(content: str | None) -> None:
    message = {"content": content, "refusal": "I can't help with\nidentifying people."}
    with pytest.raises(EndpointError) as caught:
        read_reply(json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}), ASKED)
    assert caught.value.message == "the model 'm' refuses to answer: I can't help with identifying people."
    assert "word the question differently" in caught.value.hint


@pytest.mark.parametrize("content", [None, "Let me look closer."])
@pytest.mark.parametrize("reason", ["tool_calls", "stop", None])
def test_a_call_of_a_tool_is_no_reply(content: str | None, reason: str | None) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "zoom", "arguments": "{}"}}
    message = {"content": content, "tool_calls": [call]}
    with pytest.raises(EndpointError, match=r"a call of a tool in place of the reply's text: .*zoom") as caught:
        read_reply(json.dumps({"choices": [{"message": message, "finish_reason": reason}]}), ASKED)
    assert "--enable-auto-tool-choice" in caught.value.hint


def test_empty_lists_of_tools_and_refusals_are_nothing() -> None:
    message = {"content": "B", "tool_calls": [], "refusal": None}
    assert read_reply(json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}), ASKED).text == "B"


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
@pytest.mark.parametrize("content", [None, ""])
def test_a_whole_reply_that_the_server_took_for_a_thought_is_the_reply(field: str, content: str | None) -> None:
    choice = {"message": {"content": content, field: "B"}, "finish_reason": "stop"}
    assert read_reply(json.dumps({"choices": [choice]}), ASKED).text == "B"


def write_body(text: str, reason: str) -> str:
    return json.dumps({"choices": [{"message": {"content": text}, "finish_reason": reason}]})


@pytest.mark.parametrize("choices", ["", ', "choices": []', ', "choices": null'])
def test_an_error_with_status_200_is_an_error(choices: str) -> None:
    with pytest.raises(EndpointError, match="sent an error: no slot available") as caught:
        read_reply(f'{{"error": "no slot available"{choices}}}', ASKED)
    assert "the server's own log" in caught.value.hint


def test_formats_are_offered_in_turn_and_wishes_are_kept() -> None:
    following = offer_next_format(START)
    assert following is not None and following.transport == "webp"
    assert offer_next_format(ServerDialect("png")) is None
    assert offer_next_format(ServerDialect("jpeg")) is None
    assert offer_next_format(ServerDialect("file")) is None


@pytest.mark.parametrize(
    ("message", "dialect"),
    [
        (
            "Unexpected fields in the request: {'repeat_penalty', 'repetition_penalty'}",
            ServerDialect("bmp", sampling="serve"),
        ),
        ("Unrecognized request argument supplied: repetition_penalty", ServerDialect("bmp", sampling="standard")),
        ("Unknown parameter: 'top_k'.", ServerDialect("bmp", sampling="standard")),
        (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'.",
            ServerDialect("bmp", limit="max_completion_tokens"),
        ),
        ("unknown field: seed", ServerDialect("bmp", seed=False)),
        ("cannot identify image file", ServerDialect("webp")),
        ("This model's maximum context length is 10 tokens (max_tokens, seed, top_k)", None),
        ("temperature is out of range", None),
        ("temperature must be at least 0.1", None),
        ("top_p must be in (0, 1]", None),
        (
            "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is "
            "supported.",
            ServerDialect("bmp", temperature=False),
        ),
        (
            "Unsupported parameter: 'temperature' is not supported with this model.",
            ServerDialect("bmp", temperature=False),
        ),
        ("invalid temperature: only 1 is allowed for this model", ServerDialect("bmp", temperature=False)),
        ("`temperature` may only be set to 1 when thinking is enabled.", ServerDialect("bmp", temperature=False)),
        ("temperature is deprecated for this model.", ServerDialect("bmp", temperature=False)),
        ("`temperature` and `top_p` cannot both be specified for this model.", ServerDialect("bmp", top_p=False)),
        ("Unsupported parameter: 'top_p' is not supported with this model.", ServerDialect("bmp", top_p=False)),
        ("System role not supported", ServerDialect("bmp", system=False)),
        (
            "Developer instruction is not enabled; system instructions are not supported",
            ServerDialect("bmp", system=False),
        ),
        (
            "Unsupported value: 'messages[0].role' does not support 'system' with this model.",
            ServerDialect("bmp", system=False),
        ),
        ("Conversation roles must alternate user/assistant/user/assistant/...", ServerDialect("bmp", system=False)),
        (
            "max_tokens is too large: 40960. This model supports at most 16384 completion tokens, whereas you provided "
            "40960.",
            ServerDialect("bmp", most_tokens=16384),
        ),
        (
            "max_tokens: 100000 > 8192, which is the maximum allowed number of output tokens for this model",
            ServerDialect("bmp", most_tokens=8192),
        ),
        (
            "`max_tokens` must be less than or equal to `8192`, the maximum value for `max_tokens` is less than the "
            "`context_window` for this model",
            ServerDialect("bmp", most_tokens=8192),
        ),
        ("Range of max_tokens should be [1, 2000]", ServerDialect("bmp", most_tokens=2000)),
        (
            "Invalid max_tokens value, the valid range of max_tokens is [1, 8,192]",
            ServerDialect("bmp", most_tokens=8192),
        ),
        ("max_tokens exceeds the maximum of 512", ServerDialect("bmp", most_tokens=512)),
        ("max_tokens must be a whole number", None),
        ("max_tokens must be at most 0, the context is full", None),
    ],
)
def test_a_refusal_leads_to_the_next_wording(message: str, dialect: ServerDialect | None) -> None:
    assert reword(START, message) == dialect


def test_rewording_ends() -> None:
    for message in (
        *(
            "repetition_penalty",
            "max_tokens is not supported",
            "seed",
            "cannot identify image",
            "System role not supported",
        ),
        *("temperature is not supported", "top_p is not supported", "max_tokens is at most 512"),
    ):
        dialect: ServerDialect | None = START
        for _ in range(4):
            dialect = reword(dialect, message) if dialect else None
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


def test_a_log_probability_above_0_is_taken_as_0() -> None:
    listed = [{"token": "Yes", "logprob": 9999.0}]
    choice = {"message": {"content": "Yes"}, "logprobs": {"content": [{"top_logprobs": listed}]}}
    assert read_reply(json.dumps({"choices": [choice]}), ASKED, ("Yes", "No")).first_probs == (1.0, 0.0)


def test_words_that_are_not_among_the_likeliest_are_told() -> None:
    top = [{"token": "The", "logprob": -0.1}, {"token": "It", "logprob": -3.0}]
    choice = {"message": {"content": "The"}, "finish_reason": "stop", "logprobs": {"content": [{"top_logprobs": top}]}}
    with pytest.raises(EndpointError, match="neither Yes nor No is among the likeliest first words that") as caught:
        read_reply(json.dumps({"choices": [choice]}), ASKED, ("Yes", "No"))
    assert "yes-no questions" in caught.value.hint


def write_counted(text: str | None, reason: str | None, tokens: int | None) -> str:
    choice = {"message": {"content": text}, "finish_reason": reason}
    return json.dumps({"choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": tokens}})


@pytest.mark.parametrize("reason", ["stop", "STOP", "eos", "end_turn"])
@pytest.mark.parametrize("text", ["", None, " \n"])
def test_an_empty_reply_that_the_model_ended_is_a_reply(text: str | None, reason: str) -> None:
    reply = read_reply(write_counted(text, reason, 1), ASKED)
    assert (reply.text, reply.finish_reason, reply.generated_tokens) == (text or "", "stop", 1)


@pytest.mark.parametrize(("reason", "tokens"), [("stop", 0), ("stop", None), (None, 1), ("tool_calls", 1)])
def test_an_empty_reply_that_nobody_ended_is_an_error(reason: str | None, tokens: int | None) -> None:
    with pytest.raises(EndpointError, match="sent an empty reply"):
        read_reply(write_counted("", reason, tokens), ASKED)


@pytest.mark.parametrize("role", ["perceiver", "reasoner"])
def test_what_has_no_room_is_told_with_the_limit_to_lower(role: Role) -> None:
    message = "max_tokens=2049 cannot be greater than max_model_len=max_total_tokens=2048."
    error = explain_message(message, 400, replace(ASKED, role=role, max_new_tokens=2049))
    assert error.message.startswith(
        "the context of 'm' at http://host/v1 has no room for 2049 new tokens beside the prompt (100 visual tokens)"
    )
    assert error.hint == f"lower `{role}_new_tokens`, or raise the server's context (vLLM: --max-model-len)"


def test_a_judge_has_a_limit_of_its_own() -> None:
    error = explain_message("max_tokens=9 cannot be greater than max_model_len=8", 400, replace(ASKED, role="judge"))
    assert error.hint.startswith("lower the judge's limit of new tokens")


@pytest.mark.parametrize(
    ("body", "count"),
    [
        ('{"choices": [], "usage": {"prompt_tokens": 42}}', 42),
        ('{"usage": {"prompt_tokens": 0}}', None),
        ('{"usage": null}', None),
        ("{}", None),
        ("[]", None),
        ("no JSON", None),
    ],
)
def test_the_tokens_of_a_prompt_are_read_whatever_was_replied(body: str, count: int | None) -> None:
    assert read_prompt_tokens(body) == count


@pytest.mark.parametrize("logprobs", [None, {"content": None}, {"content": []}, {"content": [{"top_logprobs": []}]}])
def test_a_server_without_probabilities_is_an_error_only_when_they_are_wanted(logprobs: object) -> None:
    choice = {"message": {"content": "Yes"}, "finish_reason": "stop", "logprobs": logprobs}
    body = json.dumps({"choices": [choice]})
    assert read_reply(body, ASKED).first_probs == ()
    with pytest.raises(EndpointError, match="sent no log-probabilities") as caught:
        read_reply(body, ASKED, ("Yes", "No"))
    assert caught.value.hint


def test_serve_gets_the_penalty_as_a_difference() -> None:
    fields = build_fields(Decoding(max_new_tokens=4, repetition_penalty=1.05), ServerDialect("bmp", sampling="serve"))
    assert fields["frequency_penalty"] == 1.05 - 1.0
    assert "repetition_penalty" not in fields


GREEDY, DRAWN = Decoding(max_new_tokens=1000), Decoding(max_new_tokens=10, temperature=1.0, top_p=0.9, seed=3)
ASK = Prompt("reasoner", "Be brief.", "What?", (PIXEL,), "f")


def test_what_a_server_does_not_take_is_not_sent() -> None:
    fields = build_fields(DRAWN, ServerDialect("bmp", temperature=False, top_p=False, seed=False, sampling="standard"))
    assert fields == {"max_tokens": 10}
    assert build_fields(GREEDY, ServerDialect("bmp", most_tokens=512))["max_tokens"] == 512
    assert build_fields(DRAWN, ServerDialect("bmp", most_tokens=512))["max_tokens"] == 10


def test_the_systems_words_stand_before_the_users_where_there_is_no_such_role() -> None:
    (message,) = build_messages(ASK, ["data:1"], system=False)
    assert message["role"] == "user"
    assert message["content"] == [
        {"type": "image_url", "image_url": {"url": "data:1"}},
        {"type": "text", "text": "Be brief.\n\nWhat?"},
    ]
    later = (Turn("assistant", ("Closer.",)), Turn("user", ("And?",)))
    messages = build_messages(Prompt("reasoner", "Be brief.", "What?", (), "f", later), [], system=False)
    assert messages[-1]["content"] == [{"type": "text", "text": "And?"}], "once, at the beginning"


@pytest.mark.parametrize(
    ("dialect", "greedy", "drawn"),
    [
        (START, set[str](), set[str]()),
        (ServerDialect("bmp", temperature=False), {"temperature"}, {"temperature"}),
        (ServerDialect("bmp", top_p=False), set[str](), {"top_p"}),
        (ServerDialect("bmp", seed=False), set[str](), {"seed"}),
        (ServerDialect("bmp", sampling="standard"), set[str](), set[str]()),
        (ServerDialect("bmp", most_tokens=512), {"max_new_tokens"}, set[str]()),
        (ServerDialect("bmp", system=False), {"system"}, {"system"}),
        (ServerDialect("bmp", thinking="off"), set[str](), set[str]()),
        (ServerDialect("bmp", thinking="refused"), {"thinking"}, {"thinking"}),
    ],
)
def test_what_a_dialect_cannot_say_is_known_for_each_request(
    dialect: ServerDialect, greedy: set[str], drawn: set[str]
) -> None:
    assert {*find_losses(ASK, GREEDY, dialect)} == greedy
    assert {*find_losses(ASK, DRAWN, dialect)} == drawn
    if "temperature" in greedy:
        assert "not greedily" in find_losses(ASK, GREEDY, dialect)["temperature"]
        assert "not at temperature 1 " in find_losses(ASK, DRAWN, dialect)["temperature"]


def test_a_penalty_is_lost_only_where_it_is_wanted() -> None:
    wanted = Decoding(max_new_tokens=1, repetition_penalty=1.05)
    assert {*find_losses(ASK, wanted, ServerDialect("bmp", sampling="standard"))} == {"repetition_penalty"}
    assert find_losses(ASK, wanted, ServerDialect("bmp", sampling="serve")) == {}
