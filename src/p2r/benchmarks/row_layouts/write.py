"""Write samples as rows of any layout of training data; `load.py` reads them back.

Images go into the file (`inside`: bytes in parquet, data URLs elsewhere) or into a folder beside it, each once. They
are copied as they are; only images that lie in no file are written as PNG.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from p2r.benchmarks.files.image_place import ImagePlace
from p2r.benchmarks.files.write_table import check_kind, write_table
from p2r.benchmarks.layout import Part, Writer
from p2r.benchmarks.options import join_question
from p2r.benchmarks.row_layouts.layouts import KEY_WORD_COLUMNS, LAYOUTS, RowLayout
from p2r.benchmarks.row_layouts.load import FORMS
from p2r.errors import DataError
from p2r.types import Sample

_NAMES = {form: name for name, form in FORMS.items()}


def write_rows(
    layout: RowLayout,
    samples: Iterable[Sample],
    path: Path,
    *,
    inside: bool | None = None,
    key_words: bool = False,
) -> int:
    """Write samples as rows of a layout, to a file of the kind that its name tells.

    Args:
        inside: put the images into the file; by default that is done in parquet files.
        key_words: write a column of key words, in layouts that can do without one, too.

    Returns:
        The number of rows.

    Raises:
        DataError: a sample has no target, or the name tells no kind of file.
        ImageError: an image cannot be read.
        StorageError: something cannot be written.
    """
    is_parquet = check_kind(path) == ".parquet"
    inside = is_parquet if inside is None else inside
    images = ImagePlace(path, inside=inside, as_bytes=is_parquet)
    key_words = key_words or KEY_WORD_COLUMNS[0] in layout.columns
    return write_table(_make_rows(layout, samples, images, key_words), path)


def _make_rows(
    layout: RowLayout, samples: Iterable[Sample], images: ImagePlace, key_words: bool
) -> Iterator[dict[str, object]]:
    for sample in samples:
        if sample.target is None:
            raise DataError(
                f"sample {sample.id!r} has no right answer, which {layout.title} rows need",
                hint="give each question its right answer",
            )
        text = join_question(sample.question, sample.options) if _lacks_options(sample) else sample.question
        row = _make_row(layout, sample, text, images.state(sample.image, in_message=not _image_column(layout)))
        yield row | {KEY_WORD_COLUMNS[0]: list(sample.key_words)} if key_words else row


def _lacks_options(sample: Sample) -> bool:
    return bool(sample.options) and not sample.options_in_question


def _make_row(layout: RowLayout, sample: Sample, text: str, image: object) -> dict[str, object]:
    """Make a row; `text` is the question with its options, `image` what stands for the image."""
    row: dict[str, object] = {layout.id: sample.id} if "." not in layout.id else {}
    if layout.category:
        row[layout.category] = sample.category
    row[layout.question] = _state_question(layout, sample, text, image)
    if column := _image_column(layout):
        row[column] = [image] if column == "images" else image
    if "." in layout.answer:
        row |= _state_answer(layout, sample, text)
    elif layout.answer:
        row[layout.answer] = f"<answer> {sample.target} </answer>" if layout.name == "open_r1" else sample.target
    return row


def _image_column(layout: RowLayout) -> str:
    """Return the column that the image goes into; "" for the messages. ms-swift's is not needed to tell its layout."""
    return "images" if layout.name == "ms_swift" else layout.images


def _state_question(layout: RowLayout, sample: Sample, text: str, image: object) -> object:
    """Return the question as the layout's text or messages, with the answer where that is a message."""
    marked = f"<image>\n{text}"
    match layout.question:
        case "prompt":
            return [{"role": "user", "content": marked}]
        case "conversations":
            return [{"from": "human", "value": marked}, {"from": "gpt", "value": sample.target}]
        case "messages":
            parts: list[dict[str, object]] = [
                {"type": "image_url", "image_url": {"url": image}},
                {"type": "text", "text": text},
            ]
            if layout.answer:
                return [{"role": "user", "content": marked}]
            answer = [{"type": "text", "text": sample.target}]
            return [{"role": "user", "content": parts}, {"role": "assistant", "content": answer}]
        case _:
            return text if layout.name in ("open_r1", "zwz") else marked


def _state_answer(layout: RowLayout, sample: Sample, text: str) -> dict[str, object]:
    """Return the columns of P2R-10k and DeepEyes that hold the answer."""
    extra = {"index": sample.id, "split": "train", "answer": sample.target, "question": text}
    if layout.also:
        return {
            "ability": "vl",
            "env_name": "visual_toolbox_v2",
            "reward_model": {"style": "model", "ground_truth": sample.target},
            "extra_info": extra,
        }
    return {
        "reward_model": {"style": "rule", "ground_truth": sample.target},
        "extra_info": extra | {"answer_form": _NAMES[sample.answer_form]},
    }


def _find_kept(layout: RowLayout) -> frozenset[Part]:
    kept: set[Part] = {"key words"}
    if layout.category:
        kept.add("category")
    if layout.form and not layout.also:
        kept.add("answer form")
    return frozenset(kept)


ROW_WRITERS = {
    layout.name: Writer(layout.describe(), partial(write_rows, layout), keeps=_find_kept(layout), places_images=True)
    for layout in LAYOUTS
}
"""The writers of the row layouts by name."""
