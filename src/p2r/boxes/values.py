"""From one value to corners: four numbers in whatever wrapping a model puts them.

A value may be a list of four numbers (a fifth from 0 to 1 is a score), two points, several of these, an object with
named corners, or any of this as text. Numbers must be whole: one that touches the end of the reply may have been cut
off (`[0, 0, 50, 6` may have been meant to continue as 60), so it is never part of a box.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias, cast

from p2r.errors import count_nouns, excerpt

Corners: TypeAlias = tuple[float, float, float, float]
Fault: TypeAlias = str

CUT_OFF: Fault = "has no complete bbox_2d"

# Every run is bounded, so that a reply of a megabyte is read in linear time.
_DIGITS = r"[-+]?(?:[0-9]{1,400}(?:\.[0-9]{0,400})?|\.[0-9]{1,400})(?:[eE][-+]?[0-9]{1,4})?"
_QUOTE = r"\\?[\"']?"
_BETWEEN = rf"{_QUOTE}(?:\s{{0,64}}[,;]\s{{0,64}}|\s{{1,64}}){_QUOTE}"
_NUMBER = re.compile(_DIGITS)
_NUMBER_AS_TEXT = re.compile(rf"\s*{_DIGITS}\s*")
_RUN = re.compile(rf"(?<![\w.%+-]){_DIGITS}(?:{_BETWEEN}{_DIGITS})*")
_TAG = r"<[/|]{0,2}[a-z_0-9]{1,20}\|?>"
_GAP = re.compile(rf"(?:[\s\[\](){{}},;\"'\\]|{_TAG})*")
_NEXT_POINT = re.compile(r"[\"']?\s{0,64}[\])]\s{0,64}(?:[,;-]|to|and|到|至)?\s{0,64}[\[(]\s{0,64}[\"']?")
_OPEN = re.compile(rf"(?:^|[\[({{]|{_TAG})[\s\"'\\]{{0,64}}\Z")
_CLOSED = re.compile(rf",?[\s\"'\\]{{0,64}}(?:[\])}}]|{_TAG})")

_CORNER_NAMES = (
    ("x1", "y1", "x2", "y2"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("left", "top", "right", "bottom"),
    ("x0", "y0", "x1", "y1"),
)
_NAMED = [
    re.compile(
        r"[\s,]{0,64}".join(rf"[\"']?\b{name}[\"']?\s{{0,8}}[:=]\s{{0,8}}({_DIGITS})" for name in names)
        + r"(?=\s{0,64}[,}\])\"'])",
        re.IGNORECASE,
    )
    for names in _CORNER_NAMES
]


class NumberRun(NamedTuple):
    """Numbers that follow each other in a text, and where.

    is_whole: the text goes on after the last number, so that this has all its digits.
    """

    numbers: tuple[float, ...]
    start: int
    end: int
    is_whole: bool


def read_value(value: object) -> list[Corners | Fault]:
    """Return the boxes in the value of a box's key, as JSON gives it, or what is wrong with it."""
    if isinstance(value, str):
        return read_text(value)
    if isinstance(value, dict):
        numbers = named_corners(cast("Mapping[str, object]", value))
        return [f"has no list of numbers but {excerpt(cast(object, value))}" if numbers is None else _check(numbers)]
    if not isinstance(value, list):
        return [f"has no list of numbers but {'null' if value is None else excerpt(value)}"]
    items = cast("list[object]", value)
    if items and all(isinstance(item, (list, dict)) for item in items):
        if points := _two_points(items):
            return [_check(points)]
        if all(map(_is_point, items)):
            return [f"has {count_nouns(len(items), 'point')} instead of two"]
        return [found for item in items for found in read_value(item)]
    if items and all(isinstance(item, str) and to_number(item) is None for item in items):
        return [found for item in items for found in read_text(cast(str, item))]
    return [read_corners(items)]


def read_corners(items: Sequence[object]) -> Corners | Fault:
    """Return four numbers of a list, or what is wrong with it. A fifth entry is left out: a score, or a text."""
    numbers = [to_number(item) for item in items]
    if len(items) == 5 and (_is_score(numbers[4]) or (numbers[4] is None and isinstance(items[4], str))):
        numbers = numbers[:4]
    if len(numbers) != 4:
        return f"has {count_nouns(len(items), 'number')} instead of four"
    return _check([math.nan if number is None else number for number in numbers], items)


def read_text(text: str) -> list[Corners | Fault]:
    """Return the boxes in a text that is complete, such as the value of a key that is a text."""
    closed = name_corners(text + "}")
    found = [corners for corners, _ in join_groups(closed, find_groups(closed))]
    return found or [f"has no list of numbers but {excerpt(text)}"]


