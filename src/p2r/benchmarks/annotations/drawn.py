"""The boxes that an annotation file states for an image, and how its images are found by name."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote

from p2r.errors import DataError
from p2r.types import Box

MOST_NAMED = 5
_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")


@dataclass(slots=True, eq=False)
class DrawnImage:
    """The boxes of one image, or of one question about it.

    sample_id, question: what the file states of the question; "" when it states nothing.
    image_wh: the size in pixels that the file states for the image; None when it states none.
    error: why the boxes cannot be used.
    num_empty: boxes without an area, which are left out.
    """

    image_wh: tuple[float, float] | None = None
    boxes: list[Box] = field(default_factory=list[Box])
    error: str = ""
    num_empty: int = 0
    sample_id: str = ""
    question: str = ""

    def add(self, width: float, height: float, make: Callable[[], Box]) -> None:
        """Add a box of a width and height, and record why it cannot be made."""
        if min(width, height) == 0:
            self.num_empty += 1
            return
        try:
            self.boxes.append(make())
        except DataError as error:
            self.error = self.error or error.message


def choose_drawn(drawn: Sequence[DrawnImage], sample_id: str, question: str) -> list[DrawnImage]:
    """Return what was drawn for a question: by its text and id, or one of them; [] when nothing tells."""
    by_text = [one for one in drawn if question and one.question.strip() == question.strip()]
    by_id = [one for one in drawn if sample_id and one.sample_id == sample_id]
    return [one for one in by_text if one in by_id] or by_text or by_id


def differ_in_shape(first: tuple[float, float], second: tuple[float, float]) -> bool:
    """Return True unless one size is the other one scaled and rounded to pixels."""
    small, large = sorted((first, second), key=max)
    scale = max(small) / max(large)
    return any(abs(a - b * scale) > 1 for a, b in zip(small, large, strict=True))


class ImageNames:
    """Finds a name among others that may be paths or URLs, or spelled as Label Studio stores uploads."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = list(names)
        self._by_spelling: list[dict[str, list[str]]] = []

    def find(self, name: str) -> list[str]:
        """Return the names that are the same image's, by the first spelling that any have; [] when there are none."""
        for level, spell in enumerate(_SPELLINGS):
            if level == len(self._by_spelling):
                found = defaultdict[str, list[str]](list)
                for own in self._names:
                    found[spell(own)].append(own)
                self._by_spelling.append(found)
            if same := self._by_spelling[level].get(spell(name)):
                return same
        return []


def _spell_last(name: str) -> str:
    return unicodedata.normalize("NFC", name.replace("\\", "/").rsplit("/", 1)[-1])


def _spell_plain(name: str) -> str:
    """The last part without the query of a URL and its escapes (%20); Label Studio's `?d=` holds a local path."""
    path, _, query = name.partition("?")
    return _spell_last(unquote(query.removeprefix("d=") if query.startswith("d=") else path))


def _spell_without_prefix(name: str) -> str:
    return _UPLOAD_PREFIX.sub("", _spell_plain(name))


def _spell_as_upload(name: str) -> str:
    """Spell a name as Label Studio does for uploads: blanks become underscores, signs are dropped."""
    return re.sub(r"[^-\w.]", "", _spell_without_prefix(name).strip().replace(" ", "_"))


def _spell_in_small(name: str) -> str:
    return _spell_as_upload(name).casefold()


_SPELLINGS: tuple[Callable[[str], str], ...] = (
    *(str, _spell_last, _spell_plain, _spell_without_prefix),
    *(_spell_as_upload, _spell_in_small),
)


def name_some(names: Iterable[str]) -> str:
    """Name the first few."""
    names = list(names)
    return ", ".join(names[:MOST_NAMED]) + (", ..." if len(names) > MOST_NAMED else "")
