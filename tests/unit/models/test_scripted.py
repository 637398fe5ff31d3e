from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from p2r.dialogue import Decoding, Prompt, Role
from p2r.errors import ConfigError, ModelError
from p2r.models.load import load_model
from p2r.models.scripted import ScriptedModel

SHORT = Decoding(max_new_tokens=8)


def ask(role: Role, text: str = "Where?") -> Prompt:
    return Prompt(role, "", text, (Image.new("RGB", (64, 96)),), "test")


async def test_each_role_says_its_own_replies_in_order() -> None:
    model = ScriptedModel({"perceiver": ["[]", "[1]"], "reasoner": "<answer>A</answer>"})
    said = [
        (await model.complete(ask(role), SHORT)).text for role in ("perceiver", "reasoner", "perceiver", "reasoner")
    ]
    assert said == ["[]", "<answer>A</answer>", "[1]", "<answer>A</answer>"]


async def test_a_function_replies_to_the_prompt() -> None:
    model = ScriptedModel({"judge": lambda prompt: prompt.text.upper()})
    assert (await model.complete(ask("judge", "yes?"), SHORT)).text == "YES?"


async def test_a_completion_counts_visual_tokens() -> None:
    completion = await ScriptedModel({"perceiver": "[]"}).complete(ask("perceiver"), SHORT)
    assert completion.usage.visual_tokens == (6,)
    assert (completion.finish_reason, completion.model) == ("stop", "scripted")


async def test_used_up_replies_are_an_error() -> None:
    model = ScriptedModel({"perceiver": ["[]"]})
    await model.complete(ask("perceiver"), SHORT)
    with pytest.raises(ModelError, match="the replies for the perceiver are used up: the script has 1"):
        await model.complete(ask("perceiver"), SHORT)


async def test_a_role_without_replies_is_an_error() -> None:
    with pytest.raises(ModelError, match="no reply for the judge"):
        await ScriptedModel({"perceiver": "[]"}).complete(ask("judge"), SHORT)


async def test_replies_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "replies.json"
    path.write_text(json.dumps({"perceiver": ["[]"], "reasoner": "B"}))
    model = load_model(f"scripted:{path}")
    assert (await model.complete(ask("reasoner"), SHORT)).text == "B"
    assert model.name == "scripted:replies.json"


def test_a_pixel_limit_is_kept_by_a_script_too(tmp_path: Path) -> None:
    path = tmp_path / "replies.json"
    path.write_text('{"reasoner": "B"}')
    assert load_model(f"scripted:{path}", max_pixels=200704).profile.budget.max_pixels == 200704
    with pytest.raises(ConfigError, match="less than one visual token"):
        load_model(f"scripted:{path}", max_pixels=10)


@pytest.mark.parametrize("text", ["", "[]", '{"painter": "x"}', '{"perceiver": 3}', '{"perceiver": [3]}'])
def test_a_file_with_anything_else_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "replies.json").write_text(text)
    with pytest.raises(ConfigError):
        load_model(f"scripted:{tmp_path / 'replies.json'}")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_model(f"scripted:{tmp_path / 'none.json'}")
    assert caught.value.message == f"the replies in {tmp_path / 'none.json'} cannot be read: no such file or directory"
    assert caught.value.hint


def test_a_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    for content, why in ((b"{", "expecting property name"), (b"\x89PNG", "not text in UTF-8")):
        (tmp_path / "replies.json").write_bytes(content)
        with pytest.raises(ConfigError, match=why) as caught:
            load_model(f"scripted:{tmp_path / 'replies.json'}")
        assert "perceiver" in caught.value.hint


def test_a_script_stands_for_the_family_and_the_frame_that_are_stated(tmp_path: Path) -> None:
    path = tmp_path / "replies.json"
    path.write_text("{}")
    assert load_model(f"scripted:{path}", family="qwen2_5_vl").profile.frame == "pixels"
    assert load_model(f"scripted:{path}", frame="unit").profile.stated_frame == "unit"
    assert load_model(f"scripted:{path}").profile.stated_frame is None
