"""Read what `p2r ask` is pointed at: one image, a folder of images, or a JSON-lines file of questions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from p2r.api import make_sample
from p2r.errors import DataError, explain_fault
from p2r.types import AnswerForm, Frozen, Sample

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".jp2", ".avif", ".ppm", ".pgm"}
)


class QuestionLine(Frozen):
    """A line of a questions file.

    image: a path, relative to the file.
    target: the right answer, if known; for a choice the letter or the text of an option.
    id: the number of the line by default.
    """

    image: str
    question: str
    options: tuple[str, ...] = ()
    id: str | int | None = None
    target: str | int | float | None = None
    answer_form: AnswerForm | None = None


def is_batch(image: Path) -> bool:
    """Tell whether a path holds many questions: a file of questions or a folder of images."""
    return image.suffix.lower() in (".jsonl", ".ndjson") or image.is_dir()


def read_folder(
    folder: Path, question: str, options: Sequence[str], answer_form: AnswerForm | None, max_image_pixels: int
) -> list[Sample]:
    """Make a sample for each image in the folder itself, in order of their names. Raises DataError without images."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    if not paths:
        raise DataError(f"the folder {folder} holds no images", hint=f"looked for {', '.join(sorted(IMAGE_SUFFIXES))}")
    return [
        make_sample(
            path,
            question,
            options=options,
            answer_form=answer_form,
            id=path.name,
            max_image_pixels=max_image_pixels,
        )
        for path in paths
    ]


def read_rows(path: Path, max_image_pixels: int) -> list[Sample]:
    """Make a sample for each line.

    Raises:
        DataError: there is no such file, it has no rows, a line is not a row, or an id comes twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}", hint="check the path and the working directory") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} cannot be read: {error}", hint="it should be text in UTF-8, one JSON object a line"
        ) from error
    samples: dict[str, Sample] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            sample = _read_row(path, number, line, max_image_pixels)
            if sample.id in samples:
                raise DataError(
                    f"line {number} of {path}: the id {sample.id!r} was used before", hint="ids must differ"
                )
            samples[sample.id] = sample
    if not samples:
        raise DataError(f"{path} holds no questions", hint='a line reads like {"image": "a.jpg", "question": "..."}')
    return list(samples.values())


def _read_row(path: Path, number: int, line: str, max_image_pixels: int) -> Sample:
    try:
        row = QuestionLine.model_validate_json(line)
    except ValidationError as error:
        raise DataError(
            f"line {number} of {path}: {explain_fault(error.errors()[0])}",
            hint=f"a row has the keys {', '.join(QuestionLine.model_fields)}; image and question are needed",
        ) from error
    try:
        return make_sample(
            path.parent / row.image,
            row.question,
            options=row.options,
            answer_form=row.answer_form,
            target=None if row.target is None else str(row.target),
            id=str(number if row.id is None else row.id),
            max_image_pixels=max_image_pixels,
        )
    except DataError as error:
        raise DataError(f"line {number} of {path}: {error.message}", hint=error.hint) from error
