"""Read what a perceiver's reply says about boxes, before they are placed on an image: four numbers and a label each.

Three steps are tried until one finds a box: strict JSON (the reply, or the only code block in it); json_repair, trusted
only where it finds the numbers that stand complete in the reply; salvage of each complete list on its own. Each step
takes the boxes that are named (`bbox_2d` or another spelling), or else the lists that stand alone: the prompt asks for
nothing but boxes. `values` reads the numbers, `wrapping` what stands around the reply.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple, cast

import json_repair

from p2r.boxes.values import (
    CUT_OFF,
    Corners,
    Fault,
    find_lists,
    name_corners,
    named_corners,
    read_text_value,
    read_value,
    to_number,
)
from p2r.boxes.wrapping import EDGE, after_thinking, is_correction, load_json, load_unwrapped, straighten, unescape
from p2r.errors import count_nouns, excerpt
from p2r.types import ParseStep, replace_surrogates

REVISED: Fault = "was corrected by a later one"


class Entry(NamedTuple):
    """A box as the reply gives it, in the reply's own frame: four finite numbers, or what is wrong with them."""

    corners: Corners | Fault
    label: str = ""


class _Found(NamedTuple):
    """An entry that was found in a text, and where."""

    entry: Entry
    start: int
    end: int


def read_reply(text: str, *, repair: bool, salvage: bool, literal: bool) -> tuple[ParseStep, list[Entry], str]:
    """Return the step that found boxes, the boxes, and the reason when there are none.

    Args:
        repair, salvage: allow the second and the third step.
        literal: read as the authors' release does. Nothing is unwrapped (code block, thinking); in JSON only the
            outermost objects count; in other text, every object without inner braces that is strict JSON; `true` is
            the number 1.
    """
    if not text.strip(EDGE):
        return "none", [], "the reply is empty"
    if literal:
        return _read_literally(text, salvage=salvage)
    whole = load_json(text.strip(EDGE))
    if not isinstance(whole, (list, dict)):
        text = after_thinking(text)
        if not text.strip(EDGE):
            return "none", [], "the reply ends within a thought"
        whole = load_unwrapped(text)
    if isinstance(whole, (list, dict)):
        return _read_json(cast(object, whole))
    text = unescape(text)
    read = _read_broken(text, repair=repair, salvage=salvage)
    straight = straighten(text)
    if read[0] == "none" and straight != text:
        return _read_broken(straight, repair=repair, salvage=salvage)
    return read


# Longer replies are loops, which are not worth json_repair's time.
_MOST_REPAIRED_CHARS = 20_000
_FLAT_OBJECT = re.compile(r"\{[^{}]*\}")
_GAP = r"\s{0,64}"
_BOX_NAMES = (
    *("bbox2d", "bbox", "box2d", "box", "boundingbox2d", "boundingbox", "bboxcoordinates", "boxcoordinates"),
    *("bboxes2d", "bboxes", "boxes2d", "boxes", "boundingboxes", "coordinates", "coords"),
)
_KEY = re.compile(
    r"(?P<named>(?<![A-Za-z0-9])(?:bb?ox(?:es)?|bounding[ _-]?box(?:es)?)(?:[ _-]?2d)?(?:[ _-]?coord[a-z]{0,8})?"
    rf"\\?[\"'`*]{{0,3}}{_GAP}(?:is|at)?{_GAP}[:=]{_GAP})|<\|?(?:bbox|box|det|bbox_2d|box_start|bbox_start)\|?>",
    re.IGNORECASE,
)
_LABEL = re.compile(
    rf"\blabel[\"'`]?{_GAP}[:=]{_GAP}"
    r"""(?:"(?P<double>(?:[^"\\]|\\.){0,400})"|'(?P<single>[^']{0,400})'|(?P<bare>[^\s,"'{}\[\]]{1,400}))"""
)
_TAGGED_LABEL = re.compile(r"<\|?(?:object_ref_start|ref)\|?>([^<]{1,400})<[/|]{1,2}(?:object_ref_end|ref)\|?>")
_LABEL_IN_FRONT = re.compile(
    r"(?:^|[\n|;])[\s*•-]{0,8}(?:\d{1,3}[.)]\s{1,8})?(?P<label>[^\n|:;\[\](){}<>,]{1,80}?)\s{0,8}\*{0,2}[:|=]\s{0,8}[\[(]*\Z"
)


