"""Your own questions: JSON lines, one object a line, beside the images.

    {"image": "a.jpg", "question": "What is on the sail?", "options": ["a star", "a fish"], "target": "B",
     "boxes": [[120, 80, 300, 240]], "box_frame": "pixels"}

Boxes are [x1, y1, x2, y2], or {"box": [...], "label": "sail"}; `box_frame` has to say whether they are "pixels" or
"per_mille", because a mistake would go unnoticed. Boxes can also come from a COCO or Label Studio file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import Field, JsonValue, ValidationError

from p2r.benchmarks.annotations.box_files import BoxFile, read_box_file
from p2r.benchmarks.annotations.gold_boxes import box_from_pixels, make_box
from p2r.benchmarks.base import Facts
from p2r.benchmarks.files.beginning import read_utf8
from p2r.benchmarks.files.field_image import make_image
from p2r.benchmarks.layout import Loaded, Source
from p2r.benchmarks.solutions import unwrap_solution
from p2r.choices import find_letter, strip_letters
from p2r.errors import DataError, count_nouns, explain_fault
from p2r.images.load import read_size
from p2r.types import LETTERS, AnswerForm, Box, Frozen, ImageSource, Sample

FACTS = Facts("folder", letters=LETTERS)
Corners = tuple[float, float, float, float]
Line = tuple[int, str]


class LabeledBox(Frozen):
    box: Corners
    label: str = ""


class QuestionRow(Frozen):
    """A line of the file.

    image: a path relative to the file, a data URL, base64, or a list or structure with one of these.
    target: the right answer, if known; for a choice, its letter or its text.
    boxes: where the evidence is; [] says that there is none to find, and nothing that it is not known.
    id: defaults to the line's number.
    cluster: shared by rows that ask the same thing; intervals are computed over clusters.
    """

    image: JsonValue
    question: str = Field(min_length=1)
    options: tuple[str, ...] = ()
    answer_form: AnswerForm | None = None
    target: str | int | float | None = None
    boxes: tuple[Corners | LabeledBox, ...] | None = None
    box_frame: Literal["pixels", "per_mille"] | None = None
    id: str | int | None = None
    category: str = ""
    cluster: str = ""


def load_folder(source: Source) -> Loaded:
    """Load JSON lines. Raises DataError for a missing file or more bad rows than allowed."""
    path = _find_file(source)
    lines = _read_lines(path)
    joined = read_box_file(source.boxes) if source.boxes else None
    samples = source.sieve.collect(
        lines, _make_reader(path, source.image_root, joined), lambda line: f"{path}, line {line[0]}"
    )
    return Loaded(samples, FACTS, joined.remarks() if joined else [], joined.notes() if joined else [])


def _find_file(source: Source) -> Path:
    path = source.path
    if path.is_file():
        return path
    if not path.is_dir():
        raise DataError(f"there is no file or folder {path}", hint="check the path and the working directory")
    files = sorted(path.glob(f"{source.split or '*'}.jsonl"))
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "none"
        raise DataError(f"{path} should hold one .jsonl file; found: {found}", hint="name the file itself")
    return files[0]


def _read_lines(path: Path) -> list[Line]:
    lines = [(number, line) for number, line in enumerate(read_utf8(path).split("\n"), start=1) if line.strip()]
    if not lines:
        raise DataError(f"{path} holds no questions", hint='a line reads like {"image": "a.jpg", "question": "..."}')
    return lines


def _make_reader(path: Path, root: Path, joined: BoxFile | None) -> Callable[[Line], Sample]:
    def read(line: Line) -> Sample:
        number, text = line
        row = _parse(text)
        image = _make_image(row, f"{path}#{number}/image", root)
        form: AnswerForm = row.answer_form or ("choice" if row.options else "free_form")
        _check_options(row, form)
        options = strip_letters(row.options)
        name = str(number if row.id is None else row.id)
        found = _find_boxes(joined, row, name, image) if joined else None
        return Sample(
            id=name,
            image=image,
            question=row.question,
            options=options,
            answer_form=form,
            target=_read_target(row, options),
            gold_boxes=_read_boxes(row, image) if found is None else found,
            benchmark=FACTS.name,
            category=row.category,
            chance=1 / len(options) if options else None,
            cluster=row.cluster,
            nothing_there=row.boxes == () and not found,
        )

    return read


def _find_boxes(joined: BoxFile, row: QuestionRow, name: str, image: ImageSource) -> tuple[Box, ...] | None:
    """Return the boxes that a file has for a row, which count before the row's own; None when it has no such image."""
    place = row.image if isinstance(row.image, str) else image.uri
    return joined.find(place, image, sample_id=name, question=row.question, replaces=bool(row.boxes))


def _make_image(row: QuestionRow, uri: str, root: Path) -> ImageSource:
    try:
        return make_image(row.image, uri, root)
    except DataError as error:
        raise DataError(f"field 'image': {error.message}", hint=error.hint) from error


def _parse(text: str) -> QuestionRow:
    try:
        return QuestionRow.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = first["loc"]
        reason = explain_fault({**first, "loc": place[1:]})
        raise DataError(
            f"field {str(place[0])!r}: {reason}" if place else f"not a JSON object: {reason}",
            hint=f"a row has the fields {', '.join(QuestionRow.model_fields)}",
        ) from error


def _check_options(row: QuestionRow, form: AnswerForm) -> None:
    if form == "choice" and len(row.options) < 2:
        raise DataError(f"field 'options': {count_nouns(len(row.options), 'option')}; a choice needs two or more")
    if form != "choice" and row.options:
        raise DataError(
            f"field 'answer_form': {form!r} with options", hint="leave the options out, or make it a choice"
        )
    stripped = [option.strip() for option in row.options]
    if "" in stripped or len(set(stripped)) < len(stripped) or len(stripped) > len(LETTERS):
        raise DataError("field 'options': one is empty or repeated, or there are more options than letters")


def _read_target(row: QuestionRow, options: tuple[str, ...]) -> str | None:
    if row.target is None:
        return None
    target = unwrap_solution(str(row.target))
    if not target:
        raise DataError("field 'target': empty", hint="leave it out when the answer is not known")
    return find_letter(target, options) if options else target


def _read_boxes(row: QuestionRow, image: ImageSource) -> tuple[Box, ...]:
    if not row.boxes:
        return ()
    if row.box_frame is None:
        raise DataError(
            "field 'box_frame': missing", hint='boxes need "box_frame": "pixels" or "box_frame": "per_mille"'
        )
    named = [item if isinstance(item, LabeledBox) else LabeledBox(box=item) for item in row.boxes]
    try:
        if row.box_frame == "per_mille":
            return tuple(make_box(item.box, item.label) for item in named)
        image_wh = read_size(image)
        return tuple(box_from_pixels(item.box, image_wh, item.label) for item in named)
    except DataError as error:
        raise DataError(f"field 'boxes': {error.message}", hint=error.hint) from error
