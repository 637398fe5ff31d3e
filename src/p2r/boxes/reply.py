"""Read what a perceiver's reply says about boxes, before they are placed on an image: four numbers and a label each.

Three steps are tried until one finds a box: strict JSON (the reply, or the only code block in it); json_repair, trusted
only where the reply holds the numbers complete and closed; salvage of each complete list on its own. A list that was
cut off is never completed: `[0, 0, 50, 6` may have been meant to continue as 60.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias, cast

import json_repair

from p2r.errors import excerpt
from p2r.types import ParseStep

Corners: TypeAlias = tuple[float, float, float, float]
Fault: TypeAlias = str


class Entry(NamedTuple):
    """A box as the reply gives it, in the reply's own frame: four finite numbers, or what is wrong with them."""

    corners: Corners | Fault
    label: str


def read_reply(text: str, *, repair: bool, salvage: bool, literal: bool) -> tuple[ParseStep, list[Entry], str]:
    """Return the step that found boxes, the boxes, and the reason when there are none.

    Args:
        repair, salvage: allow the second and the third step.
        literal: read as the authors' release does. Nothing is unwrapped (code block, thinking); in JSON only the
            outermost objects count; in other text, every object without inner braces that is strict JSON; `true` is
            the number 1.
    """
    if not text.strip(_EDGE):
        return "none", [], "the reply is empty"
    whole = _load(text if literal else text.strip(_EDGE))
    if not literal and not isinstance(whole, (list, dict)):
        text = _after_thinking(text)
        whole = _load_unwrapped(text)
    if isinstance(whole, (list, dict)):
        value = cast(object, whole)
        if entries := list(_outermost(value) if literal else _anywhere(value)):
            return "strict", entries, ""
        if value == []:
            return "strict", [], "the reply is an empty list"
        return "none", [], "the reply is JSON without bbox_2d"
    if literal:
        objects = _FLAT_OBJECT.findall(text) if salvage else []
        entries = [entry for found in objects for entry in _outermost(_load(found))]
        return ("salvaged", entries, "") if entries else ("none", [], "the reply names no box")
    return _read_broken(text, repair=repair, salvage=salvage)


# Longer replies are loops, which are not worth json_repair's time.
_MOST_REPAIRED_CHARS = 20_000
_EDGE = "\ufeff \t\r\n"
_CODE_BLOCK = re.compile(r"```[a-zA-Z0-9]*(.*?)(?:```|\Z)", re.DOTALL)
_FLAT_OBJECT = re.compile(r"\{[^{}]*\}")

# Every run is bounded, so that a reply of a megabyte is read in linear time.
_GAP = r"\s{0,64}"
_KEY = rf"\bbbox(?:\\?_2d)?\\?[\"'`]?{_GAP}[:=]{_GAP}"
_NUMBER = r"[\"']?([-+]?(?:\d{1,400}(?:\.\d{0,400})?|\.\d{1,400})(?:[eE][-+]?\d{1,4})?)[\"']?"
_FOUR_NUMBERS = rf"(?:{_GAP}[,;]{_GAP}|\s{{1,64}})".join([_NUMBER] * 4)
_BOX_KEY = re.compile(_KEY)
_CLOSED_BOX = re.compile(rf"{_KEY}[\[(]{_GAP}{_FOUR_NUMBERS}{_GAP},?{_GAP}[\])]")
_NUMBER_AS_TEXT = re.compile(rf"\s*{_NUMBER}\s*")
_LABEL = re.compile(
    rf"\blabel[\"'`]?{_GAP}[:=]{_GAP}"
    r"""(?:"(?P<double>(?:[^"\\]|\\.){0,400})"|'(?P<single>[^']{0,400})'|(?P<bare>[^\s,"'{}\[\]]{1,400}))"""
)


def _read_broken(text: str, *, repair: bool, salvage: bool) -> tuple[ParseStep, list[Entry], str]:
    closed = list(_salvage(text))
    if repair and closed and len(text) <= _MOST_REPAIRED_CHARS:
        repaired = list(_anywhere(_repair(text)))
        legible = [entry.corners for entry in repaired if not isinstance(entry.corners, str)]
        if legible == [entry.corners for entry in closed]:
            return "repaired", repaired, ""
    num_cut_off = sum(1 for _ in _BOX_KEY.finditer(text)) - len(closed)
    cut_off = [Entry("has no complete bbox_2d", "")] * num_cut_off
    if closed and salvage:
        return "salvaged", closed + cut_off, ""
    return "none", cut_off, "the reply names no box"