def _read_literally(text: str, *, salvage: bool) -> tuple[ParseStep, list[Entry], str]:
    value = load_json(text, literal=True)
    if isinstance(value, (list, dict)):
        if entries := list(_outermost(cast(object, value))):
            return "strict", entries, ""
        empty = "the reply is an empty list"
        return ("strict", [], empty) if value == [] else ("none", [], "the reply is JSON without bbox_2d")
    objects = _FLAT_OBJECT.findall(text) if salvage else []
    entries = [entry for found in objects for entry in _outermost(load_json(found, literal=True))]
    return ("salvaged", entries, "") if entries else ("none", [], "the reply names no box")


def _read_json(value: object) -> tuple[ParseStep, list[Entry], str]:
    if entries := list(_named(value)) or list(_unnamed(value)):
        return "strict", entries, ""
    if value == []:
        return "strict", [], "the reply is an empty list"
    return "none", [], "the reply is JSON without bbox_2d"


def _read_broken(text: str, *, repair: bool, salvage: bool) -> tuple[ParseStep, list[Entry], str]:
    text = name_corners(text)
    found = list(_salvage(text)) or list(_salvage_lists(text))
    entries = _leave_out_revised(text, found)
    corners = [entry.corners for entry in entries if not isinstance(entry.corners, str)]
    if repair and corners and len(text) <= _MOST_REPAIRED_CHARS:
        repaired = list(_named(_repair(text)))
        if corners == [entry.corners for entry in repaired if not isinstance(entry.corners, str)]:
            revised = [entry for entry in entries if entry.corners == REVISED]
            return "repaired", revised + _add_labels(repaired, entries), ""
    if corners and salvage:
        return "salvaged", entries, ""
    return "none", [entry for entry in entries if isinstance(entry.corners, str)], "the reply names no box"


def _add_labels(repaired: list[Entry], salvaged: list[Entry]) -> list[Entry]:
    """Return entries with the labels that the repair of a bracket has lost."""
    labels = {entry.corners: entry.label for entry in salvaged}
    return [entry._replace(label=entry.label or labels.get(entry.corners, "")) for entry in repaired]


def _repair(text: str) -> object:
    try:
        return cast(object, json_repair.loads(text))
    except (ValueError, RecursionError):
        return None


def _outermost(value: object) -> Iterator[Entry]:
    """Yield the entries of a JSON object, or of the objects in a JSON list, as the release reads them."""
    for node in cast("list[object]", value) if isinstance(value, list) else [value]:
        if isinstance(node, dict) and "bbox_2d" in node:
            fields = cast("dict[str, object]", node)
            yield Entry(_literal_corners(fields["bbox_2d"]), _label_text(fields.get("label")))


def _literal_corners(value: object) -> Corners | Fault:
    if not isinstance(value, list):
        return f"has no list of numbers but {'null' if value is None else excerpt(value)}"
    items = cast("list[object]", value)
    if len(items) != 4:
        return f"has {count_nouns(len(items), 'number')} instead of four"
    numbers = [float(item) if isinstance(item, bool) else item for item in items]
    x1, y1, x2, y2 = (math.nan if isinstance(item, str) else to_number(item) for item in numbers)
    if x1 is None or y1 is None or x2 is None or y2 is None or not all(map(math.isfinite, (x1, y1, x2, y2))):
        return f"has a corner that is not a finite number: {excerpt(items)}"
    return x1, y1, x2, y2


def _named(value: object) -> Iterator[Entry]:
    """Yield the entries of a JSON value at any depth, in reading order, by the names of their keys."""
    pending = [value]
    while pending:
        node = pending.pop()
        if isinstance(node, str) and "box" in node:
            node = load_json(node)
        if isinstance(node, list):
            pending.extend(reversed(cast("list[object]", node)))
        elif isinstance(node, dict):
            fields = cast("dict[str, object]", node)
            plain = {re.sub(r"[^a-z0-9]", "", name.lower()): content for name, content in fields.items()}
            name = next((name for name in _BOX_NAMES if name in plain), None)
            if name is not None and not _holds_entries(plain[name]):
                yield from _with_labels(read_value(plain[name]), plain)
            elif name is None and named_corners(fields):
                yield from _with_labels(read_value(fields), plain)
            else:
                pending.extend(reversed(fields.values()))


