"""What is said to a model."""

from __future__ import annotations

from dataclasses import replace

from PIL import Image

from p2r.dialogue import Decoding, Prompt, Turn, cut_reply, visual_tokens

PHOTO, CROP = Image.new("RGB", (64, 96)), Image.new("RGB", (32, 32))
CHAT = Prompt("reasoner", "", "What?", (PHOTO,), "none", (Turn("assistant", ("Zoom.",)), Turn("user", (CROP, "Well?"))))


def test_a_chat_is_its_question_and_all_that_was_said_since() -> None:
    assert [turn.role for turn in CHAT.turns] == ["user", "assistant", "user"]
    assert [turn.text for turn in CHAT.turns] == ["What?", "Zoom.", "Well?"]
    assert CHAT.all_images == (PHOTO, CROP)


def test_a_chat_that_ends_with_the_assistant_has_begun_its_reply() -> None:
    assert CHAT.begun is None and Prompt("reasoner", "", "What?", (), "none").begun is None
    begun = replace(CHAT, later=(*CHAT.later, Turn("assistant", ("<think>", CROP))))
    assert begun.begun == Turn("assistant", ("<think>", CROP))
    assert begun.all_images == (PHOTO, CROP, CROP)


def test_an_image_costs_a_token_for_each_merged_patch() -> None:
    assert visual_tokens((PHOTO, CROP), 32) == (6, 1)


def test_a_reply_is_cut_behind_the_first_stop() -> None:
    assert cut_reply("a</x>b</y>c</x>", ("</y>", "</x>")) == "a</x>"
    assert cut_reply("abc", ("</x>",)) == "abc"


def test_a_decoding_without_stops_is_written_as_before_there_were_any() -> None:
    assert "stop" not in Decoding(max_new_tokens=1).model_dump(mode="json")
    stopping = Decoding(max_new_tokens=1, stop=("</x>",))
    assert stopping.model_dump(mode="json")["stop"] == ["</x>"]
    assert Decoding.model_validate(stopping.model_dump()) == stopping
