"""V* Bench (Wu and Xie, 2024): 191 questions about small details, in the four layouts in which it is passed around.

The original folder has the boxes, but always states the right option first: its options are shuffled by a seed. The
folder's own `test_questions.jsonl` has the published order of options, and boxes in the files beside it. The layouts of
lmms-eval and VLMEvalKit have an order of their own and no boxes; boxes are joined from the original folder if it is
given. Prompts are the same for all: the question lists the options as lines "(A) ...", as in the authors' release,
without the closing sentence that asks for a letter.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from p2r.benchmarks.annotations.gold_boxes import box_from_pixels, cut_slip
from p2r.benchmarks.base import Facts
from p2r.benchmarks.files.field_image import IMAGE_COLUMNS, find_image
from p2r.benchmarks.files.rows import Row
from p2r.benchmarks.files.table_file import read_table
from p2r.benchmarks.layout import Loaded, Source
from p2r.benchmarks.options import (
    check_options,
    find_doubles,
    join_question,
    read_letter_columns,
    split_question,
)
from p2r.choices import shuffle_order
from p2r.errors import DataError, count_nouns, excerpt
from p2r.images.load import FileImage, read_size
from p2r.types import LETTERS, Box, Sample

FACTS = Facts("vstar", 191, {"direct_attributes": 115, "relative_position": 76})
LISTING = "test_questions.jsonl"
"""The original release's own file of questions."""
SLIP_SHARE = 0.05
"""A box, drawn by hand, may reach this share of the image's longer side beyond the edge. It is cut there.

It is wide because V*'s boxes are drawn by hand around whole objects and cannot be corrected. Boxes in a reply (2%,
`boxes.parse.SLIP`) are numbers of a model, where more than a slip is a sign of another frame.
"""

_CLOSING = re.compile(r"\s*Answer with the option'?s letter from the given choices directly\.?\s*$")


def load_vstar(source: Source) -> Loaded:
    """Load any of the four layouts. Raises DataError for another one or more bad rows than allowed."""
    if is_original_folder(source.path):
        return _load_original(source)
    table = read_table(source.path, split=source.split)
    table.require_one(IMAGE_COLUMNS)
    if "text" in table.columns:
        table.require(["category", "label"])
        make = _from_lmms(source.image_root)
    else:
        table.require(["question", "A", "B", "answer"])
        make = _from_tsv(source.image_root)
    samples = source.sieve.collect(table.rows, make, lambda row: row.place)
    differences = find_doubles(samples)
    original = source.boxes
    if original is None and source.path.name == LISTING and is_original_folder(source.path.parent):
        original = source.path.parent
    if original is None:
        notes = ["no boxes: hit rate, IoU and the oracle need the original folder (boxes=...)"]
        return Loaded(samples, FACTS, differences, notes)
    joined, missing = join_boxes(samples, original)
    if missing:
        differences.append(
            f"{count_nouns(len(missing), 'sample')} found no boxes in {original}: {', '.join(missing[:5])}"
        )
    return Loaded(joined, FACTS, differences, [f"boxes joined from {original}"])


def is_original_folder(path: Path) -> bool:
    return any((path / category).is_dir() for category in FACTS.categories)


@dataclass(frozen=True, slots=True)
class _Annotation:
    """One JSON file of the original release. boxes: corners in pixels."""

    path: Path
    question: str
    options: tuple[str, ...]
    labels: tuple[str, ...]
    boxes: tuple[tuple[float, float, float, float], ...]

    @property
    def image(self) -> FileImage:
        images = [self.path.with_suffix(suffix) for suffix in (".jpg", ".jpeg", ".png")]
        return FileImage(next((path for path in images if path.exists()), images[0]))

    def states(self, options: Sequence[str]) -> bool:
        """Return True if each of these options is, or is part of, one of the annotation's."""
        own = [_normalize(option) for option in self.options]
        return all(any(_normalize(option) in text for text in own) for option in options)

    def gold_boxes(self) -> tuple[Box, ...]:
        """Return the boxes per mille. Raises DataError for a bad box and ImageError for an unreadable image."""
        image_wh = read_size(self.image)
        slip = SLIP_SHARE * max(image_wh)
        return tuple(
            box_from_pixels(cut_slip(corners, image_wh, slip), image_wh, label)
            for corners, label in zip(self.boxes, self.labels, strict=True)
        )


def _load_original(source: Source) -> Loaded:
    paths = _find_annotations(source.path)

    def make(path: Path) -> Sample:
        annotation = _read_annotation(path)
        name = f"{path.parent.name}/{path.stem}"
        order = shuffle_order(len(annotation.options), source.seed, name)
        options = tuple(annotation.options[k] for k in order)
        return Sample(
            id=name,
            image=annotation.image,
            question=join_question(annotation.question, options),
            options=options,
            answer_form="choice",
            target=LETTERS[order.index(0)],
            gold_boxes=annotation.gold_boxes(),
            benchmark=FACTS.name,
            category=path.parent.name,
            chance=1 / len(options),
            options_in_question=True,
        )

    samples = source.sieve.collect(paths, make, str)
    differences = find_doubles(samples)
    listed = _read_listing(source.path)
    if listed and len(listed) != len(paths):
        differences.append(f"{count_nouns(len(paths), 'annotation')}, but {LISTING} lists {len(listed):,}")
    published = f"; their published order is that of vstar:{source.path / LISTING}" if listed else ""
    notes = [f"options shuffled with seed {source.seed}: the data states the right option first{published}"]
    return Loaded(samples, FACTS, differences, notes)


