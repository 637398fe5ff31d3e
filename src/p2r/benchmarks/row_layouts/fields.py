"""What a row's fields hold, in the many ways of writing it: structs as JSON text, messages of every dialect, parts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from p2r.benchmarks.files.parquet_file import ParquetCell
from p2r.benchmarks.files.rows import Cell, Row, is_empty, parse_struct
from p2r.benchmarks.files.tsv_file import FileRange
from p2r.benchmarks.row_layouts.layouts import KEY_WORD_COLUMNS
from p2r.errors import excerpt

_USERS = frozenset({"user", "human"})
_ASSISTANTS = frozenset({"assistant", "gpt", "model", "bot", "chatgpt"})
_IMAGE_KEYS = ("image_url", "image", "url", "path")
"""The keys under which a part of a message may hold its image."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message: its text, and the images among its parts, as they are written."""

    is_user: bool
    text: str
    images: tuple[object, ...] = ()


def get_field(row: Row, path: str) -> object:
    """Return the value of a field, such as `solution` or `reward_model.ground_truth`; None when it is not there."""
    name, _, inner = path.partition(".")
    value = _read_text(row.cells[name]) if name in row.cells else row.values.get(name)
    for key in inner.split(".") if inner else ():
        value = parse_struct(value)
        value = cast("Mapping[str, object]", value).get(key) if isinstance(value, Mapping) else None
    return value


def get_text(row: Row, path: str) -> str:
    """Return a field's text or number, also out of a list of one. Raises DataError when there is none."""
    value = get_field(row, path)
    if isinstance(value, str) and value.strip().startswith("["):
        value = parse_struct(value)
    if isinstance(value, list | tuple) and len(cast("Sequence[object]", value)) == 1:
        value = cast("Sequence[object]", value)[0]
    if isinstance(value, bool) or not isinstance(value, str | int | float) or is_empty(value):
        holder = row.values.get(path.partition(".")[0])
        raise row.fail(path, f"no answer in {excerpt(holder)}" if holder is not None else "missing")
    return str(int(value) if isinstance(value, float) and value.is_integer() and "." not in path else value).strip()


def read_messages(row: Row, name: str) -> list[Message]:
    """Read the messages in a field; a mere text is the user's. Raises DataError for anything else."""
    value = parse_struct(get_field(row, name))
    if isinstance(value, str):
        return [Message(is_user=True, text=value)]
    if isinstance(value, Mapping):
        value = [cast("object", value)]
    if not isinstance(value, list | tuple):
        raise row.fail(name, "missing" if value is None else f"{excerpt(value)} is not a list of messages")
    return [message for item in cast("Sequence[object]", value) for message in _read_message(item)]


def read_system(row: Row, name: str) -> str:
    """Read the system's message: the column `system`, or the one among the messages in a field; "" without one."""
    if row.has("system"):
        return get_text(row, "system")
    value = parse_struct(get_field(row, name))
    for item in cast("Sequence[object]", value) if isinstance(value, list | tuple) else ():
        fields: Mapping[str, object] = cast("Mapping[str, object]", item) if isinstance(item, Mapping) else {}
        if (fields.get("role") or fields.get("from")) == "system":
            return _make_message("system", fields.get("content", fields.get("value"))).text
    return ""


def read_key_words(row: Row) -> tuple[str, ...]:
    """Read a row's key words: a list of texts or one text, split at its commas; () without any.

    Raises:
        DataError: there is something else, or a text of which it is not clear where to split it.
    """
    name, *others = [name for name in KEY_WORD_COLUMNS if row.has(name)] or [""]
    if others:
        raise row.fail(others[0], f"there is also {name!r}", "give one of them")
    value = parse_struct(get_field(row, name)) if name else ()
    if isinstance(value, str):
        value = _split_key_words(value, name, row)
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = [value]
    if not isinstance(value, list | tuple):
        raise row.fail(name, f"{excerpt(value)} is not a list of key words", _KEY_WORD_HINT)
    words: list[str] = []
    for number, word in enumerate(cast("Sequence[object]", value), start=1):
        if isinstance(word, bool) or not isinstance(word, str | int | float) or is_empty(word):
            raise row.fail(name, f"key word {number} is {excerpt(word)}, which names nothing", _KEY_WORD_HINT)
        words.append(str(int(word) if isinstance(word, float) and word.is_integer() else word).strip())
    return tuple(words)


_KEY_WORD_HINT = 'give a list of texts, such as ["sail", "star"]'
_OTHER_SEPARATOR = re.compile(r"[;|\n\r、，；]|\d,\d")
"""Signs that may part key words in place of commas, and commas that may be within one."""


def _split_key_words(text: str, name: str, row: Row) -> list[str]:
    words = [word.strip() for word in text.split(",")]
    if _OTHER_SEPARATOR.search(text) or "" in words:
        raise row.fail(name, f"{excerpt(text)} does not say clearly where a key word ends", _KEY_WORD_HINT)
    return words


def _read_message(item: object) -> Iterator[Message]:
    item = parse_struct(item)
    if not isinstance(item, Mapping):
        return
    fields = cast("Mapping[str, object]", item)
    role = fields.get("role") or fields.get("from")
    turns = fields if role is None else {str(role): fields.get("content", fields.get("value"))}
    for name, content in turns.items():  # without a role: {"human": ..., "assistant": ...}
        if name.lower() in _USERS | _ASSISTANTS:
            yield _make_message(name, content)


def _make_message(role: str, content: object) -> Message:
    parts = cast("Sequence[object]", content) if isinstance(content, list | tuple) else [content]
    texts, images = list[str](), list[object]()
    for part in parts:
        fields = cast("Mapping[str, object]", part) if isinstance(part, Mapping) else {"text": part}
        text = fields.get("text")
        if isinstance(text, FileRange):
            text = _read_text(text)
        if isinstance(text, str) and text.strip():
            texts.append(text)
        image = next((fields[name] for name in _IMAGE_KEYS if fields.get(name) is not None), None)
        if isinstance(image, Mapping):
            image = cast("Mapping[str, object]", image)
            image = image.get("url", image)
        if image is not None:
            images.append(image)
    return Message(role.lower() in _USERS, "\n".join(texts), tuple(images))


def _read_text(cell: Cell) -> object:
    """Read a long text that was left in its file."""
    if isinstance(cell, ParquetCell):
        return cell.read_value()
    return cast("str", json.loads(b'"' + cell.read() + b'"'))