def _holds_entries(value: object) -> bool:
    """Tell whether the value of a key is a list of objects that name their boxes themselves."""
    items = cast("list[object]", value) if isinstance(value, list) else []
    return any(isinstance(item, dict) and not named_corners(cast("dict[str, object]", item)) for item in items)


def _with_labels(boxes: list[Corners | Fault], fields: Mapping[str, object]) -> Iterator[Entry]:
    """Yield boxes with the label of their object, or each with its own where there are as many."""
    label = fields.get("labels", fields.get("label"))
    own = cast("list[object]", label) if isinstance(label, list) else []
    labels = own if len(own) == len(boxes) > 1 else [cast(object, label)] * len(boxes)
    yield from (Entry(box, _label_text(text)) for box, text in zip(boxes, labels, strict=True))


def _unnamed(value: object, label: str = "") -> Iterator[Entry]:
    """Yield each list that is a box; in an object, the key is the label."""
    if isinstance(value, dict):
        for name, content in cast("dict[str, object]", value).items():
            yield from _unnamed(content, name)
    elif isinstance(value, list):
        read = read_value(cast("list[object]", value))
        if any(isinstance(corners, str) for corners in read):
            for item in cast("list[object]", value):
                if isinstance(item, (list, dict)):
                    yield from _unnamed(cast(object, item), label)
        else:
            yield from (Entry(corners, label) for corners in read)


def _salvage(text: str) -> Iterator[_Found]:
    """Yield each box after a box's key, with the label beside it in the same object."""
    last_end = 0
    key = _KEY.search(text)
    while key:
        boxes, end = read_text_value(text, key.end())
        if not boxes and "bbox" in (key["named"] or "").lower():
            boxes = [CUT_OFF]
        next_key = _KEY.search(text, end)
        label = _find_label(text, last_end, key.start(), end, next_key.start() if next_key else len(text))
        yield from (_Found(Entry(box, label), key.start(), end) for box in boxes)
        last_end, key = end, next_key


def _salvage_lists(text: str) -> Iterator[_Found]:
    """Yield each list of a text that is a box, with the words in front of it in the line as its label."""
    for corners, group in find_lists(text):
        front = _LABEL_IN_FRONT.search(text, max(0, group.start - 120), group.start)
        label = front["label"].strip("\"'`* ") if front else ""
        yield _Found(Entry(corners, label), group.start, group.end)


def _leave_out_revised(text: str, found: list[_Found]) -> list[Entry]:
    """Return the entries; those before a correction have a fault in place of corners."""
    last = 0
    for index in range(1, len(found)):
        if is_correction(text[found[index - 1].end : found[index].start][:400]):
            last = index
    return [Entry(REVISED, one.entry.label) for one in found[:last]] + [one.entry for one in found[last:]]


def _find_label(text: str, last_end: int, start: int, end: int, next_start: int) -> str:
    """Return the label in the object of a box that was found between `start` and `end`, or in tags in front of it."""
    after = text[end : min(next_start, end + 500)].split("{", 1)[0]
    before = text[max(last_end, start - 500) : start]
    if label := _LABEL.search(after) or _LABEL.search(before.rpartition("{")[2]):
        return _unquote(label)
    tagged = _TAGGED_LABEL.findall(before)
    return _label_text(tagged[-1].strip()) if tagged else ""


def _unquote(label: re.Match[str]) -> str:
    double = label["double"]
    if double is None:
        return _label_text(label["single"] or label["bare"])
    loaded = load_json(f'"{double}"', literal=True)
    return _label_text(loaded if isinstance(loaded, str) else double)


def _label_text(label: object) -> str:
    """Return a label as text that can be written to a file: half a surrogate pair becomes a question mark."""
    text = "" if label is None else label if isinstance(label, str) else json.dumps(label, ensure_ascii=False)
    return replace_surrogates(text)