def join_boxes(samples: Sequence[Sample], folder: Path) -> tuple[list[Sample], list[str]]:
    """Give samples the boxes of the original release; return them and the ids that found none.

    A sample is matched by its question; if several annotations ask the same, by the path that test_questions.jsonl
    lists for its id, and then by its options (whole sentences in some annotations). The image's size has to agree too.

    Raises:
        DataError: no original release in the folder, or a broken annotation.
    """
    paths = _find_annotations(folder)
    if not paths:
        raise DataError(f"{folder} is not the original V* folder", hint=f"it holds {', '.join(FACTS.categories)}")
    by_question: dict[str, list[_Annotation]] = defaultdict(list)
    for path in paths:
        try:
            annotation = _read_annotation(path)
        except DataError as error:
            raise DataError(f"{path}: {error.message}", hint=error.hint) from error
        by_question[_normalize(annotation.question)].append(annotation)
    listed = _read_listing(folder)
    joined: list[Sample] = []
    missing: list[str] = []
    for sample in samples:
        candidates = by_question.get(_normalize(_stem(sample.question)), [])
        listed_path = folder / listed[sample.id] if sample.id in listed else None
        candidates = _narrow(candidates, lambda found: found.image.path == listed_path)  # noqa: B023
        candidates = _narrow(candidates, lambda found: found.states(sample.options))  # noqa: B023
        size = read_size(sample.image) if candidates else (0, 0)
        candidates = [found for found in candidates if read_size(found.image) == size]
        if len(candidates) != 1:
            missing.append(sample.id)
            joined.append(sample)
        else:
            joined.append(replace(sample, gold_boxes=candidates[0].gold_boxes()))
    return joined, missing


def _from_lmms(root: Path) -> Callable[[Row], Sample]:
    def make(row: Row) -> Sample:
        row.check()
        text = _CLOSING.sub("", row.text("text")).strip()
        _, options = split_question(text, row)
        return _make(row, root, "question_id", text, options, "label")

    return make


def _from_tsv(root: Path) -> Callable[[Row], Sample]:
    def make(row: Row) -> Sample:
        row.check()
        options = read_letter_columns(row)
        text = join_question(_CLOSING.sub("", row.text("question")).strip(), options)
        return _make(row, root, "index", text, options, "answer")

    return make


def _make(row: Row, root: Path, name: str, text: str, options: tuple[str, ...], target: str) -> Sample:
    return Sample(
        id=row.key(name) if row.has(name) else str(row.number - 1),
        image=find_image(row, root, *IMAGE_COLUMNS),
        question=text,
        options=options,
        answer_form="choice",
        target=row.letter(target, options),
        benchmark=FACTS.name,
        category=row.text("category") if row.has("category") else "",
        chance=1 / len(options),
        options_in_question=True,
    )


def _find_annotations(folder: Path) -> list[Path]:
    """Find the annotations of both types, by number. Other folders (OCR, GPT4V-hard) do not belong to the benchmark."""
    paths = [path for category in FACTS.categories for path in (folder / category).glob("*.json")]
    return sorted(paths, key=lambda path: (path.parent.name, *_split_number(path.stem)))


def _split_number(stem: str) -> tuple[int, str]:
    digits = re.search(r"\d+$", stem)
    return (int(digits[0]) if digits else -1, stem)


def _read_annotation(path: Path) -> _Annotation:
    try:
        found: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise DataError("is not a JSON object")
    values = cast("dict[str, object]", found)
    row = Row(path, 1, values)
    options = tuple(str(option).strip() for option in _list(row, "options"))
    check_options(options, "options", row)
    boxes = [_read_xywh(row, box) for box in _list(row, "bbox")]
    labels = [str(label) for label in _list(row, "target_object")]
    if len(labels) != len(boxes):
        raise row.fail(
            "bbox", f"{count_nouns(len(boxes), 'box', 'boxes')} for {count_nouns(len(labels), 'target object')}"
        )
    return _Annotation(path, row.text("question"), options, tuple(labels), tuple(boxes))


def _list(row: Row, name: str) -> list[object]:
    value = row.values.get(name)
    if not isinstance(value, list):
        raise row.fail(name, "missing" if value is None else f"{excerpt(value)} is not a list")
    return cast("list[object]", value)


def _read_xywh(row: Row, box: object) -> tuple[float, float, float, float]:
    match box:
        case [int() | float() as x, int() | float() as y, int() | float() as width, int() | float() as height]:
            return (x, y, x + width, y + height)
        case _:
            raise row.fail("bbox", f"{excerpt(box)} is not [x, y, width, height] in pixels")


def _read_listing(folder: Path) -> dict[str, str]:
    """Map question_id to image path, from the optional file of questions."""
    path = folder / LISTING
    if not path.is_file():
        return {}
    rows = read_table(path).rows
    return {row.text("question_id"): row.text("image") for row in rows if row.has("question_id") and row.has("image")}


def _narrow(candidates: list[_Annotation], fits: Callable[[_Annotation], bool]) -> list[_Annotation]:
    """Keep the candidates that fit; keep all of them if none fits or there is only one."""
    return [found for found in candidates if len(candidates) == 1 or fits(found)] or candidates


def _normalize(text: str) -> str:
    return " ".join(text.casefold().split())


def _stem(question: str) -> str:
    return question.partition("\n(A)")[0]
