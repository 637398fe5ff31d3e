"""Write samples as your own questions, with everything that a row of `folder.py` has a place for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from p2r.benchmarks.files.image_place import ImagePlace
from p2r.benchmarks.files.table_file import find_kind
from p2r.benchmarks.files.write_table import TableRow, write_table
from p2r.benchmarks.row_layouts.answer_form import read_options
from p2r.benchmarks.row_layouts.layouts import KEY_WORD_COLUMNS
from p2r.benchmarks.row_layouts.stated_options import remove_options
from p2r.choices import find_letter
from p2r.errors import DataError
from p2r.types import Sample


def write_questions(samples: Iterable[Sample], path: Path) -> int:
    """Write JSON lines, with the images in a folder beside the file. Boxes are per mille.

    Returns:
        The number of samples.

    Raises:
        DataError: the file is not to be JSON lines.
        ImageError: an image cannot be read.
        StorageError: something cannot be written.
    """
    if find_kind(path) != ".jsonl":
        raise DataError(f"{str(path)!r}: your own questions are written as JSON lines", hint="end the name in .jsonl")
    return write_table(_make_rows(samples, ImagePlace(path)), path)


def _make_rows(samples: Iterable[Sample], images: ImagePlace) -> Iterator[TableRow]:
    for sample in samples:
        yield make_row(sample, images.save(sample.image))


def make_row(sample: Sample, image: str, *, keeps_wording: bool = False) -> TableRow:
    """Make a row of a sample.

    Args:
        image: the path or address of its image.
        keeps_wording: leave options that the question states where they are, if they can be read there again, so that
            the sample is asked in the same words.

    Raises:
        DataError: it is a choice without options, or its target would be read as another one's letter.
    """
    if sample.answer_form == "choice" and not sample.options:
        raise DataError(f"sample {sample.id!r} is a choice without readable options", hint="choose another layout")
    if sample.options and sample.target is not None:
        find_letter(sample.target, sample.options)  # as it will be read
    in_question = bool(sample.options) and sample.options_in_question
    is_read_again = keeps_wording and in_question and read_options(sample.question) == sample.options
    row: dict[str, object] = {
        "image": image,
        "question": remove_options(sample.question) if in_question and not is_read_again else sample.question,
        "options": [] if is_read_again else list(sample.options),
        "answer_form": sample.answer_form,
        "target": sample.target,
        "box_frame": "per_mille" if sample.gold_boxes else None,
        "id": sample.id,
        "category": sample.category,
        "cluster": sample.cluster,
        KEY_WORD_COLUMNS[0]: list(sample.key_words),
    }
    if sample.gold_boxes or sample.nothing_there:
        row["boxes"] = [
            {"box": list(box.xyxy)} | ({"label": box.label} if box.label else {}) for box in sample.gold_boxes
        ]
    return {name: value for name, value in row.items() if value not in (None, "", []) or name == "boxes"}