def _after_thinking(text: str) -> str:
    """Return what follows the last </think>: a box that was considered is not a box that was chosen."""
    final = text.rpartition("</think>")[2]
    return final if final.strip(_EDGE) else text


def _load_unwrapped(text: str) -> object:
    """Load the reply, or the only code block in it, as JSON; None when neither is JSON."""
    value = _load(text.strip(_EDGE))
    if value is None and len(blocks := cast("list[str]", _CODE_BLOCK.findall(text))) == 1:
        return _load(blocks[0].strip(_EDGE))
    return value


def _load(text: str) -> object:
    try:
        return cast(object, json.loads(text))
    except (ValueError, RecursionError):
        return None


def _repair(text: str) -> object:
    try:
        return cast(object, json_repair.loads(text))
    except (ValueError, RecursionError):
        return None


def _outermost(value: object) -> Iterator[Entry]:
    """Yield the entries of a JSON object, or of the objects in a JSON list."""
    for node in cast("list[object]", value) if isinstance(value, list) else [value]:
        if isinstance(node, dict) and "bbox_2d" in node:
            fields = cast("dict[str, object]", node)
            yield Entry(_corners(fields["bbox_2d"], literal=True), _label_text(fields.get("label")))


def _anywhere(value: object) -> Iterator[Entry]:
    """Yield the entries of a JSON value at any depth, in reading order; `bbox` counts as `bbox_2d`."""
    pending = [value]
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            pending.extend(reversed(cast("list[object]", node)))
        elif isinstance(node, dict):
            fields = cast("dict[str, object]", node)
            if key := next((key for key in ("bbox_2d", "bbox") if key in fields), None):
                yield Entry(_corners(fields[key], literal=False), _label_text(fields.get("label")))
            else:
                pending.extend(reversed(fields.values()))


def _salvage(text: str) -> Iterator[Entry]:
    """Yield every complete list of four numbers after a box key, with the label beside it in the same object."""
    found = list(_CLOSED_BOX.finditer(text))
    next_starts = [*(match.start() for match in found[1:]), len(text)]
    last_end = 0
    for match, next_start in zip(found, next_starts, strict=False):
        after = text[match.end() : min(next_start, match.end() + 500)].split("{", 1)[0]
        before = text[max(last_end, match.start() - 500) : match.start()].rpartition("{")[2]
        label = _LABEL.search(after) or _LABEL.search(before)
        yield Entry(_corners(list(match.groups()), literal=False), _unquote(label) if label else "")
        last_end = match.end()


def _corners(value: object, *, literal: bool) -> Corners | Fault:
    if not isinstance(value, list):
        return f"has no list of numbers but {'null' if value is None else excerpt(value)}"
    items = cast("list[object]", value)
    if len(items) != 4:
        return f"has {len(items)} numbers instead of four"
    x1, y1, x2, y2 = (_number(item, literal=literal) for item in items)
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        return f"has a corner that is not a finite number: {excerpt(items)}"
    return x1, y1, x2, y2


def _number(item: object, *, literal: bool) -> float:
    """Return a number; NaN for anything else."""
    if not literal and isinstance(item, str) and (match := _NUMBER_AS_TEXT.fullmatch(item)):
        return float(match[1])
    if not isinstance(item, (int, float)) or (isinstance(item, bool) and not literal):
        return math.nan
    try:
        return float(item)
    except OverflowError:
        return math.inf


def _unquote(label: re.Match[str]) -> str:
    double = label["double"]
    if double is None:
        return _label_text(label["single"] or label["bare"])
    loaded = _load(f'"{double}"')
    return _label_text(loaded if isinstance(loaded, str) else double)


def _label_text(label: object) -> str:
    """Return a label as text that can be written to a file: half a surrogate pair becomes a question mark."""
    text = "" if label is None else label if isinstance(label, str) else json.dumps(label, ensure_ascii=False)
    return text.encode("utf-8", "replace").decode("utf-8")
