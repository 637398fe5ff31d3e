"""Replies that are kept: the same prompt is not asked twice, another one always is, and failures are never kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest
from PIL import Image

from p2r.dialogue import Decoding, Prompt, Turn
from p2r.errors import ModelError, StorageError
from p2r.models.cached import CACHE_FILE, CachedModel, ReplyCache, make_key
from p2r.models.load import identify_checkpoint, load_model
from p2r.models.scripted import ScriptedModel
from p2r.types import Completion

GREEDY = Decoding(max_new_tokens=8)
PROMPT = Prompt("reasoner", "Be brief.", "What is it?", (Image.new("RGB", (64, 32), "navy"),), "set")


class Counting:
    """A scripted model that counts what it is asked, and may fail first."""

    def __init__(self, *, num_failures: int = 0) -> None:
        self.num_asked, self.num_failures = 0, num_failures
        self.model = ScriptedModel({"reasoner": self._reply, "perceiver": self._reply})

    def _reply(self, prompt: Prompt) -> str:
        self.num_asked += 1
        if self.num_asked <= self.num_failures:
            raise ModelError("not today")
        return f"reply {self.num_asked}"

    def cached(self, folder: Path, identity: str = "one") -> CachedModel:
        return CachedModel(self.model, identity, ReplyCache(folder))


async def test_the_same_prompt_is_asked_once_also_by_another_process_later(tmp_path: Path) -> None:
    counting = Counting()
    first = await counting.cached(tmp_path).complete(PROMPT, GREEDY)
    second = await counting.cached(tmp_path).complete(PROMPT, GREEDY)
    assert (first.reused, second.reused, counting.num_asked) == ("", "cache", 1)
    assert second.model_copy(update={"reused": ""}) == first
    assert second.usage.visual_tokens == (2,)


CHANGES: dict[str, Callable[[Prompt], Prompt]] = {
    "role": lambda prompt: replace(prompt, role="perceiver"),
    "system": lambda prompt: replace(prompt, system=""),
    "text": lambda prompt: replace(prompt, text="What is it? "),
    "pixels": lambda prompt: replace(prompt, images=(Image.new("RGB", (64, 32), "black"),)),
    "size": lambda prompt: replace(prompt, images=(Image.new("RGB", (32, 64), "navy"),)),
    "number of images": lambda prompt: replace(prompt, images=prompt.images * 2),
    "later turns": lambda prompt: replace(prompt, later=(Turn("assistant", ("Hm.",)), Turn("user", ("Well?",)))),
}


@pytest.mark.parametrize("changed", CHANGES)
async def test_a_prompt_that_differs_is_asked(tmp_path: Path, changed: str) -> None:
    counting = Counting()
    model = counting.cached(tmp_path)
    await model.complete(PROMPT, GREEDY)
    assert (await model.complete(CHANGES[changed](PROMPT), GREEDY)).reused == ""


def test_every_part_of_a_prompt_was_thought_of() -> None:
    """The name of the wording is left out on purpose: its words are in the text."""
    assert {field.name for field in fields(Prompt)} == {"role", "system", "text", "images", "later", "fingerprint"}
    assert make_key("m", PROMPT, GREEDY) == make_key("m", replace(PROMPT, fingerprint="other"), GREEDY)


@pytest.mark.parametrize("decoding", [Decoding(max_new_tokens=9), Decoding(max_new_tokens=8, temperature=1, seed=1)])
async def test_other_decoding_and_other_models_are_asked(tmp_path: Path, decoding: Decoding) -> None:
    counting = Counting()
    await counting.cached(tmp_path).complete(PROMPT, GREEDY)
    assert (await counting.cached(tmp_path).complete(PROMPT, decoding)).reused == ""
    assert (await counting.cached(tmp_path, "another").complete(PROMPT, GREEDY)).reused == ""


async def test_drawn_replies_are_never_kept_but_seeded_ones_are(tmp_path: Path) -> None:
    model = Counting().cached(tmp_path)
    drawn, seeded = Decoding(max_new_tokens=8, temperature=1.0), Decoding(max_new_tokens=8, temperature=1.0, seed=3)
    assert [(await model.complete(PROMPT, drawn)).text for _ in range(2)] == ["reply 1", "reply 2"]
    assert [(await model.complete(PROMPT, seeded)).text for _ in range(2)] == ["reply 3", "reply 3"]


async def test_failures_are_never_kept(tmp_path: Path) -> None:
    model = Counting(num_failures=2).cached(tmp_path)
    for _ in range(2):
        with pytest.raises(ModelError, match="not today"):
            await model.complete(PROMPT, GREEDY)
    assert (await model.complete(PROMPT, GREEDY)).text == "reply 3"


def test_two_caches_of_one_folder_see_each_other(tmp_path: Path) -> None:
    one, two = ReplyCache(tmp_path), ReplyCache(tmp_path)
    reply = Completion(text="a", finish_reason="stop", model="m")
    one.keep("key", reply)
    two.keep("key", reply.model_copy(update={"text": "b"}))
    assert (one.find("key"), two.find("key"), one.find("other")) == (reply, reply, None)


WRITER = """
import sys
from pathlib import Path
from p2r.models.cached import ReplyCache
from p2r.types import Completion

cache = ReplyCache(Path(sys.argv[1]))
for number in range(10**6):
    cache.keep(f"key {number}", Completion(text="x" * 2000, finish_reason="stop", model="m"))
    print(number, flush=True)
"""


def test_a_kill_loses_nothing_that_was_kept(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for _ in range(50):
        assert process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    rest, _ = process.communicate()
    num_kept = 50 + len(rest.splitlines()) - (0 if rest.endswith("\n") or not rest else 1)
    cache = ReplyCache(tmp_path)
    assert all(cache.find(f"key {number}") is not None for number in range(num_kept))
    cache.keep("after", Completion(text="y", finish_reason="stop", model="m"))


def test_a_file_that_is_no_cache_is_said_so(tmp_path: Path) -> None:
    (tmp_path / CACHE_FILE).write_text("not a database, and long enough to be looked at " * 40)
    with pytest.raises(StorageError, match="cannot be used") as caught:
        ReplyCache(tmp_path)
    assert "another folder" in caught.value.hint
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be used"):
        ReplyCache(tmp_path / "file" / "below")


async def test_a_changed_script_is_another_model(tmp_path: Path) -> None:
    script = tmp_path / "replies.json"
    texts: list[str] = []
    for reply in ("A", "B", "A"):
        script.write_text(f'{{"reasoner": "{reply}"}}')
        model = load_model(f"scripted:{script}", cache=tmp_path / "cache")
        texts.append(f"{(await model.complete(PROMPT, GREEDY)).text}{(await model.complete(PROMPT, GREEDY)).reused}")
    assert texts == ["Acache", "Bcache", "Acache"]
    assert (await model.complete(PROMPT, GREEDY)).reused == "cache"


def test_a_checkpoint_that_was_trained_on_is_another_model(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"0" * 8)
    before = identify_checkpoint(tmp_path)
    assert before == identify_checkpoint(tmp_path)
    weights.write_bytes(b"1" * 8)
    os.utime(weights, ns=(1, 1))
    assert identify_checkpoint(tmp_path) != before