def read_text_value(text: str, start: int) -> tuple[list[Corners | Fault], int]:
    """Read the value of a key in a text that is not JSON.

    Args:
        start: where the value begins.

    Returns:
        The boxes, and where the value ends. No box where what follows is no number at all.
    """
    groups: list[NumberRun] = []
    end = start
    while gap := (_NEXT_POINT.match(text, end) if groups else None) or _GAP.match(text, end):
        run = _RUN.match(text, gap.end())
        if run is None or (groups and not _OPEN.search(gap[0])):
            break
        groups.append(_make_group(text, run))
        end = run.end()
    if not groups:
        nothing_until = gap.end() if gap else start  # nor does a key within the gap have a value
        return ([CUT_OFF] if nothing_until == len(text) else []), nothing_until
    return [corners for corners, _ in join_groups(text, groups)], end


def find_groups(text: str) -> Iterator[NumberRun]:
    """Yield every run of numbers in a text."""
    for run in _RUN.finditer(text):
        yield _make_group(text, run)


def find_lists(text: str) -> list[tuple[Corners | Fault, NumberRun]]:
    """Return the boxes that stand as lists in a text; none where some list holds something else than a box.

    A list is opened by a bracket or begins the text, and is closed by a bracket; one that ends the text is cut off.
    """
    groups = [
        group
        for group in find_groups(text)
        if _OPEN.search(text, max(0, group.start - 100), group.start)
        and (_CLOSED.match(text, group.end) if group.is_whole else len(group.numbers) > 1)
    ]
    found = join_groups(text, groups)
    return found if all(corners == CUT_OFF or not isinstance(corners, str) for corners, _ in found) else []


def join_groups(text: str, groups: Iterable[NumberRun]) -> list[tuple[Corners | Fault, NumberRun]]:
    """Make a box of each group of four numbers, and of each two points that stand side by side."""
    chains: list[list[NumberRun]] = []
    for group in groups:
        before = chains[-1][-1] if chains else None
        is_next = before is not None and _NEXT_POINT.fullmatch(text, before.end, group.start) is not None
        if before is not None and is_next and len(before.numbers) == 2 and len(group.numbers) <= 2:
            chains[-1].append(group)
        else:
            chains.append([group])
    return [(_read_chain(chain), chain[0]._replace(end=chain[-1].end)) for chain in chains]


def name_corners(text: str) -> str:
    """Write named corners (`x1: 1, y1: 2, x2: 3, y2: 4`) as lists."""
    for named in _NAMED:
        text = named.sub(r"[\1, \2, \3, \4]", text)
    return text


def named_corners(fields: Mapping[str, object]) -> list[float] | None:
    """Return the corners that an object names (x1, xmin, left, ...); None when it names none."""
    plain = {re.sub(r"[^a-z0-9]", "", name.lower()): value for name, value in fields.items()}
    for names in _CORNER_NAMES:
        numbers = [to_number(plain.get(name)) for name in names]
        if all(number is not None for number in numbers):
            return cast("list[float]", numbers)
    points = [plain.get("topleft"), plain.get("bottomright")]
    return _two_points(points)


def to_number(item: object) -> float | None:
    """Return a number, also one that is written as text; None for anything else."""
    if isinstance(item, str):
        return float(item) if _NUMBER_AS_TEXT.fullmatch(item) else None
    if not isinstance(item, (int, float)) or isinstance(item, bool):
        return None
    try:
        return float(item)
    except OverflowError:
        return math.inf


def _make_group(text: str, run: re.Match[str]) -> NumberRun:
    after = text[run.end() : run.end() + 1]
    is_whole = bool(after) and not (after.isalnum() or after in "%°_.")
    return NumberRun(tuple(map(float, _NUMBER.findall(run[0]))), run.start(), run.end(), is_whole)


def _read_chain(chain: Sequence[NumberRun]) -> Corners | Fault:
    if not chain[-1].is_whole:
        return CUT_OFF
    numbers = [number for group in chain for number in group.numbers]
    if len(chain) > 2 or (len(chain) == 1 and len(numbers) == 2):
        return "is a point" if len(chain) == 1 else f"has {len(chain)} points instead of two"
    return read_corners(numbers)


def _is_point(item: object) -> bool:
    numbers = cast("list[object]", item) if isinstance(item, list) else []
    return len(numbers) == 2 and all(to_number(number) is not None for number in numbers)


def _two_points(items: Sequence[object]) -> list[float] | None:
    """Return the numbers of two lists of two numbers; None for anything else."""
    if len(items) != 2 or not all(map(_is_point, items)):
        return None
    return [cast(float, to_number(number)) for point in cast("list[list[object]]", items) for number in point]


def _check(numbers: Sequence[float], items: Sequence[object] | None = None) -> Corners | Fault:
    x1, y1, x2, y2 = numbers
    if not all(map(math.isfinite, numbers)):
        return f"has a corner that is not a finite number: {excerpt(list(items or numbers))}"
    return x1, y1, x2, y2


def _is_score(number: float | None) -> bool:
    return number is not None and 0 <= number <= 1
