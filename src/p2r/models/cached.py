"""A cache of replies on disk, so that a model is asked the same prompt only once.

A key is a hash of everything that can change a reply: the model, and the prompt's image pixels, texts, role and
decoding. Images are sized before they are asked about, so the pixel budget counts too. Drawn replies (a temperature
without a seed) are never kept, because each is one draw of many; nor are failures.

The replies are in one SQLite file that several runs and processes may use at the same time. A kill loses at most the
reply that was being written.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
import threading
import weakref
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from p2r.dialogue import Decoding, Model, Prompt
from p2r.errors import StorageError, reason_of
from p2r.images.budget import hash_pixels
from p2r.types import Completion

CACHE_FILE = "replies.sqlite"
LONGEST_WAIT_S = 60.0
"""The longest wait for another process to finish writing."""


class CachedModel:
    """A model that is asked only for replies that are not in the cache. A reply from the cache has `reused` "cache".

    Args:
        identity: tells the model apart from every other model, beyond its name.
    """

    def __init__(self, model: Model, identity: str, cache: ReplyCache) -> None:
        self.name, self.profile = model.name, model.profile
        self._model, self._identity, self._cache = model, identity, cache

    async def complete(self, prompt: Prompt, decoding: Decoding) -> Completion:
        """Return the reply in the cache, or ask the model.

        Raises:
            StorageError: the cache cannot be read or written.
            ModelError: there is no usable reply.
        """
        if is_drawn(decoding):
            return await self._model.complete(prompt, decoding)
        key = await asyncio.to_thread(make_key, self._identity, prompt, decoding)
        kept = await asyncio.to_thread(self._cache.find, key)
        if kept is not None:
            return kept.model_copy(update={"reused": "cache"})
        completion = await self._model.complete(prompt, decoding)
        if not completion.was_drawn:
            await asyncio.to_thread(self._cache.keep, key, completion)
        return completion


class ReplyCache:
    """Replies by key, in a file in a folder that is made when missing. It may be used from any thread.

    Raises:
        StorageError: the folder cannot be written, or the file is not a cache.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / CACHE_FILE
        self._lock = threading.Lock()
        with self._explain():
            folder.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(
                self._path, timeout=LONGEST_WAIT_S, isolation_level=None, check_same_thread=False
            )
        weakref.finalize(self, self._file.close)
        with self._explain():
            self._file.execute("PRAGMA journal_mode = WAL")
            self._file.execute("PRAGMA synchronous = NORMAL")
            self._file.execute("CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply TEXT) WITHOUT ROWID")

    def find(self, key: str) -> Completion | None:
        """Return the reply kept under `key`, if any. Raises StorageError."""
        with self._lock, self._explain():
            row = self._file.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        try:
            return Completion.model_validate_json(row[0])
        except ValidationError as error:
            raise StorageError(
                f"{self._path} holds a reply that cannot be read", hint="use another folder, or remove the file"
            ) from error

    def keep(self, key: str, completion: Completion) -> None:
        """Keep a reply unless there is one under its key. Raises StorageError."""
        with self._lock, self._explain():
            self._file.execute("INSERT OR IGNORE INTO replies VALUES (?, ?)", (key, completion.model_dump_json()))

    @contextmanager
    def _explain(self) -> Generator[None, None, None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StorageError(
                f"the cache {self._path} cannot be used: {reason_of(error)}",
                hint="use another folder, or remove the file",
            ) from error


def is_drawn(decoding: Decoding) -> bool:
    """Tell whether the same prompt may get another reply the next time."""
    return decoding.temperature > 0 and decoding.seed is None


def make_key(identity: str, prompt: Prompt, decoding: Decoding) -> str:
    """Hash everything that a reply depends on."""
    parts = {
        "model": identity,
        "role": prompt.role,
        "system": prompt.system,
        "turns": [
            [turn.role, *([part] if isinstance(part, str) else hash_pixels(part) for part in turn.parts)]
            for turn in prompt.turns
        ],
        "decoding": decoding.model_dump(mode="json"),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
