"""Write a benchmark in another layout: the writers by name, and what a layout has no place for."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from p2r.benchmarks.annotations.box_files import write_coco, write_label_studio
from p2r.benchmarks.files.image_place import ImagePlace
from p2r.benchmarks.folder_write import write_questions
from p2r.benchmarks.layout import Part, Writer, WriteSamples
from p2r.benchmarks.reasonseg_write import write_reasonseg
from p2r.benchmarks.row_layouts.answer_form import infer_form
from p2r.benchmarks.row_layouts.write import ROW_WRITERS
from p2r.benchmarks.vstar_write import write_vstar, write_vstar_lmms, write_vstar_tsv
from p2r.errors import DataError, count_nouns
from p2r.files import explain_write_errors
from p2r.images.load import FileImage
from p2r.types import Sample

_ALL = frozenset[Part]({"gold boxes", "category", "answer form", "rotations", "key words"})


def _write_alone(write: Callable[[Iterable[Sample], Path], int]) -> WriteSamples:
    """Make a writer of one that has its own place for images."""

    def write_samples(
        samples: Iterable[Sample], path: Path, /, *, inside: bool | None = None, key_words: bool = False
    ) -> int:
        return write(samples, path)

    return write_samples


def _write_boxes(write: Callable[[Iterable[Sample], Path], int]) -> WriteSamples:
    """Make a writer of one that names images: those that lie in no file are written beside the boxes."""

    def write_samples(
        samples: Iterable[Sample], path: Path, /, *, inside: bool | None = None, key_words: bool = False
    ) -> int:
        images = ImagePlace(path)
        settled = [
            sample
            if isinstance(sample.image, FileImage)
            else replace(sample, image=FileImage(path.parent / images.save(sample.image)))
            for sample in samples
        ]
        with explain_write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write(settled, path)
        return len(settled)

    return write_samples


WRITERS: Mapping[str, Writer] = {
    **ROW_WRITERS,
    "questions": Writer("your own questions (JSON lines)", _write_alone(write_questions), keeps=_ALL),
    "vstar": Writer(
        "V*'s original folder",
        _write_alone(write_vstar),
        keeps=frozenset({"gold boxes", "category", "answer form"}),
        only_choices=True,
    ),
    "vstar_lmms": Writer(
        "V*'s parquet file for lmms-eval",
        _write_alone(write_vstar_lmms),
        keeps=frozenset({"category", "answer form"}),
        only_choices=True,
    ),
    "vstar_tsv": Writer(
        "V*'s TSV file for VLMEvalKit",
        _write_alone(write_vstar_tsv),
        keeps=frozenset({"category", "answer form"}),
        only_choices=True,
    ),
    "reasonseg": Writer(
        "ReasonSeg's original folder, without answers",
        _write_alone(write_reasonseg),
        keeps=frozenset({"gold boxes", "answer form"}),
    ),
    "coco": Writer("COCO boxes, without the questions", _write_boxes(write_coco), keeps=_ALL),
    "label_studio": Writer(
        "Label Studio tasks, with boxes and questions", _write_boxes(write_label_studio), keeps=_ALL
    ),
}
"""The layouts that can be written, by name."""


@dataclass(frozen=True, slots=True)
class Converted:
    """A report of what was written.

    title: the layout, for messages.
    losses: what the layout has no place for, in parts of sentences; () when all was kept.
    """

    title: str
    num_samples: int
    losses: tuple[str, ...]


def convert(
    samples: Sequence[Sample],
    out: str | Path,
    to: str,
    *,
    inside: bool | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Converted:
    """Write samples to `out` in another layout.

    Args:
        to: the name of a layout in `WRITERS`.
        inside: put the images into the file, or beside it; None is the layout's own way.
        on_progress: called with the number of samples written so far.

    Raises:
        DataError: `to` is not a layout, `out` exists, there are no samples, or a sample does not fit the layout.
        ImageError: an image cannot be read.
        StorageError: something cannot be written.
    """
    out = Path(out).expanduser()
    writer = WRITERS.get(to)
    if writer is None:
        raise DataError(f"{to!r} is not a layout that can be written", hint=f"give one of {', '.join(WRITERS)}")
    if inside is not None and not writer.places_images:
        raise DataError(f"{writer.title}: images have only one place", hint="leave out `inside`")
    if out.exists():
        raise DataError(f"{out} exists already", hint="choose another name, or remove it first")
    if not samples:
        raise DataError("there are no samples to write")
    images = ImagePlace(out).folder
    had_images = images.exists()
    try:
        has_key_words = any(sample.key_words for sample in samples)
        num_samples = writer.write(_count(samples, on_progress), out, inside=inside, key_words=has_key_words)
    except BaseException:
        if not had_images:
            shutil.rmtree(images, ignore_errors=True)
        raise
    return Converted(writer.title, num_samples, tuple(_find_losses(samples, writer)))


def _count(samples: Sequence[Sample], on_progress: Callable[[int], None] | None) -> Iterator[Sample]:
    for number, sample in enumerate(samples, start=1):
        yield sample
        if on_progress is not None:
            on_progress(number)


def _find_losses(samples: Sequence[Sample], writer: Writer) -> Iterator[str]:
    if "gold boxes" not in writer.keeps and (count := sum(bool(sample.gold_boxes) for sample in samples)):
        yield f"the gold boxes of {count_nouns(count, 'sample')}"
    if "category" not in writer.keeps and (count := sum(bool(sample.category) for sample in samples)):
        yield f"the category of {count_nouns(count, 'sample')}"
    if "rotations" not in writer.keeps and (count := sum(bool(sample.cluster) for sample in samples)):
        yield f"which of {count_nouns(count, 'sample')} ask the same"
    if "key words" not in writer.keeps and (count := sum(bool(sample.key_words) for sample in samples)):
        yield f"the key words of {count_nouns(count, 'sample')}"
    if count := sum(sample.crop is not None for sample in samples):
        yield f"the paired crops of {count_nouns(count, 'sample')}"
    if "answer form" not in writer.keeps:
        others = [sample.id for sample in samples if not _is_inferred(sample)]
        if others:
            named = f"{'id' if len(others) == 1 else 'ids'} {', '.join(others[:5])}{', ...' if len(others) > 5 else ''}"
            yield f"the answer form of {count_nouns(len(others), 'sample')}, which readers take for another: {named}"


def _is_inferred(sample: Sample) -> bool:
    """Tell whether a reader would infer the answer form of a sample."""
    options = () if sample.options_in_question else sample.options
    return infer_form(sample.question, sample.target or "", options).form == sample.answer_form
